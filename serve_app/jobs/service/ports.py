"""What batch jobs need from outside, as protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from serve_app.jobs.core.record import JobOrder, JobRecord, JobRuling, PoolWish
from serve_app.jobs.core.spec import JobSpec
from serve_app.scoring.service.ports import AppState


class JobStore(Protocol):
    """The records of jobs; they outlive every process."""

    def create(self, order: JobOrder) -> None:
        """Begin a record; does nothing when there is one."""
        ...

    def all(self) -> list[JobRecord]:
        """Return every record, oldest first."""
        ...

    def find(self, job_id: str) -> JobRecord:
        """Return a record; raises NotFoundError."""
        ...

    def rule(self, job_id: str, ruling: JobRuling) -> None:
        """Replace what was decided of a job."""
        ...

    def save_mapping(self, job_id: str, mapping: Mapping[str, Any]) -> str:
        """Keep a mapping beside the record and return its path."""
        ...

    def remove(self, job_id: str) -> None:
        """Remove a record, and the output that belongs to it."""
        ...

    def place_output(self, job_id: str) -> str:
        """Return where the output of a job goes that names none."""
        ...

    def results(self, job_id: str) -> dict[str, int]:
        """Return the bytes of each file of a job's own output, by its path below that."""
        ...

    def find_result(self, job_id: str, name: str) -> Path:
        """Return where a file of a job's own output is; raises NotFoundError for everything else."""
        ...


class JobRunner(Protocol):
    """Starts drivers on the cluster."""

    def submit(self, job_id: str, arguments: Sequence[str]) -> None:
        """Start a driver of `batch.score`; does nothing when the job was submitted before.

        Raises
        ------
        NotReadyError
            The cluster takes no job now.
        """
        ...

    def stop(self, job_id: str) -> None:
        """End a job's process when it lives."""
        ...

    def explain_end(self, job_id: str) -> str | None:
        """Return why a job's process is over; None while it is not."""
        ...


class PoolApps(Protocol):
    """The applications that belong to one job each."""

    def states(self) -> dict[str, AppState]:
        """Return the state of each by name."""
        ...

    def create(self, wish: PoolWish) -> None:
        """Begin to start one; raises ScorecatError when that cannot be."""
        ...

    def delete(self, app: str) -> None:
        """Begin to remove one."""
        ...


class JobMeter:
    """Counts what jobs do; must never raise. This one keeps nothing."""

    def count_rows(self, model: str, version: int, kind: str, n: int) -> None:
        """Count rows that were scored or rejected."""

    def count_ended(self, kind: str) -> None:
        """Count a job that ended, by its state."""

    def set_jobs(self, kind: str, n: int) -> None:
        """Note how many jobs are queued or running."""


class Jobs(Protocol):
    """The control app's jobs as Gateways and their routes see them; NotReadyError while it is away."""

    async def start(self, asked: JobSpec, who: str) -> dict[str, Any]:
        """Queue a job and return it; raises BadRequestError, NotFoundError, QueueFullError."""
        ...

    async def recent(self, limit: int) -> list[dict[str, Any]]:
        """Return jobs, newest first, in short form."""
        ...

    async def describe(self, job_id: str) -> dict[str, Any]:
        """Return a job as plain JSON; raises NotFoundError."""
        ...

    async def cancel(self, job_id: str, who: str) -> dict[str, Any]:
        """Tell a job to end and return it; raises ConflictError when it has ended."""
        ...

    async def find_result(self, job_id: str, name: str) -> str:
        """Return the path of a file of a job's own output; raises NotFoundError."""
        ...
