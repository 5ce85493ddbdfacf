"""Notices when somebody sets the wall clock, so that no duration is measured by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

SMALLEST_S: Final = 2.0
"""Corrections below this are left alone: no duration here minds them."""


class ClockJumps:
    """Compares a wall clock with one that only grows.

    Parameters
    ----------
    clock, steady : callable
        Seconds since the epoch; seconds that nobody can set.
    """

    def __init__(self, clock: Callable[[], float], steady: Callable[[], float]) -> None:
        self._clock = clock
        self._steady = steady
        self._offset_s = clock() - steady()

    def take(self) -> float:
        """Return by how many seconds the wall clock was set since the last time; 0 when it was not."""
        offset_s = self._clock() - self._steady()
        jump_s = offset_s - self._offset_s
        self._offset_s = offset_s
        return jump_s if abs(jump_s) >= SMALLEST_S else 0.0
