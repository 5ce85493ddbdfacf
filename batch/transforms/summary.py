"""Counts of rows, and whether they add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from serve_app.errors import BadRequestError
from serve_app.jobs.core.record import JobRows

MIN_ROWS: Final = 10_000
"""A share of rejected rows is judged from here on, or at the end."""


def measure_rate(summary: Mapping[str, Any]) -> float:
    """Return the rows a second that a run scored by its summary, start-up apart; 0 when it scored none."""
    passed_s = measure_span_s(summary)
    return float(summary["rows_this_run"] / passed_s) if passed_s > 0 else 0.0


def measure_span_s(summary: Mapping[str, Any]) -> float:
    """Return how long a run scored by its summary, seconds; 0 when it scored nothing."""
    if "scored_from" not in summary:
        return 0.0
    start, end = (datetime.fromisoformat(summary[name]) for name in ("scored_from", "scored_until"))
    return (end - start).total_seconds()


def write_time(at_s: float) -> str:
    """Return seconds since the epoch as ISO 8601 in UTC."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True)
class RejectLimit:
    """How many rejected rows a job may have.

    Attributes
    ----------
    rows : int or None
        Most rejected rows.
    share : float or None
        Largest share of the rows read, 0-1.
    """

    rows: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> RejectLimit:
        """Parse ``1000`` or ``2%``; raises BadRequestError."""
        try:
            limit = cls(share=float(text[:-1]) / 100) if text.endswith("%") else cls(rows=int(text))
        except ValueError:
            limit = cls(rows=-1)
        if (limit.rows or 0) < 0 or not 0 <= (limit.share or 0) <= 1:
            raise BadRequestError(f"--max-rejected {text}: give a number of rows (1000) or a share (2%)")
        return limit

    def is_broken(self, counts: JobRows, *, is_end: bool) -> bool:
        """Whether a job with these counts must stop; a share is judged from `MIN_ROWS` rows on."""
        if self.rows is not None:
            return counts.rejected > self.rows
        if self.share is None or (counts.read < MIN_ROWS and not is_end):
            return False
        return counts.rejected > self.share * counts.read

    def __str__(self) -> str:
        return f"{self.rows:,} rows" if self.rows is not None else f"{100 * (self.share or 0):g} % of the rows"
