"""Users who send one row after the other, and what each of them saw: statuses, versions in order, times."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import httpx

from tests.testing_kit.cluster.service_process import ROW, wait_for


@dataclass(frozen=True)
class Seen:
    """One answer: when it was asked for and given (seconds since the epoch), by which version, why."""

    asked_at: float
    answered_at: float
    status: int
    version: str
    reason: str


class UserLoad(threading.Thread):
    """`n_clients` connections, each in the name of some users in turn, at `rate` rows a second together."""

    def __init__(self, url: str, *, n_clients: int = 24, users_per_client: int = 10, rate: float = 150.0) -> None:
        super().__init__(daemon=True)
        self._url = f"{url}/predict_purchase"
        self._n_clients, self._users_per_client, self._pause_s = n_clients, users_per_client, n_clients / rate
        self._stopping = threading.Event()
        self.seen: dict[str, list[Seen]] = {}
        self.problems: Counter[str] = Counter()

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=self._n_clients)
        async with httpx.AsyncClient(limits=limits, timeout=30) as client:
            await asyncio.gather(*(self._send(client, n) for n in range(self._n_clients)))

    async def _send(self, client: httpx.AsyncClient, n: int) -> None:
        users = itertools.cycle(f"user-{n}-{k}" for k in range(self._users_per_client))
        dice = random.Random(n)
        while not self._stopping.is_set():
            user = next(users)
            row: dict[str, Any] = {**ROW, "user_id": user, "hour": dice.randrange(24), "price": dice.uniform(1, 500)}
            asked_at = time.time()
            try:
                answer = await client.post(self._url, json=row)
                status, headers = answer.status_code, answer.headers
                if status != 200:
                    self.problems[answer.text[:200]] += 1
            except httpx.TransportError as exc:
                status, headers = 0, httpx.Headers()
                self.problems[repr(exc)] += 1
            seen = Seen(
                asked_at, time.time(), status, headers.get("x-model-version", ""), headers.get("x-route-reason", "")
            )
            self.seen.setdefault(user, []).append(seen)
            await asyncio.sleep(max(0.0, asked_at + self._pause_s * dice.uniform(0.5, 1.5) - time.time()))

    def stop(self) -> None:
        self._stopping.set()
        self.join(timeout=40)
        assert not self.is_alive()

    def await_all_users(self, since: float, timeout_s: float = 60) -> None:
        """Return when every user has had an answer to a request made after `since` (seconds since the epoch)."""

        n_users = self._n_clients * self._users_per_client

        def are_back() -> bool:
            return len(self.seen) == n_users and all(
                answers[-1].asked_at > since for answers in list(self.seen.values())
            )

        wait_for(are_back, timeout_s, "all users to be back")

    @property
    def statuses(self) -> Counter[int]:
        return Counter(seen.status for answers in self.seen.values() for seen in answers)

    def versions(self, since: float = 0.0) -> Counter[str]:
        return Counter(s.version for answers in list(self.seen.values()) for s in list(answers) if s.asked_at >= since)

    def paths(self) -> Counter[str]:
        """Users by the versions they met one after the other, such as ``1>2>1``."""
        return Counter(
            ">".join(version for version, _ in itertools.groupby(s.version for s in answers if s.status == 200))
            for answers in self.seen.values()
        )
