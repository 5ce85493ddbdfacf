"""The control app as a Gateway sees it: a handle with time limits, to something that may be away."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from ray import serve

from serve_app.deployments.calls.handles import FAILURES, translate
from serve_app.errors import NotReadyError, ReplicaLostError
from serve_app.jobs.service.ports import JobAsked
from serve_app.rollouts.service.ports import Command, Report, StartRollout

CONTROL_APP: Final = "control"
CONTROLLER: Final = "RolloutController"
PRESENCE_TIMEOUT_S: Final = 1.0
"""Whether it is there is found out before it is asked for anything that takes longer."""
READ_TIMEOUT_S: Final = 5.0
COMMAND_TIMEOUT_S: Final = 10.0
START_TIMEOUT_S: Final = 60.0
"""A start fetches and checks the package, which may come from a bucket."""
REPORT_TIMEOUT_S: Final = 2.0
RETRY_AFTER_S: Final = 5.0


class _ControlCalls:
    """Calls of the control app's replica.

    A call that ran into its time limit may have been carried out; none is sent twice from here.
    """

    def __init__(self) -> None:
        self._handle: Any = None

    async def _ask(self, method: str, timeout_s: float, *arguments: Any) -> Any:
        await self._call("ping", PRESENCE_TIMEOUT_S)
        return await self._call(method, timeout_s, *arguments)

    async def _call(self, method: str, timeout_s: float, *arguments: Any) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._connect(method).remote(*arguments)
        except FAILURES as exc:
            error = translate(exc)
            if isinstance(error, ReplicaLostError):
                raise NotReadyError(
                    f"the control app does not answer ({error.detail}); versions keep their shares meanwhile",
                    RETRY_AFTER_S,
                ) from exc
            raise error from exc

    def _connect(self, method: str) -> Any:
        if self._handle is None:
            # not checked for existence: the app may come up after the Gateway, and asking blocks the event loop
            self._handle = serve.get_deployment_handle(CONTROLLER, app_name=CONTROL_APP, _check_exists=False)
        return self._handle.options(method_name=method, request_serialization="pickle", response_serialization="pickle")


class ControlHandle(_ControlCalls):
    """A `serve_app.rollouts.service.ports.Rollouts` over the control app's replica."""

    async def start(self, asked: StartRollout, who: str, why: str) -> dict[str, Any]:
        """Start a rollout."""
        found: dict[str, Any] = await self._ask("start", START_TIMEOUT_S, asked, who, why)
        return found

    async def command(self, rollout_id: int, command: Command, who: str, why: str) -> dict[str, Any]:
        """Tell a rollout what to do."""
        found: dict[str, Any] = await self._ask("command", COMMAND_TIMEOUT_S, rollout_id, command, who, why)
        return found

    async def describe(self, rollout_id: int) -> dict[str, Any]:
        """Return a rollout."""
        found: dict[str, Any] = await self._ask("describe", READ_TIMEOUT_S, rollout_id)
        return found

    async def recent(self, model: str, limit: int) -> list[dict[str, Any]]:
        """Return rollouts, newest first."""
        found: list[dict[str, Any]] = await self._ask("recent", READ_TIMEOUT_S, model, limit)
        return found

    async def history(self, rollout_id: int) -> list[dict[str, Any]]:
        """Return the changes of a rollout."""
        found: list[dict[str, Any]] = await self._ask("history", READ_TIMEOUT_S, rollout_id)
        return found

    async def report(self, report: Report) -> None:
        """Hand over what a Gateway counted, once at most."""
        await self._call("report", REPORT_TIMEOUT_S, report)


class JobsHandle(_ControlCalls):
    """A `serve_app.jobs.service.ports.Jobs` over the control app's replica."""

    async def start(self, asked: JobAsked) -> dict[str, Any]:
        """Queue a job."""
        found: dict[str, Any] = await self._ask("start_job", COMMAND_TIMEOUT_S, asked)
        return found

    async def recent(self, limit: int) -> list[dict[str, Any]]:
        """Return jobs, newest first."""
        found: list[dict[str, Any]] = await self._ask("recent_jobs", READ_TIMEOUT_S, limit)
        return found

    async def describe(self, job_id: str) -> dict[str, Any]:
        """Return a job."""
        found: dict[str, Any] = await self._ask("describe_job", READ_TIMEOUT_S, job_id)
        return found

    async def cancel(self, job_id: str, who: str) -> dict[str, Any]:
        """Tell a job to end."""
        found: dict[str, Any] = await self._ask("cancel_job", COMMAND_TIMEOUT_S, job_id, who)
        return found

    async def find_result(self, job_id: str, name: str) -> str:
        """Return the path of a file of a job's own output."""
        found: str = await self._ask("find_job_result", READ_TIMEOUT_S, job_id, name)
        return found
