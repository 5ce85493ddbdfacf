"""A small closed-loop load of single rows that keeps every answer's status."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from typing import Any

import httpx

from tests.testing_kit.cluster.service_process import ROW, wait_for


class Load(threading.Thread):
    """Sends rows from `n_clients` connections until `stop`; statuses are counted, transport failures as 0."""

    def __init__(self, url: str, n_clients: int = 16) -> None:
        super().__init__(daemon=True)
        self._url = f"{url}/predict_purchase"
        self._n_clients = n_clients
        self._stopping = threading.Event()
        self.statuses: Counter[int] = Counter()
        self.refusals_without_retry_after = 0
        self.longest_s = 0.0

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=self._n_clients)
        async with httpx.AsyncClient(limits=limits, timeout=30) as client:
            await asyncio.gather(*(self._send(client, n) for n in range(self._n_clients)))

    async def _send(self, client: httpx.AsyncClient, n: int) -> None:
        row: dict[str, Any] = {**ROW, "user_id": f"user-{n}"}
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                answer = await client.post(self._url, json=row)
            except httpx.TransportError:
                self.statuses[0] += 1
                continue
            self.longest_s = max(self.longest_s, time.monotonic() - started)
            self.statuses[answer.status_code] += 1
            if answer.status_code == 503:
                self.refusals_without_retry_after += "retry-after" not in answer.headers
                await asyncio.sleep(0.05)

    def await_answers(self, n: int = 100) -> None:
        """Return when so many more rows have been scored."""
        before = self.statuses[200]
        wait_for(lambda: self.statuses[200] >= before + n, 60, f"{n} answers")

    def stop(self) -> None:
        self._stopping.set()
        self.join(timeout=40)
        assert not self.is_alive()
