"""Where workers show how far they are, between the commits."""

from __future__ import annotations

from batch.transforms.summary import Counts


class Board:
    """An actor of the job; the driver reads it twice a second."""

    def __init__(self) -> None:
        self._counts: dict[int, Counts] = {}
        self._n_workers = 0

    def greet(self) -> None:
        """Note that a worker has started."""
        self._n_workers += 1

    def show(self, unit: int, counts: Counts) -> None:
        """Note how many rows of a unit are done, committed or not."""
        self._counts[unit] = counts

    def read(self) -> tuple[int, dict[int, Counts]]:
        """Return how many workers were started, and the rows of each unit that was worked on."""
        return self._n_workers, dict(self._counts)
