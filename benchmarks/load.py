"""Load from a process of its own: single rows over HTTP/1.1, every answer checked.

Run: ``python -m benchmarks.load URL ROWS.json [--connections 64] [--seconds 8] [--rate 300]``.

Without ``--rate`` the loop is closed: each connection sends its next row when it has its answer.
With it rows fall due at a constant rate whatever the server does, and a latency counts from the
moment its row was due: a server that stalls is charged for everyone who would have come meanwhile
(no coordinated omission). Prints one JSON object; exit code 1 when an answer was wrong or missing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import gc
import itertools
import json
import math
import os
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import orjson
import psutil
import uvloop

from benchmarks.connection import Connection, Row

MAX_REQUESTS = 1_000_000
TIMEOUT_S = 10.0
"""An answer that takes longer is counted as failed and its connection is closed."""
BURST = 16
"""Rows that may be sent in an open loop before answers are read."""
TICK_S = 0.001
"""Rows of an open loop that fall due within so short a time leave together: waking for each would cost the server
the cores that they share. Latencies count from the moments they were due all the same."""
SWEEP_S = 0.1
"""How often connections are looked at for that."""


@dataclass(slots=True)
class Tally:
    """What happened; `latencies_s` are of all answers, `late_s` is how late the generator itself sent.

    `refused` requests were answered 503 with Retry-After, where that is no fault; `refused_s` are their latencies
    from the moment they were sent.
    """

    sent: int = 0
    ok: int = 0
    wrong: int = 0
    failed: int = 0
    refused: int = 0
    latencies_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    first_fault: str = ""


class Load:
    """Sends rows in turn over `n_connections`; lost connections are opened again.

    Use as an async context manager; `run` may be called several times (warm-up, then measurement).
    """

    def __init__(
        self,
        host: str,
        port: int,
        rows: list[Row],
        n_connections: int,
        timeout_s: float = TIMEOUT_S,
        *,
        is_refusable: bool = False,
    ) -> None:
        self.is_refusable = is_refusable
        self._address = (host, port)
        self._rows = itertools.cycle(rows)
        self._n_connections = n_connections
        self._timeout_s = timeout_s
        self._connections: set[Connection] = set()
        self._free: deque[Connection] = deque()
        self._due: deque[float] = deque()
        self._opening: set[asyncio.Task] = set()
        self._closed_until_s = self._sweep_at_s = 0.0
        self._max_requests = 0
        self._stopped = False
        self.tally = Tally()

    async def __aenter__(self) -> Self:
        await asyncio.gather(*(self._open() for _ in range(self._n_connections)))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopped = True
        for task in self._opening:
            task.cancel()
        for connection in list(self._connections):
            connection.transport.abort()
        await asyncio.sleep(0)
        await asyncio.gather(*self._opening, return_exceptions=True)

    async def run(self, seconds: float, rate: float | None = None, max_requests: int = MAX_REQUESTS) -> float:
        """Send for `seconds`, wait for the last answers, and return the seconds both took; fills `tally`."""
        self.tally, self._max_requests = Tally(), max_requests
        started_s = time.perf_counter()
        if rate is None:
            self._closed_until_s = started_s + seconds
            for _ in range(len(self._free)):
                self._next(self._free.popleft())
            while time.perf_counter() < self._closed_until_s and self.tally.sent < max_requests:
                await self._wait(min(0.1, max(0.0, self._closed_until_s - time.perf_counter())))
            self._closed_until_s = 0.0
        else:
            await self._arrive(started_s, min(max_requests, round(seconds * rate)), rate)
        give_up_s = time.perf_counter() + self._timeout_s
        while time.perf_counter() < give_up_s and (self._due or any(c.row for c in self._connections)):
            await self._wait(0.002)
        for connection in list(self._connections):
            if connection.row is not None:
                connection.transport.abort()
        for _ in self._due:
            self.fail("was due and found no connection")
        self._due.clear()
        await asyncio.sleep(0)
        return time.perf_counter() - started_s

    async def _arrive(self, started_s: float, n_requests: int, rate: float) -> None:
        n_due = 0
        while n_due < n_requests:
            now_s = time.perf_counter()
            n_now = min(n_requests, int((now_s - started_s) * rate) + 1)
            for k in range(n_due, min(n_now, n_due + BURST)):  # who is behind reads answers between
                self.tally.sent += 1
                self._due.append(started_s + k / rate)
                if self._free:
                    self._next(self._free.popleft())
                n_due = k + 1
            next_s = started_s + n_due / rate
            await self._wait(0.0 if n_due < n_now else max(TICK_S, next_s - time.perf_counter()))

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        now_s = time.perf_counter()
        if now_s < self._sweep_at_s:
            return
        self._sweep_at_s = now_s + SWEEP_S
        late_s = now_s - self._timeout_s
        for connection in list(self._connections):
            if connection.row is not None and connection.sent_s < late_s:
                connection.transport.abort()

    def _next(self, connection: Connection) -> None:
        now_s = time.perf_counter()
        if self._due:
            due_s = self._due.popleft()
        elif now_s < self._closed_until_s and self.tally.sent < self._max_requests:
            self.tally.sent += 1
            due_s = now_s
        else:
            self._free.append(connection)
            return
        self.tally.late_s.append(now_s - due_s)
        connection.send(next(self._rows), due_s, now_s)

    def take_answer(self, connection: Connection, fault: str, *, reusable: bool) -> None:
        self.tally.latencies_s.append(time.perf_counter() - connection.due_s)
        if fault:
            self.tally.wrong += 1
            self.tally.first_fault = self.tally.first_fault or fault
        else:
            self.tally.ok += 1
        if reusable:
            self._next(connection)

    def take_refusal(self, connection: Connection, *, reusable: bool) -> None:
        self.tally.refused += 1
        self.tally.refused_s.append(time.perf_counter() - connection.sent_s)
        if reusable:
            self._next(connection)

    def fail(self, reason: str) -> None:
        self.tally.failed += 1
        self.tally.first_fault = self.tally.first_fault or reason

    def forget(self, connection: Connection) -> None:
        """Replace a connection that is gone."""
        self._connections.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
        if not self._stopped:
            task = asyncio.get_running_loop().create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopped:
            try:
                _, connection = await loop.create_connection(lambda: Connection(self), *self._address)
            except OSError as error:
                if time.perf_counter() < self._closed_until_s:
                    self.tally.sent += 1
                    self.fail(f"no connection: {error}")
                await asyncio.sleep(0.1)
            else:
                self._connections.add(connection)
                self._next(connection)
                return


def percentile(ordered: list[float], share: float) -> float | None:
    """Return the nearest-rank percentile of sorted values."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def summarize(tally: Tally, seconds: float) -> dict:
    """Return the result as one JSON object; latencies in milliseconds."""
    counts = {k: v for k, v in dataclasses.asdict(tally).items() if not k.endswith("_s")}
    ordered, late, refused = sorted(tally.latencies_s), sorted(tally.late_s), sorted(tally.refused_s)
    shown = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {
        **counts,
        "seconds": seconds,
        "per_second": (tally.ok + tally.wrong) / seconds,
        "latency_ms": {name: 1e3 * percentile(ordered, q) if ordered else None for name, q in shown.items()},
        "refusal_ms": {name: 1e3 * percentile(refused, q) if refused else None for name, q in shown.items()},
        "generator_late_ms": {name: 1e3 * percentile(late, shown[name]) if late else None for name in ("p50", "p99")},
    }


