"""Which known name was meant by one that is unknown.

`pair_near` decides: what it finds is refused where it would change a score without a word. `find_similar` only words
what is refused anyway, and finds more.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final

from serve_app.features.core.row_keys import KEY_NAMES, PUBLISHED_COLUMNS

MIN_EDITED: Final = 4
"""Characters of the shortest names between which one edit may be a slip: of `age` and `agi` nobody knows."""
OF_THE_LOG: Final = frozenset({*PUBLISHED_COLUMNS, *KEY_NAMES})
"""Columns that tables of a shop have anyway: none of them is a misspelling."""
SIMILAR: Final = 0.8
"""How alike a name must be to be suggested: names of features are much alike."""
LOOSE: Final = 0.6
"""The same where somebody wrote the name for the one that is looked for, and a wrong guess costs a look."""

_KEPT: Final = frozenset("LMN")
"""Letters, marks (which are the vowels of some scripts) and numbers, by Unicode category."""


def find_near(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` is a misspelling of, or None, see `pair_near`."""
    return pair_near([name], known).get(name)


def pair_near(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Return by name the first known one that it is a misspelling of, where there is one.

    Two names are near when they are equal apart from case and punctuation, or when they have four characters or more
    and one is the other with a character inserted, left out or replaced, or two neighbours swapped, and it is not by
    digits alone: `feature_1` and `feature_2` are two features. A name of `OF_THE_LOG` is near to none.
    """
    foreign = [name for name in names if name not in OF_THE_LOG]
    return _pair(foreign, known) if foreign else {}


def _pair(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    plain: dict[str, str] = {}
    by_length: dict[int, list[str]] = {}
    for other in known:
        plain.setdefault(_strip(other), other)
        by_length.setdefault(len(other), []).append(other)
    plain.pop("", None)
    found = {}
    for name in names:
        near = chain.from_iterable(by_length.get(len(name) + step, ()) for step in (0, 1, -1))
        meant = plain.get(_strip(name)) or next((other for other in near if is_one_edit(name, other)), None)
        if meant is not None:
            found[name] = meant
    return found


def find_similar(name: str, known: Sequence[str], cutoff: float = SIMILAR) -> str | None:
    """Return the known name that is most like `name`, a misspelling or not, or None."""
    return _pair([name], known).get(name) or next(iter(difflib.get_close_matches(name, known, 1, cutoff)), None)


def is_one_edit(one: str, other: str) -> bool:
    """Return whether one slip that is not by digits alone makes one name of the other, both long enough to tell."""
    if min(len(one), len(other)) < MIN_EDITED or abs(len(one) - len(other)) > 1 or one == other:
        return False
    start = next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    one, other = one[start:], other[start:]
    if len(one) != len(other):
        longer, shorter = (one, other) if len(one) > len(other) else (other, one)
        return longer[1:] == shorter and not longer[0].isdigit()
    if one[1:] == other[1:]:
        changed = one[0] + other[0]
    elif one[:2] == other[1::-1] and one[2:] == other[2:]:
        changed = one[:2]
    else:
        return False
    return not changed.isdigit()


def _strip(name: str) -> str:
    """Return what is left of a name without case and punctuation; nothing of one that is all punctuation."""
    folded = unicodedata.normalize("NFC", name).casefold()
    if folded.isascii():
        return "".join(filter(str.isalnum, folded))
    return "".join(c for c in folded if unicodedata.category(c)[0] in _KEPT)
