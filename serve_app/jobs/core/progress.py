"""How far a job is, and when it will be done."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

WINDOW_S: Final = 15.0
"""The rate is that of the last seconds: start-up and pauses do not spoil the time left for ever."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is.

    Attributes
    ----------
    rows : int
        Rows done, those of earlier runs included.
    rows_total : int or None
        Rows of the input; None when only reading tells.
    rejected : int
    share : float
        What is done, 0-1; by bytes of the input when the rows are not known.
    rows_per_s : float
        Over the last seconds.
    left_s : float or None
    """

    rows: int
    rows_total: int | None
    rejected: int
    share: float
    rows_per_s: float
    left_s: float | None

    def __str__(self) -> str:
        return self.describe()

    def describe(self, *, with_share: bool = True) -> str:
        """Return the progress in a line; the share is left out where a bar shows it."""
        left = "" if self.left_s is None else f" · {format_duration(self.left_s)} left"
        total = "" if self.rows_total is None else f" of {self.rows_total:,}"
        share = f"{100 * self.share:.0f} % · " if with_share else ""
        return f"{self.rows:,}{total} rows · {share}{self.rows_per_s:,.0f} rows/s{left} · {self.rejected:,} rejected"


@dataclass
class RateMeter:
    """Turns counts at times into a rate.

    Attributes
    ----------
    rows_total : int or None
    """

    rows_total: int | None
    _seen: deque[tuple[float, float, int]] = field(default_factory=deque)

    def measure(self, now_s: float, rows: int, rejected: int, share: float) -> Progress:
        """Return the progress after `rows` rows at the time `now_s`; `share` counts when no total is known."""
        if self.rows_total:
            share = min(1.0, rows / self.rows_total)
        self._seen.append((now_s, share, rows))
        while self._seen[0][0] < now_s - WINDOW_S:
            self._seen.popleft()
        then_s, share_then, rows_then = self._seen[0]
        passed_s = now_s - then_s
        rate = max(0, rows - rows_then) / passed_s if passed_s else 0.0
        speed = max(0.0, share - share_then) / passed_s if passed_s else 0.0
        return Progress(rows, self.rows_total, rejected, share, rate, (1 - share) / speed if speed else None)


def format_duration(seconds: float) -> str:
    """Return ``12 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004
        return f"{whole} s"
    if whole < 3600:  # noqa: PLR2004
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
