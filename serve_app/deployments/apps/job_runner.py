"""Drivers of batch jobs, submitted to Ray: by the control app for those asked for over HTTP, and by the command."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ray.job_submission import JobSubmissionClient

from serve_app.cluster.spec import load_spec
from serve_app.errors import NotReadyError

AGENT_S: Final = 60.0
"""How long Ray's agent, which starts jobs, may take to be there: it starts later than the service answers."""
POLL_S: Final = 0.5
MESSAGE_CHARACTERS: Final = 500


def open_submissions(address: str, connect: Callable[[str], Any] = JobSubmissionClient) -> Any:
    """Return what submits jobs to a cluster; raises NotReadyError when it takes none."""
    try:
        return connect(address)
    except (ConnectionError, RuntimeError) as exc:
        raise NotReadyError(f"no job can be submitted to {address}: see `scorecat status` ({exc})") from exc


def submit_driver(
    client: JobSubmissionClient, job_id: str, arguments: Sequence[str], variables: Mapping[str, str], patience_s: float
) -> None:
    """Start a driver whose submission id is the job's.

    Raises
    ------
    NotReadyError
        Nothing takes it within `patience_s`.
    """
    give_up_at = time.monotonic() + patience_s
    while True:
        try:
            client.submit_job(
                entrypoint=shlex.join([sys.executable, "-m", "batch.score", *arguments]),
                submission_id=job_id,
                runtime_env={"env_vars": {**variables, "PYTHONWARNINGS": "ignore"}},
                metadata={"scorecat": "score"},
            )
        except (ConnectionError, RuntimeError) as exc:
            if "No available agent" not in str(exc) or time.monotonic() > give_up_at:
                raise NotReadyError(f"no job can be submitted: see `scorecat status` ({exc})") from exc
            time.sleep(POLL_S)
        else:
            return


class RayJobRunner:
    """A `serve_app.jobs.service.ports.JobRunner`; drivers inherit the settings that the cluster was started with.

    Parameters
    ----------
    home : Path
        State folder, whose record of the cluster says where jobs are submitted.
    connect : callable
    """

    def __init__(self, home: Path, connect: Callable[[str], Any] = JobSubmissionClient) -> None:
        self._home = home
        self._connect = connect
        self._client: Any = None

    def submit(self, job_id: str, arguments: Sequence[str]) -> None:
        """Start a driver; does nothing when the job was submitted before."""
        client = self._reach()
        if self._find(client, job_id) is None:
            submit_driver(client, job_id, arguments, {}, 0.0)

    def stop(self, job_id: str) -> None:
        """End a job's process when it lives."""
        client = self._reach()
        if self._find(client, job_id) is not None:
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                client.stop_job(job_id)

    def explain_end(self, job_id: str) -> str | None:
        """Return why a job's process is over; None while it is not."""
        found = self._find(self._reach(), job_id)
        if found is None:
            return "Ray does not know it any more: the cluster was stopped before it began"
        if not found.status.is_terminal():
            return None
        return f"its process ended ({found.status}): {found.message or ''}"[:MESSAGE_CHARACTERS].rstrip(": ")

    def _reach(self) -> Any:
        if self._client is None:
            spec = load_spec(self._home)
            if spec is None:
                raise NotReadyError(f"{self._home} has no record of a cluster")
            self._client = open_submissions(spec.job_address, self._connect)
        return self._client

    def _find(self, client: Any, job_id: str) -> Any:
        try:
            return client.get_job_info(job_id)
        except RuntimeError as exc:
            if "does not exist" in str(exc) or "404" in str(exc):
                return None
            raise NotReadyError(f"Ray does not say how job {job_id} is: {exc}") from exc
        except ConnectionError as exc:
            raise NotReadyError(f"Ray does not say how job {job_id} is: {exc}") from exc
