"""Rows sent through a client at a chosen rate and concurrency, and what came of it. Memory does not grow with rows."""

from __future__ import annotations

import asyncio
import bisect
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, TypeVar

from serve_app.client.clients import AsyncClient
from serve_app.errors import InvalidRowError, ScorecatError

GIVE_UP_AFTER: Final = 3
"""Failed rows, with no answer at all, after which the service is taken for absent."""
SCORE_EDGES: Final = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.7, 1.0)
"""Purchases are rare, so most calibrated scores are small; 0.5 and 0.7 part the recommendations."""
SCORE_BINS: Final = tuple(pairwise(SCORE_EDGES))
T = TypeVar("T")


class Latencies:
    """Counts of durations in buckets 1 % wide, from 1 us up; quantiles are exact to 1 %, the maximum exactly."""

    _STEP: Final = math.log(1.01)
    _SMALLEST_S: Final = 1e-6

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.n = 0
        self.max_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[int(math.log(max(seconds, self._SMALLEST_S) / self._SMALLEST_S) / self._STEP)] += 1
        self.n += 1
        self.max_s = max(self.max_s, seconds)

    def quantile_s(self, share: float) -> float | None:
        """Return the smallest duration that at least this share of all do not exceed; None without any."""
        wanted = math.ceil(share * self.n)
        n_seen = 0
        for bucket in sorted(self._counts):
            n_seen += self._counts[bucket]
            if n_seen >= wanted:
                return min(self.max_s, self._SMALLEST_S * math.exp((bucket + 0.5) * self._STEP))
        return None


@dataclass
class ReplayReport:
    """What came of a replay, as it goes on.

    Attributes
    ----------
    n_sent : int
        Rows sent; those without an outcome were under way when it was interrupted.
    n_answered, n_rejected, n_failed : int
        Scored; refused as rows that cannot be scored; not answered, or with any other error.
    n_retried : int
        Tries after the first.
    seconds : float
        From the first row to the last answer.
    rejections, failures : Counter
        Rejected rows by field, failed rows by code.
    last_failure : ScorecatError or None
    latencies : Latencies
        Of every row that came to an outcome, retries included; at a rate, from the time it was due.
    scores : list of int
        Answered rows between each two of `SCORE_EDGES`.
    """

    n_sent: int = 0
    n_answered: int = 0
    n_rejected: int = 0
    n_failed: int = 0
    n_retried: int = 0
    seconds: float = 0.0
    rejections: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    last_failure: ScorecatError | None = None
    latencies: Latencies = field(default_factory=Latencies)
    scores: list[int] = field(default_factory=lambda: [0] * len(SCORE_BINS))

    @property
    def rows_per_s(self) -> float:
        """Rows answered or rejected in a second."""
        return (self.n_answered + self.n_rejected) / self.seconds if self.seconds > 0 else 0.0

    @property
    def is_hopeless(self) -> bool:
        """Whether nothing was ever answered."""
        return self.n_failed >= GIVE_UP_AFTER and self.n_answered + self.n_rejected == 0

    def add_score(self, probability: float) -> None:
        """Count an answered row."""
        self.n_answered += 1
        self.scores[bisect.bisect_right(SCORE_EDGES, probability, 1, len(SCORE_EDGES) - 1) - 1] += 1

    def add_error(self, error: ScorecatError) -> None:
        """Count a rejected or a failed row."""
        if isinstance(error, InvalidRowError):
            self.n_rejected += 1
            self.rejections.update(e.pointer for e in error.errors)
            return
        self.n_failed += 1
        self.failures[error.code] += 1
        self.last_failure = error

    def to_json(self) -> dict[str, Any]:
        """Return the report as one JSON object; latencies in milliseconds."""
        quantiles = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
        latency = {name: self.latencies.quantile_s(share) for name, share in quantiles.items()}
        latency["max"] = self.latencies.max_s if self.latencies.n else None
        return {
            "sent": self.n_sent,
            "answered": self.n_answered,
            "rejected": self.n_rejected,
            "failed": self.n_failed,
            "retried": self.n_retried,
            "seconds": round(self.seconds, 3),
            "rows_per_s": round(self.rows_per_s, 1),
            "latency_ms": {name: None if s is None else round(s * 1e3, 3) for name, s in latency.items()},
            "scores": [
                {"from": low, "to": high, "rows": n} for (low, high), n in zip(SCORE_BINS, self.scores, strict=True)
            ],
            "rejections": dict(self.rejections),
            "failures": dict(self.failures),
        }


