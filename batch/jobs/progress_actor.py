"""Where workers show how far they are, between the commits."""

from __future__ import annotations

from serve_app.jobs.core.record import JobRows


class ProgressActor:
    """An actor of the job; the driver reads it twice a second."""

    def __init__(self) -> None:
        self._counts: dict[int, JobRows] = {}
        self._workers: list[tuple[str, int]] = []

    def greet(self, host: str, pid: int) -> None:
        """Note that a worker has started."""
        self._workers.append((host, pid))

    def show(self, unit: int, counts: JobRows) -> None:
        """Note how many rows of a unit are done, committed or not."""
        self._counts[unit] = counts

    def read(self) -> tuple[list[tuple[str, int]], dict[int, JobRows]]:
        """Return host and process of the workers that were started, and the rows of each unit that was worked on."""
        return list(self._workers), dict(self._counts)
