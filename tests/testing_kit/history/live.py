"""The service's live history in this process: states in memory, events written without a process of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx

from serve_app.history.service.intake import EventSink, Result, Work, write_events
from serve_app.history.service.live_history import Histories, LiveEvent, LiveHistory, Recorded, ScoredRow
from serve_app.history.service.reader import HistoryReader
from serve_app.http.app import create_app
from serve_app.http.events.event_bodies import parse_events
from serve_app.models.service.ports import Package
from serve_app.privacy.pseudonyms import Pseudonyms
from tests.testing_kit.deployments.replicas import MemoryAccessLog, MemoryMeter, make_scorer, make_traffic
from tests.testing_kit.history.memory_states import MemoryStateStore

NOW_S = 1_570_000_000


class TestableHistory(LiveHistory):
    """Over memory; `fault` is raised, and `n_lookups` and `n_records` count the calls that reached it."""

    __test__ = False

    def __init__(self, retention_s: int | None = None) -> None:
        self.now_s: float = NOW_S
        super().__init__(MemoryStateStore(), Pseudonyms(bytes(32)), lambda: self.now_s, retention_s=retention_s)
        self.fault: Exception | None = None
        self.n_lookups = self.n_records = 0

    def lookup(self, rows: Sequence[ScoredRow]) -> Histories:
        self.n_lookups += 1
        if self.fault:
            raise self.fault
        return super().lookup(rows)

    def record(self, events: Sequence[LiveEvent]) -> list[Recorded]:
        self.n_records += 1
        if self.fault:
            raise self.fault
        return super().record(events)


class LiveService:
    """The routes over one package with history; use as an async context manager, outside virtual time."""

    def __init__(self, package: Package, history: TestableHistory | None = None, timeout_s: float = 0.25) -> None:
        self.history = history or TestableHistory()
        self.package = package
        self.reader = HistoryReader(lambda: self.history, timeout_s)
        self.meter = MemoryMeter()

    async def _write(self, works: Sequence[Work]) -> Sequence[Result]:
        return await asyncio.to_thread(write_events, self.history, parse_events, works)

    async def __aenter__(self):
        scorer, self.encoder, _ = make_scorer(self.package, reader=self.reader)
        app = create_app(
            await make_traffic(scorer),
            MemoryAccessLog(),
            timeout_s=5.0,
            meter=self.meter,
            events=EventSink(self._write),
        )
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://shop")
        return self

    async def __aexit__(self, *args) -> None:
        await self.client.aclose()

    async def predict(self, **row) -> dict:
        answer = await self.client.post("/predict_purchase?detail=true", json=row)
        assert answer.status_code == 200, answer.text
        return answer.json() | {"x-observed": answer.headers.get("x-observed")}

    async def send(self, *events: dict) -> dict:
        answer = await self.client.post("/v1/events", json=list(events))
        assert answer.status_code == 202, answer.text
        return answer.json()
