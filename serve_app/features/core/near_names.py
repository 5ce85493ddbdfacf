"""Which known name was meant by one that is unknown, where that would change a score without a word: it is refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from serve_app.features.core.row_keys import KEY_NAMES, PUBLISHED_COLUMNS
from serve_app.runtime.near_names import pair_slips

OF_THE_LOG: Final = frozenset({*PUBLISHED_COLUMNS, *KEY_NAMES})
"""Columns that tables of a shop have anyway: none of them is a misspelling."""


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
    return pair_slips(foreign, known) if foreign else {}
