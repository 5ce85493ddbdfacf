"""One application over local replicas, called again and again: to build it takes longer than most calls."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

import httpx

from serve_app.http.app import create_app
from serve_app.models.service.ports import Package
from tests.testing_kit.deployments.replicas import MemoryAccessLog, MemoryMeter, make_scorer, make_traffic

T = TypeVar("T")


class AppCalls:
    """Calls of the routes that score; use as a context manager.

    `encoder` is the local replica, with the batches that came; `log` has the lines, `meter` the counts.
    """

    def __init__(self, package: Package, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self.log, self.meter = MemoryAccessLog(), MemoryMeter()
        scorer, self.encoder, _ = make_scorer(package, version=3)
        traffic = self._runner.run(make_traffic(scorer))
        self.app = create_app(traffic, self.log, timeout_s=20.0, meter=self.meter, **options)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://shop")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self._runner.run(self.client.aclose())
        self._runner.close()

    def request(self, method: str, path: str, content: bytes = b"", **headers: str) -> httpx.Response:
        """Send a request; ``content_type`` and other headers by their names with underscores, JSON by default."""
        named = {"content-type": "application/json"} | {n.replace("_", "-"): v for n, v in headers.items()}
        return self.run(self.client.request(method, path, content=content, headers=named))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the application's event loop."""
        return self._runner.run(work)

    def post(self, path: str, content: bytes, **headers: str) -> httpx.Response:
        """Send a POST request."""
        return self.request("POST", path, content, **headers)
