"""Columns for a reader: whole words, whatever the width of the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

GAP: Final = 2
LEAST_NAME: Final = 16
"""What is longer than its place allows, paths say, keeps its beginning and its end, at least so many characters."""


def align(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the rows with every cell as wide as its column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [[text.ljust(width) for text, width in zip(row, widths, strict=True)] for row in rows]


def measure(rows: Sequence[Sequence[str]]) -> int:
    """Return the width of the aligned rows, characters."""
    return sum(max(map(len, column)) + GAP for column in zip(*rows, strict=True)) - GAP


def fold(rows: Sequence[Sequence[str]], width: int) -> list[list[list[str]]]:
    """Fold cells between words so that the rows fit a width.

    Parameters
    ----------
    rows : sequence of rows of str
    width : int
        Characters for all columns and the gaps between them.

    Returns
    -------
    list of rows, each a list of lines, each a list of cells as wide as their column. Words are whole; only where
    the longest words alone are too wide, those of the widest column are shortened in the middle.
    """
    room = width - GAP * (len(rows[0]) - 1)
    columns = [list(column) for column in zip(*rows, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    least = [_longest_word(column) for column in columns]
    while sum(least) > room and max(least) > LEAST_NAME:
        k = least.index(max(least))
        least[k] = max(LEAST_NAME, least[k] - (sum(least) - room))
        columns[k] = [_shorten_words(text, least[k]) for text in columns[k]]
    while sum(widths) > room and any(w > m for w, m in zip(widths, least, strict=True)):
        k = max(range(len(widths)), key=lambda k: widths[k] - least[k])
        widths[k] -= 1
    folded = [[_wrap(text, w) for text, w in zip(row, widths, strict=True)] for row in zip(*columns, strict=True)]
    return [
        [[text.ljust(w) for text, w in zip(line, widths, strict=True)] for line in zip_longest(*cells, fillvalue="")]
        for cells in folded
    ]


def name_cells(names: Sequence[str], cells: Sequence[str], width: int) -> str:
    """Return cells in one text, each after its name; words wider than `width` are shortened in the middle."""
    return " · ".join(_shorten_words(f"{name} {cell}", width) for name, cell in zip(names, cells, strict=True) if cell)


def shorten(name: str, width: int) -> str:
    """Return a name in `width` characters: its beginning and, as names differ there, more of its end."""
    if len(name) <= width:
        return name
    n_first = (width - 1) // 3
    return f"{name[:n_first]}…{name[len(name) - (width - 1 - n_first) :]}"


def _shorten_words(text: str, width: int) -> str:
    return " ".join(shorten(word, width) for word in text.split(" "))


def _longest_word(column: Sequence[str]) -> int:
    return max((len(word) for text in column for word in text.split(" ")), default=0)


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(1, width), break_long_words=False, break_on_hyphens=False) or [""]
