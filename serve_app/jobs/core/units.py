"""How the input of a batch job is cut into units of work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

UNIT_ROWS: Final = 1 << 20
"""Rows of a unit, about: a second of work, so that little is lost with a worker and progress is smooth."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of the input.

    Attributes
    ----------
    path : str
        As it is opened.
    n_bytes : int
        Size on disk.
    modified_ns : int
        When it was last written; with the size it tells whether a file is still the same one.
    group_rows : tuple of int or None
        Rows of each row group of a Parquet file; None for a file that only reading tells the rows of.
    given : dict of str to str or None
        Columns that its folders give it, unless it has them itself; null where only folders of others do.
    """

    path: str
    n_bytes: int
    modified_ns: int
    group_rows: tuple[int, ...] | None = None
    given: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows that are read by one worker, one after the other.

    Attributes
    ----------
    number : int
        Place in the plan, from 0; names the unit's parts.
    path : str
        File it is read from.
    n_bytes, modified_ns : int
        Of the file when the job was planned.
    first_group, n_groups : int or None
        Row groups of a Parquet file; None for a whole file.
    first_row : int
        Index in the file of the unit's first row.
    n_rows : int or None
        Rows of the unit; None when only reading tells.
    given : dict of str to str or None
        As of its file.
    """

    number: int
    path: str
    n_bytes: int
    modified_ns: int
    first_group: int | None = None
    n_groups: int | None = None
    first_row: int = 0
    n_rows: int | None = None
    given: dict[str, str | None] = field(default_factory=dict)


def plan_units(files: Sequence[InputFile], unit_rows: int = UNIT_ROWS) -> list[Unit]:
    """Cut files into units: runs of row groups of about `unit_rows` rows, or whole files.

    A row group is never cut, so a file of one large row group is one unit. Files without rows have none.
    """
    units: list[Unit] = []

    def add(file: InputFile, **place: Any) -> None:
        units.append(Unit(len(units), file.path, file.n_bytes, file.modified_ns, given=file.given, **place))

    for file in files:
        if file.group_rows is None:
            add(file)
            continue
        first, n_rows, first_row = 0, 0, 0
        for group, rows in enumerate(file.group_rows):
            n_rows += rows
            is_last = group == len(file.group_rows) - 1
            if n_rows and (is_last or n_rows + file.group_rows[group + 1] > unit_rows):
                add(file, first_group=first, n_groups=group + 1 - first, first_row=first_row, n_rows=n_rows)
                first, n_rows, first_row = group + 1, 0, first_row + n_rows
    return units


def name_part(unit: int, chunk: int) -> str:
    """Return the name of a part, the same whoever writes it and however often."""
    return f"part-{unit:06d}-{chunk:04d}"
