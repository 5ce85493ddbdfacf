"""Batch jobs over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from serve_app.client.operator import OperatorClient, take_list, take_object

_BRIEF: Final = ("id", "state", "created_at")


class JobsClient(OperatorClient):
    """Batch jobs of one service.

    Raises
    ------
    NotReadyError
        Nothing answers, or the control app does not; QueueFullError when as many jobs wait as may.
    ConflictError
        The job has ended.
    NotFoundError
        There is no such job.
    BadRequestError
        Change what was asked; `errors` names the members.
    """

    def start(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Queue a job, and return it."""
        return take_object(self.send("POST", "/v1/jobs", body), _BRIEF)

    def recent(self, limit: int = 20) -> list[dict[str, Any]]:
        """Return jobs in short form, newest first."""
        return take_list(self.send("GET", f"/v1/jobs?limit={limit}"), "jobs", _BRIEF)

    def describe(self, job_id: str) -> dict[str, Any]:
        """Return a job."""
        return take_object(self.send("GET", f"/v1/jobs/{quote(job_id, safe='')}"), _BRIEF)

    def cancel(self, job_id: str, who: str) -> dict[str, Any]:
        """Tell a job to end, and return it."""
        answer = self.send("POST", f"/v1/jobs/{quote(job_id, safe='')}/cancel", {"who": who})
        return take_object(answer, _BRIEF)
