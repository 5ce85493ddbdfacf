"""The control app as a Gateway sees it: a handle with time limits, to something that may be away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from serve_app.cluster.ray_internals import open_handle
from serve_app.deployments.calls.handles import FAILURES, translate
from serve_app.deployments.tenants import PROTOCOLS, Tenant, create_proxy
from serve_app.errors import NotReadyError, ReplicaLostError
from serve_app.jobs.service.ports import Jobs
from serve_app.rollouts.service.ports import Rollouts

CONTROL_APP: Final = "control"
CONTROL_DEPLOYMENT: Final = "ControlApp"
PRESENCE_TIMEOUT_S: Final = 1.0
"""Whether it is there is found out before it is asked for anything that takes longer than a report."""
READ_TIMEOUT_S: Final = 5.0
COMMAND_TIMEOUT_S: Final = 10.0
START_TIMEOUT_S: Final = 60.0
"""A start fetches and checks the package, which may come from a bucket."""
REPORT_TIMEOUT_S: Final = 2.0
RETRY_AFTER_S: Final = 5.0

TIMEOUTS_S: Final[Mapping[Callable[..., Any], float]] = {
    Rollouts.start: START_TIMEOUT_S,
    Rollouts.command: COMMAND_TIMEOUT_S,
    Rollouts.report: REPORT_TIMEOUT_S,
    Jobs.start: COMMAND_TIMEOUT_S,
    Jobs.cancel: COMMAND_TIMEOUT_S,
}
"""Of the methods that do more than read."""


class ControlHandle:
    """Calls of the control app's replica.

    A call that ran into its time limit may have been carried out; none is sent twice from here.
    """

    def __init__(self) -> None:
        self._handle: Any = None
        self.rollouts: Rollouts = create_proxy("rollouts", self._ask)
        self.jobs: Jobs = create_proxy("jobs", self._ask)

    async def _ask(self, tenant: Tenant, method: str, /, *arguments: Any, **named: Any) -> Any:
        timeout_s = TIMEOUTS_S.get(getattr(PROTOCOLS[tenant], method), READ_TIMEOUT_S)
        if timeout_s > REPORT_TIMEOUT_S:
            await self._call("ping", PRESENCE_TIMEOUT_S)
        return await self._call("call", timeout_s, tenant, method, *arguments, **named)

    async def _call(self, entrance: str, timeout_s: float, /, *arguments: Any, **named: Any) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                if self._handle is None:
                    self._handle = open_handle(CONTROL_DEPLOYMENT, CONTROL_APP)  # the app may come up after the Gateway
                handle = self._handle.options(
                    method_name=entrance, request_serialization="pickle", response_serialization="pickle"
                )
                return await handle.remote(*arguments, **named)
        except FAILURES as exc:
            error = translate(exc)
            if isinstance(error, ReplicaLostError):
                raise NotReadyError(
                    f"the control app does not answer ({error.detail}); versions keep their shares meanwhile",
                    RETRY_AFTER_S,
                ) from exc
            raise error from exc
