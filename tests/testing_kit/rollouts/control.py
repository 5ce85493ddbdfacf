"""The control app in this process, and a transport from sync HTTP clients to an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx

from serve_app.errors import NotReadyError
from serve_app.http.asgi import ASGIApp
from serve_app.rollouts.service.control import RolloutControl
from serve_app.rollouts.service.ports import Command, Report, Rollouts, StartRollout


class LocalRollouts(Rollouts):
    """A control app that is a `RolloutControl` in this process; `is_away` makes it answer as one that is gone."""

    def __init__(self, control: RolloutControl) -> None:
        self._control = control
        self.is_away = False
        self.reports: list[Report] = []

    @property
    def control(self) -> RolloutControl:
        if self.is_away:
            raise NotReadyError("the control app does not answer", 5.0)
        return self._control

    async def start(self, asked: StartRollout, who: str, why: str) -> dict[str, Any]:
        return self.control.start(asked, who, why)

    async def command(self, rollout_id: int, command: Command, who: str, why: str) -> dict[str, Any]:
        return self.control.command(rollout_id, command, who, why)

    async def describe(self, rollout_id: int) -> dict[str, Any]:
        return self.control.describe(rollout_id)

    async def recent(self, model: str, limit: int) -> list[dict[str, Any]]:
        return self.control.recent(model, limit)

    async def history(self, rollout_id: int) -> list[dict[str, Any]]:
        return self.control.history(rollout_id)

    async def report(self, report: Report) -> None:
        self.control.report(report)
        self.reports.append(report)


class AppTransport(httpx.BaseTransport):
    """Sends each request to an application made for it, in an event loop of its own."""

    def __init__(self, make_app: Callable[[], ASGIApp]) -> None:
        self._make_app = make_app

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self._make_app(), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport) as client:
                return await client.request(
                    request.method, request.url, content=request.read(), headers=request.headers
                )

        answer = asyncio.run(send())
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content, request=request)
