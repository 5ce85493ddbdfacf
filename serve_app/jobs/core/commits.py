"""Which rows of a job are in its output, and whether they add up."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from serve_app.errors import InvariantError
from serve_app.jobs.core.record import JobRows
from serve_app.jobs.core.units import Unit

NOT_REACHED: Final = "not reached"


@dataclass(frozen=True, slots=True)
class PartFile:
    """A file of the output."""

    path: str
    rows: int


@dataclass(frozen=True, slots=True)
class Commit:
    """The record that a chunk of a unit is in the output, whole.

    Attributes
    ----------
    unit, chunk : int
        Which unit, and which piece of it, from 0.
    counts : JobRows
        Rows of the chunk.
    files : tuple of PartFile
        Scored rows.
    rejected_file : PartFile or None
        Rejected rows.
    is_last : bool
        Whether the unit ends with this chunk.
    reasons : mapping of str to int
        Rejected rows by reason.
    new_members : tuple of str
        Members of JSON lines that are in no output, as they came after the first lines.
    """

    unit: int
    chunk: int
    counts: JobRows
    files: tuple[PartFile, ...] = ()
    rejected_file: PartFile | None = None
    is_last: bool = True
    reasons: Mapping[str, int] = field(default_factory=dict)
    new_members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SetAside:
    """A unit whose rows could not be read: the job goes on without it, and says so."""

    unit: int
    path: str
    reason: str
    n_rows: int | None = None


@dataclass
class UnitTally:
    """What is known of a job's units.

    Attributes
    ----------
    units : list of Unit
        The plan.
    commits : dict of int to list of Commit
        By unit.
    set_aside : dict of int to SetAside
    failed : dict of int to str
        Why a unit was given up; a resumed job tries it again.
    """

    units: list[Unit]
    commits: dict[int, list[Commit]] = field(default_factory=dict)
    set_aside: dict[int, SetAside] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)

    def add(self, commits: Iterable[Commit]) -> None:
        """Take the commits of a unit, in place of those known before."""
        for commit in commits:
            known = self.commits.setdefault(commit.unit, [])
            known[:] = sorted([c for c in known if c.chunk != commit.chunk] + [commit], key=lambda c: c.chunk)

    def is_done(self, unit: int) -> bool:
        """Whether every chunk of a unit is in the output."""
        chunks = self.commits.get(unit, [])
        return bool(chunks) and chunks[-1].is_last and [c.chunk for c in chunks] == list(range(len(chunks)))

    @property
    def open_units(self) -> list[Unit]:
        """Units that are not wholly in the output."""
        return [unit for unit in self.units if not self.is_done(unit.number)]

    @property
    def counts(self) -> JobRows:
        """Rows of all commits."""
        return sum((c.counts for chunks in self.commits.values() for c in chunks), JobRows())

    @property
    def reasons(self) -> dict[str, int]:
        """Rejected rows of all commits by reason, the most frequent first."""
        total: Counter[str] = Counter()
        for commits in self.commits.values():
            for commit in commits:
                total.update(commit.reasons)
        return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))

    @property
    def rows_planned(self) -> int | None:
        """Rows of all units; None when only reading tells."""
        rows = [unit.n_rows for unit in self.units]
        return None if None in rows else sum(n or 0 for n in rows)

    @property
    def share(self) -> float:
        """What is in the output, 0-1; by the bytes of whole units when the rows are not known."""
        if not self.open_units:
            return 1.0
        if planned := self.rows_planned:
            return min(1.0, self.counts.read / planned)
        sizes = {unit.number: unit.n_bytes for unit in self.units}
        return sum(size for number, size in sizes.items() if self.is_done(number)) / max(1, sum(sizes.values()))

    def to_summary(self) -> dict[str, Any]:
        """Return what ``_SUMMARY.json`` says of rows and files.

        Raises
        ------
        InvariantError
            The counts do not add up.
        """
        counts = self.counts
        expected = self.rows_planned
        if not counts.is_balanced:
            raise InvariantError(
                f"rows do not add up: {counts.read} read, {counts.scored} scored and {counts.rejected} rejected"
            )
        is_complete = not self.open_units
        if is_complete and expected is not None and expected != counts.read:
            raise InvariantError(f"rows do not add up: {expected} planned, {counts.read} read")
        new = sorted({name for chunks in self.commits.values() for c in chunks for name in c.new_members})
        missing = [u.number for u in self.open_units if u.number not in self.set_aside]
        return {
            "is_complete": is_complete,
            "share": round(self.share, 4),
            "rows_planned": expected,
            "rows_read": counts.read,
            "rows_scored": counts.scored,
            "rows_rejected": counts.rejected,
            "rejected_by_reason": self.reasons,
            **({"members_not_read": new} if new else {}),
            "units": len(self.units),
            "units_done": len(self.units) - len(self.open_units),
            "set_aside": [dataclasses.asdict(s) for _, s in sorted(self.set_aside.items()) if not self.is_done(s.unit)],
            "missing": [
                {"unit": n, "path": self.units[n].path, "reason": self.failed.get(n, NOT_REACHED)} for n in missing
            ],
        }