async def replay(
    client: AsyncClient,
    chunks: AsyncIterator[list[bytes]],
    report: ReplayReport,
    *,
    concurrency: int,
    rate: float | None = None,
    limit: int | None = None,
    clock: Callable[[], float] | None = None,
) -> None:
    """Send rows through ``POST /predict_purchase``.

    Parameters
    ----------
    client : AsyncClient
        With at least `concurrency` connections.
    chunks : async iterator of list of bytes
        Rows as JSON, in the order they are to be sent.
    report : ReplayReport
        Is filled while rows are answered, so that it holds what is known when this is cancelled.
    concurrency : int
        Rows under way at once, at most.
    rate : float or None
        Rows a second, whatever the service does (an open loop): a row that must wait for a free place
        has been waiting since it was due. What reading the rows delays moves the schedule, and is no latency.
        None sends as fast as answers come (a closed loop).
    limit : int or None
        Rows to send, at most.
    clock : callable or None
        Seconds; default the event loop's.

    Raises
    ------
    ScorecatError
        Whatever reading the rows raised, after the rows under way were answered.
    """
    sender = _Sender(client, chunks, limit, report, rate, clock or asyncio.get_running_loop().time)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(concurrency):
            tasks.create_task(sender.work())
    if sender.broken is not None:
        raise sender.broken


class _Sender:
    """What the workers of one replay share."""

    def __init__(
        self,
        client: AsyncClient,
        chunks: AsyncIterator[list[bytes]],
        limit: int | None,
        report: ReplayReport,
        rate: float | None,
        now: Callable[[], float],
    ) -> None:
        self._client = client
        self._chunks = chunks
        self._limit = math.inf if limit is None else limit
        self._chunk: list[bytes] = []
        self._at = 0
        self._n_taken = 0
        self._lock = asyncio.Lock()
        self._report = report
        self._rate = rate
        self._now = now
        self._started_s = 0.0  # when the first rows are there
        self._schedule_s = 0.0  # when row 0 is due; later by what reading has delayed
        self.broken: ScorecatError | None = None

    async def work(self) -> None:
        """Send one row after the other until there are no more, or no hope."""
        while not self._report.is_hopeless and self.broken is None:
            try:
                taken = await self._take()
            except ScorecatError as error:
                self.broken = error
                return
            if taken is None:
                return
            number, row = taken
            due_s = self._now() if self._rate is None else self._schedule_s + number / self._rate
            if self._rate is not None and due_s > self._now():
                await asyncio.sleep(due_s - self._now())
            await self._send(row, due_s)

    async def _take(self) -> tuple[int, bytes] | None:
        """Return the next row of all chunks and its number, from 0; None at the end."""
        while self._at == len(self._chunk):
            async with self._lock:
                if self._at == len(self._chunk):
                    asked_s = self._now()
                    chunk = await anext(self._chunks, None)
                    if chunk is None:
                        return None
                    self._note_wait(self._n_taken, asked_s, self._now())
                    self._chunk, self._at = chunk, 0
        if self._n_taken >= self._limit:
            return None
        row = self._n_taken, self._chunk[self._at]
        self._n_taken += 1
        self._at += 1
        return row

    def _note_wait(self, number: int, asked_s: float, ready_s: float) -> None:
        """Move the schedule by the time that row `number` was due, wanted, and not yet read."""
        if number == 0:
            self._started_s = self._schedule_s = ready_s
        elif self._rate is not None:
            due_s = self._schedule_s + number / self._rate
            self._schedule_s += max(0.0, ready_s - max(asked_s, due_s))

    async def _send(self, row: bytes, due_s: float) -> None:
        self._report.n_sent += 1
        try:
            self._report.add_score((await self._client.predict(row)).probability)
        except ScorecatError as error:
            self._report.add_error(error)
        finished_s = self._now()
        self._report.latencies.add(finished_s - due_s)
        self._report.seconds = finished_s - self._started_s
        self._report.n_retried = self._client.n_retries


async def read_ahead(chunks: Iterator[T]) -> AsyncIterator[T]:
    """Yield from an iterator that blocks, read one item ahead in a thread."""
    loop = asyncio.get_running_loop()
    pending = loop.run_in_executor(None, next, chunks, None)
    while (chunk := await pending) is not None:
        pending = loop.run_in_executor(None, next, chunks, None)
        yield chunk
