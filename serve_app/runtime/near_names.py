"""Which known name is most like one that is unknown: for the words of a refusal, which may guess.

Where a guess would change a score, `serve_app.features.core.near_names` decides.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Collection, Iterable
from itertools import chain
from typing import Any, Final

from serve_app.errors import MAX_POINTED
from serve_app.runtime.shown_values import show

MAX_COMPARED: Final = 64
"""Characters of a name that are compared: a longer one is no slip."""
MIN_EDITED: Final = 4
"""Characters of the shortest names between which one edit may be a slip: of `age` and `agi` nobody knows."""
SIMILAR: Final = 0.8
"""How alike a name must be to be suggested: names of features are much alike."""
LOOSE: Final = 0.6
"""The same where somebody wrote the name for the one that is looked for, and a wrong guess costs a look."""

_KEPT: Final = frozenset("LMN")
"""Letters, marks (which are the vowels of some scripts) and numbers, by Unicode category."""


def find_similar(name: str, known: Collection[str], cutoff: float = SIMILAR) -> str | None:
    """Return the known name that is most like `name`, a misspelling or not, or None."""
    return pair_slips([name], known).get(name) or next(iter(difflib.get_close_matches(name, known, 1, cutoff)), None)


def hint_similar(name: str, known: Collection[str], cutoff: float = SIMILAR) -> str:
    """Return, for the end of a refusal, the known name that is most like `name`; nothing when none is."""
    near = find_similar(name, known, cutoff)
    return f" (did you mean {near}?)" if near else ""


def say_unknown(name: Any, known: Collection[str], read_as: str | None = None) -> str:
    """Return that a member is unknown, named when it is too long for the pointer to repeat, and which may be meant.

    What is known is compared with `read_as`, or with the name as it was given.
    """
    is_long = isinstance(name, str) and len(name) > MAX_POINTED
    near = find_similar((read_as or str(name))[:MAX_COMPARED], known, LOOSE)
    hint = f"did you mean {near}?" if near else f"known: {', '.join(known)}"
    return f"{show(name)} is unknown; {hint}" if is_long else f"unknown; {hint}"


def pair_slips(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Return by name the first known one from which case, punctuation or one edit sets it apart."""
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
