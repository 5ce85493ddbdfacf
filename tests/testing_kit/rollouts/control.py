"""The control app in this process, and a transport from sync HTTP clients to an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
from starlette.types import ASGIApp

from serve_app.deployments.tenants import Tenant, create_proxy
from serve_app.errors import NotReadyError
from serve_app.jobs.service.control import JobControl
from serve_app.rollouts.service.control import RolloutControl


class LocalTenant:
    """A tenant of the control app in this process; `is_away` makes the control app answer as one that is gone."""

    def __init__(self, tenant: Tenant, service: Any) -> None:
        self.service = service
        self.is_away = False
        vars(self).update(vars(create_proxy(tenant, self._send)))

    async def _send(self, _tenant: Tenant, method: str, *arguments: Any, **named: Any) -> Any:
        if self.is_away:
            raise NotReadyError("the control app does not answer", 5.0)
        return getattr(self.service, method)(*arguments, **named)


class LocalRollouts(LocalTenant):
    def __init__(self, control: RolloutControl) -> None:
        super().__init__("rollouts", control)


class LocalJobs(LocalTenant):
    def __init__(self, control: JobControl) -> None:
        super().__init__("jobs", control)


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
