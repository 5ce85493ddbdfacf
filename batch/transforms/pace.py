"""How many calls a worker keeps under way: as many as shorten the job, no more than the replicas take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

SLACK: Final = 1.6
"""Calls take longer than the quickest by this factor before fewer are sent. With a queue of one call
behind each that is served, a call takes twice its own time."""
FORGET: Final = 1.01
"""The quickest time is forgotten slowly, so that a lasting change of the deployment becomes the new measure."""


@dataclass
class Pace:
    """Calls under way, after TCP Vegas: a growing time of a call means that calls queue.

    Parameters
    ----------
    most : int
        Bound of the limit.
    """

    most: int = 4
    limit: float = field(default=0.0)
    _quickest_s: float = field(default=float("inf"))

    def __post_init__(self) -> None:
        self.limit = self.limit or float(min(self.most, 2))

    @property
    def n_calls(self) -> int:
        """Calls that may be under way now."""
        return int(self.limit)

    def note_answer(self, duration_s: float, n_rows: int) -> None:
        """Learn from a call that was answered."""
        per_row_s = duration_s / max(n_rows, 1)
        self._quickest_s = min(self._quickest_s * FORGET, per_row_s)
        queued = self.limit * (1 - self._quickest_s / per_row_s) if per_row_s else 0.0
        step = 1 / max(self.limit, 1.0)
        if queued < self.limit * (1 - 1 / SLACK):
            self.limit = min(float(self.most), self.limit + step)
        else:
            self.limit = max(1.0, self.limit - step)

    def note_refusal(self) -> None:
        """Learn from a call that was refused or lost: half as many."""
        self.limit = max(1.0, self.limit / 2)