def load_rows(path: Path, host: str, target: str) -> list[Row]:
    """Read ``[{"body": {…}, "answer": {…}}, …]`` and make whole requests of it."""
    rows = []
    for item in json.loads(path.read_bytes()):
        body = orjson.dumps(item["body"])
        head = f"POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        rows.append(Row(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body, item["answer"]))
    return rows


def read_cpu_s(pids: list[int]) -> dict[int, float]:
    """Return user + system seconds of each process that lives."""
    found = {}
    for pid in pids:
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.Error:
            continue
        found[pid] = times.user + times.system
    return found


def read_busy_s() -> float:
    """Return the seconds all cores have been busy, or taken away by the hypervisor."""
    times = psutil.cpu_times()
    return sum(times[:8]) - times.idle - times.iowait


async def measure(options: argparse.Namespace) -> dict:
    url = urlsplit(options.url)
    rows = load_rows(options.rows, url.netloc, url.path)
    async with Load(url.hostname, url.port, rows, options.connections, is_refusable=options.refusable) as load:
        if options.warmup:
            await load.run(options.warmup, options.rate)
        gc.collect()
        gc.disable()
        cpu, own, busy = read_cpu_s(options.pids), time.process_time(), read_busy_s()
        seconds = await load.run(options.seconds, options.rate, options.max_requests)
        own, busy = time.process_time() - own, read_busy_s() - busy
        cpu = {pid: spent - cpu[pid] for pid, spent in read_cpu_s(options.pids).items() if pid in cpu}
        result = summarize(load.tally, seconds)
    return {**result, "rate": options.rate, "cpu_s": cpu, "load_cpu_s": own, "machine_busy_s": busy}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("rows", type=Path)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds of the same load first, not counted")
    parser.add_argument("--rate", type=float, help="open loop: rows due each second")
    parser.add_argument("--max-requests", type=int, default=MAX_REQUESTS)
    parser.add_argument("--refusable", action="store_true", help="a 503 with Retry-After is an answer, not a fault")
    parser.add_argument(
        "--urgent",
        action="store_true",
        help="run before all other processes, where that is permitted: clients are not on the busy machine",
    )
    parser.add_argument(
        "--pids", type=lambda text: [int(pid) for pid in text.split(",") if pid], default=[], help="count their CPU"
    )
    options = parser.parse_args()
    if options.urgent:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    result = uvloop.run(measure(options))
    print(json.dumps(result))
    sys.exit(1 if result["wrong"] or result["failed"] or not result["ok"] else 0)


if __name__ == "__main__":
    main()
