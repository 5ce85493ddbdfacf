"""The load generator of the benchmarks, against a tiny server that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from benchmarks.connection import Row, parse_answer
from benchmarks.load import Load, load_rows, percentile, summarize

pytestmark = pytest.mark.unit
ANSWER = {"user_id": "7", "purchase_probability": 0.1234567890123456, "recommendation": "low"}
GOOD = json.dumps(ANSWER).encode()
ROWS = [Row(b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", ANSWER)]


def reply(body: bytes, status: int = 200, extra: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body


@contextlib.asynccontextmanager
async def serving(answer: Callable[[int], Awaitable[bytes]]) -> AsyncIterator[int]:
    """A server on a free port; `answer(k)` makes the raw answer to the k-th request; empty bytes hang up."""
    count = 0
    writers = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        writers.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(2)
                count += 1
                data = await answer(count)
                writer.write(data)
                await writer.drain()
                if not data or b"Connection: close" in data:
                    break
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0.01)


def run(answer: Callable[[int], Awaitable[bytes]], *, n_connections: int = 4, **options: float) -> dict:
    timeout_s = options.pop("timeout_s", 5.0)

    async def measure() -> dict:
        async with serving(answer) as port, Load("127.0.0.1", port, ROWS, n_connections, timeout_s) as load:
            seconds = await load.run(**options)
            return summarize(load.tally, seconds)

    return asyncio.run(measure())


def stall_once(from_s: float, for_s: float) -> Callable[[int], Awaitable[bytes]]:
    """A server that stands still for a while, `from_s` after its first request."""
    started: list[float] = []

    async def answer(_: int) -> bytes:
        now = asyncio.get_running_loop().time()
        started.append(now)
        since = now - started[0]
        if from_s <= since < from_s + for_s:
            await asyncio.sleep(from_s + for_s - since)
        return reply(GOOD)

    return answer


async def good(_: int) -> bytes:
    return reply(GOOD)


def test_an_open_loop_charges_a_stall_to_everyone_who_was_due_meanwhile():
    found = run(stall_once(0.1, 0.2), n_connections=2, seconds=0.5, rate=200)
    assert found["sent"] == found["ok"] == 100
    # two rows of five were due during the stall: 40 waits spread over 0 to 200 ms, though only two
    # rows could be on their way to the server
    assert found["latency_ms"]["max"] > 180
    assert found["latency_ms"]["p90"] > 100
    assert found["generator_late_ms"]["p99"] > 100


def test_a_closed_loop_hides_the_same_stall():
    found = run(stall_once(0.1, 0.2), n_connections=2, seconds=0.4)
    assert found["latency_ms"]["max"] > 180
    assert found["latency_ms"]["p90"] < 100
    assert found["wrong"] == found["failed"] == 0


@pytest.mark.parametrize(
    "bad",
    [
        reply(GOOD.replace(b"456,", b"457,")),
        reply(GOOD.replace(b'"7"', b'"8"')),
        reply(b'{"user_id": "7"}'),
        reply(b"<html>"),
        reply(GOOD, status=503),
    ],
    ids=["last digit", "another user", "keys missing", "no JSON", "status"],
)
def test_wrong_answers_are_counted(bad: bytes):
    async def answer(k: int) -> bytes:
        return bad if k % 5 == 0 else reply(GOOD)

    found = run(answer, seconds=2, max_requests=50)
    assert (found["sent"], found["ok"], found["wrong"], found["failed"]) == (50, 40, 10, 0)
    assert found["first_fault"]


@pytest.mark.parametrize("bad", [b"", b"HTTP/1.1 200 OK\r\n\r\n{}"], ids=["hung up", "no length"])
def test_missing_answers_are_failures_and_the_connection_is_replaced(bad: bytes):
    async def answer(k: int) -> bytes:
        return bad if k % 10 == 0 else reply(GOOD)

    found = run(answer, seconds=2, max_requests=50)
    assert (found["sent"], found["ok"], found["wrong"], found["failed"]) == (50, 45, 0, 5)


def test_a_server_that_never_answers_ends_the_run():
    async def answer(_: int) -> bytes:
        await asyncio.sleep(3)
        return reply(GOOD)

    found = run(answer, n_connections=2, seconds=0.1, rate=50, timeout_s=0.1)
    assert (found["sent"], found["ok"], found["failed"]) == (5, 0, 5)
    assert found["seconds"] < 1


def test_connection_close_is_honoured():
    async def answer(_: int) -> bytes:
        return reply(GOOD, extra="Connection: close\r\n")

    found = run(answer, seconds=2, max_requests=40)
    assert (found["sent"], found["ok"], found["failed"]) == (40, 40, 0)


def test_an_answer_in_pieces_is_put_together():
    data = reply(GOOD)
    assert all(parse_answer(data[:n]) is None for n in range(len(data)))
    assert parse_answer(data) == (200, GOOD, False)


def test_percentiles_are_nearest_rank():
    assert [percentile([1.0, 2.0, 3.0, 4.0], q) for q in (0.5, 0.9, 0.99, 1.0)] == [2.0, 4.0, 4.0, 4.0]
    assert percentile([], 0.5) is None


def test_the_command_prints_one_json_object_and_fails_on_wrong_answers(tmp_path: Path):
    path = tmp_path / "rows.json"
    items = [{"body": {}, "answer": ANSWER}, {"body": {}, "answer": ANSWER | {"user_id": "8"}}]
    path.write_text(json.dumps(items))
    assert load_rows(path, "h:1", "/p")[0].request.endswith(b"Content-Length: 2\r\n\r\n{}")

    async def call() -> tuple[int | None, bytes]:
        async with serving(good) as port:
            command = [sys.executable, "-m", "benchmarks.load", f"http://127.0.0.1:{port}/p", str(path)]
            command += ["--connections=2", "--seconds=0.1", "--warmup=0.05"]
            process = await asyncio.create_subprocess_exec(
                *command, cwd=Path(__file__).parents[3], stdout=asyncio.subprocess.PIPE
            )
            printed, _ = await process.communicate()
            return process.returncode, printed

    returned, printed = asyncio.run(call())
    found = json.loads(printed)
    assert returned == 1
    assert found["sent"] == found["ok"] + found["wrong"]
    assert abs(found["ok"] - found["wrong"]) <= 2
    assert found["wrong"] > 0


@pytest.mark.parametrize(("is_refusable", "extra", "n_refused"), [(True, "Retry-After: 1\r\n", 25), (True, "", 0),
                                                                 (False, "Retry-After: 1\r\n", 0)])  # fmt: skip
def test_a_refusal_is_no_fault_only_where_it_may_be_and_says_when_to_come_back(is_refusable, extra, n_refused):
    async def refuse_every_other(k: int) -> bytes:
        return reply(b"{}", 503, extra) if k % 2 else reply(GOOD)

    async def measure() -> dict:
        async with (
            serving(refuse_every_other) as port,
            Load("127.0.0.1", port, ROWS, 4, is_refusable=is_refusable) as load,
        ):
            seconds = await load.run(seconds=0.5, rate=100)
            return summarize(load.tally, seconds)

    found = asyncio.run(measure())
    assert (found["sent"], found["ok"], found["refused"]) == (50, 25, n_refused)
    assert found["wrong"] == 25 - n_refused
    assert (found["refusal_ms"]["p50"] is not None) == (n_refused > 0)


def test_rows_that_fall_due_close_together_are_all_sent_at_their_rate():
    found = run(good, n_connections=64, seconds=0.5, rate=3_000)
    assert found["sent"] == found["ok"] == 1_500
    assert found["seconds"] >= 0.49
