"""The fast lane, over a real server and sockets: it answers what the ASGI route answers, or leaves it alone."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Self

import orjson
import pytest
import uvicorn
from uvicorn.config import HTTP_PROTOCOLS

from serve_app.errors import InvariantError, ReplicaLostError
from serve_app.http import admission
from serve_app.http.admission import MAX_ROW_BYTES
from serve_app.http.app import create_app
from serve_app.http.row.fast_protocol import FastProtocol, open_fast_lane
from serve_app.http.schemas import EXAMPLE_REQUEST
from serve_app.runtime.microbatch import BatchLimits
from tests.testing_kit import MemoryAccessLog, MemoryMeter, make_scorer, make_traffic

pytestmark = pytest.mark.unit

EXAMPLE = json.dumps(EXAMPLE_REQUEST).encode()


class Load:
    """Counts requests under way, and all that began."""

    def __init__(self) -> None:
        self.n_now = self.n_begun = 0

    def begin(self) -> None:
        self.n_now += 1
        self.n_begun += 1

    def end(self) -> None:
        self.n_now -= 1


class Server:
    """The Gateway's application on a port of its own."""

    def __init__(self, package, *, lane: bool = True, timeout_s: float = 5.0, **scorer_options) -> None:
        self.package, self.lane, self.timeout_s, self.options = package, lane, timeout_s, scorer_options
        self.log, self.meter, self.load = MemoryAccessLog(), MemoryMeter(), Load()

    async def __aenter__(self) -> Self:
        scorer, self.encoder, self.model = make_scorer(self.package, version=3, **self.options)
        app = create_app(await make_traffic(scorer), self.log, timeout_s=self.timeout_s, meter=self.meter)
        app.lane.ongoing = self.load
        self.before = HTTP_PROTOCOLS["auto"], FastProtocol.lane
        if self.lane:
            open_fast_lane(app.lane)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, access_log=False))
        self.task = asyncio.create_task(self.server.serve([self.socket]))
        await until(lambda: self.server.started)
        return self

    async def __aexit__(self, *args: object) -> None:
        self.server.should_exit = True
        await self.task
        HTTP_PROTOCOLS["auto"], FastProtocol.lane = self.before

    async def connect(self) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self.port))


class Client:
    """One connection that says exactly what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def read(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in head[1:-2])}
        return int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def ask(self, body: bytes = EXAMPLE, **options) -> tuple[int, dict[str, str], bytes]:
        self.writer.write(request(body, **options))
        return await asyncio.wait_for(self.read(), 10)


def request(body: bytes = EXAMPLE, *, path: str = "/predict_purchase", method: str = "POST", **headers: str) -> bytes:
    named = {"content-type": "application/json", "content-length": str(len(body)), "x-request-id": "r-1"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"{method} {path} HTTP/1.1\r\nhost: shop\r\n{lines}\r\n".encode() + body


def row(**members: object) -> bytes:
    return orjson.dumps({**EXAMPLE_REQUEST, **members})


async def until(holds) -> None:
    for _ in range(1_000):
        if holds():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never held")


def run(main) -> None:
    asyncio.run(asyncio.wait_for(main(), 60))


PLAIN = [
    row(),
    row(user_id=None),
    row(user_id=7),
    row(user_id="ünï 🛒"),
    row(brand=None, category_code="never.seen"),
    row(event_time="2019-10-01T12:00:00Z", event_id="e-1", category_id=None),
    row(total_events_x=3, avg_price=12.5, more="ignored"),
    row(user_session="s", event_type="view", **{"é, ": 1}),
]
OTHERS = [
    row(price=0),
    row(price=None, hour=25),
    row(observe=True),
    b"",
    b"{",
    b"[]",
    b'{"user_id": "\xff"}',
    row(brand="x" * 600),
    row(max_prcie=3),
    row(more="x" * MAX_ROW_BYTES),
]
OTHER_HEADERS = [
    {"content_type": "text/plain"},
    {"content_encoding": "gzip"},
    {"x_model_version": "3"},
    {"x_model_version": "three"},
    {"x_request_timeout_seconds": "soon"},
]
"""Bodies and headers that the lane leaves to the route."""


def test_every_answer_is_that_of_the_route(package):
    async def answers(*, lane: bool) -> tuple[list, int]:
        async with Server(package, lane=lane) as server:
            client = await server.connect()
            found = [await client.ask(body) for body in (*PLAIN, *OTHERS)]
            found.append(await client.ask(path="/predict_purchase?detail=true"))
            found.append(await client.ask(method="PUT"))
            found += [await client.ask(**headers) for headers in OTHER_HEADERS]
            assert server.load.n_now == 0
            lines = server.log.lines
            assert len(lines) == len(found)
            assert {line[0] for line in lines} == {"r-1"}
            return found, server.load.n_begun

    def strip(answer) -> tuple:
        status, headers, body = answer
        drop = {"date", "x-prediction-id", "x-request-id", "connection"}
        parsed = orjson.loads(body)
        parsed.pop("prediction_id", None)
        return status, {k: v for k, v in headers.items() if k not in drop}, parsed

    async def main():
        (fast, n_fast), (slow, n_slow) = await answers(lane=True), await answers(lane=False)
        assert (n_fast, n_slow) == (len(PLAIN), 0)
        assert [a[0] for a in fast[: len(PLAIN)]] == [200] * len(PLAIN)
        for got, expected in zip(fast, slow, strict=True):
            (status, headers, body), other = strip(got), strip(expected)
            headers.pop("content-length"), other[1].pop("content-length")
            assert (status, headers, body) == other
        for _, headers, _ in fast[: len(PLAIN)]:
            assert headers["x-request-id"] == "r-1"
            assert len(headers["x-prediction-id"]) == 32
            assert headers["date"]

    run(main)


def test_a_request_may_come_in_any_pieces(package):
    async def main():
        async with Server(package) as server:
            client = await server.connect()
            whole = request()
            for step in (1, 7, 60):
                for start in range(0, len(whole), step):
                    client.writer.write(whole[start : start + step])
                    await client.writer.drain()
                    if step > 1:
                        await asyncio.sleep(0)
                assert (await client.read())[0] == 200
            chunked = request(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
            client.writer.write(chunked + b"%x\r\n" % len(EXAMPLE) + EXAMPLE + b"\r\n0\r\n\r\n")
            assert (await client.read())[0] == 200
            assert server.load.n_begun == 4

    run(main)


def test_many_connections_get_their_own_answers(package):
    async def main():
        async with Server(package) as server:

            async def ask(user: str) -> None:
                client = await server.connect()
                for k in range(5):
                    status, headers, body = await client.ask(row(user_id=f"{user}-{k}"), x_request_id=f"{user}-{k}")
                    assert (status, orjson.loads(body)["user_id"]) == (200, f"{user}-{k}")
                    assert headers["x-request-id"] == f"{user}-{k}"
                client.writer.close()

            await asyncio.gather(*(ask(f"u{n}") for n in range(40)))
            assert server.load.n_begun == 200
            assert server.load.n_now == 0
            assert len(server.encoder.batches) < 200
            assert sorted(server.meter.requests) == [("/predict_purchase", 200, 3)] * 200

    run(main)


def test_an_answer_is_never_taken_for_that_of_another_request(package):
    """Requests sent without waiting: the first is answered and the connection closed."""

    async def main():
        async with Server(package) as server:
            client = await server.connect()
            client.writer.write(request(row(user_id="first")) + request(row(user_id="second"), path="/livez"))
            status, _, body = await client.read()
            assert (status, orjson.loads(body)["user_id"]) == (200, "first")
            assert await client.reader.read() == b""
            assert (await (await server.connect()).ask())[0] == 200

    run(main)


def test_hot_and_other_requests_take_turns_on_a_connection(package):
    async def main():
        async with Server(package) as server:
            client = await server.connect()
            for _ in range(3):
                assert (await client.ask())[0] == 200
                assert (await client.ask(b"", path="/livez", method="GET"))[0] == 200
                assert (await client.ask(row(price=-1)))[0] == 422
            assert server.load.n_begun == 3

    run(main)


@pytest.mark.parametrize(
    ("failure", "status"),
    [(ReplicaLostError("gone", 1.0), 503), (RuntimeError("secret"), 500), (InvariantError("x"), 500)],
)
def test_what_fails_behind_the_lane_is_a_problem(package, failure, status):
    async def fail() -> None:
        raise failure

    async def main():
        async with Server(package, before_predict=fail) as server:
            client = await server.connect()
            found, headers, body = await client.ask()
            assert found == status
            assert headers["content-type"] == "application/problem+json"
            assert (headers.get("retry-after") is not None) == (status == 503)
            assert orjson.loads(body)["request_id"] == "r-1"
            assert b"secret" not in body
            assert server.load.n_now == 0
            assert server.meter.problems[0][0] == "/predict_purchase"

    run(main)


def test_overload_and_deadlines_are_answered(package):
    async def main():
        release = asyncio.Event()
        limits = BatchLimits(max_rows=1, max_queued_rows=1, eager_batches=1, max_batches=1)
        async with Server(package, before_encode=release.wait, limits=limits) as server:
            clients = [await server.connect() for _ in range(3)]
            first = asyncio.create_task(clients[0].ask())
            await asyncio.sleep(0.05)
            second = asyncio.create_task(clients[1].ask(x_request_timeout_seconds="0.2"))
            await asyncio.sleep(0.05)
            status, headers, _ = await clients[2].ask()
            assert (status, headers["retry-after"]) == (503, "1")
            assert (await second)[0] == 504
            release.set()
            assert (await first)[0] == 200
            assert (await clients[1].ask())[0] == 200
            assert server.load.n_now == 0

    run(main)


def test_a_caller_who_goes_away_leaves_nothing_behind(package):
    async def main():
        release = asyncio.Event()
        async with Server(package, before_encode=release.wait) as server:
            client = await server.connect()
            client.writer.write(request())
            await asyncio.sleep(0.05)
            client.writer.transport.abort()
            await asyncio.sleep(0.05)
            assert server.load.n_now == 1
            release.set()
            await until(lambda: server.load.n_now == 0)
            assert (await (await server.connect()).ask())[0] == 200

    run(main)


def test_a_server_that_stops_answers_what_it_has(package):
    async def main():
        release = asyncio.Event()
        async with Server(package, before_encode=release.wait) as server:
            client, idle = await server.connect(), await server.connect()
            answer = asyncio.create_task(client.ask())
            await asyncio.sleep(0.05)
            server.server.should_exit = True
            assert await asyncio.wait_for(idle.reader.read(), 5) == b""
            release.set()
            assert (await answer)[0] == 200
            assert await asyncio.wait_for(client.reader.read(), 5) == b""

    run(main)


TABLE = orjson.dumps({"dataframe_records": [EXAMPLE_REQUEST] * 400})


def test_the_body_of_a_table_reaches_the_application_in_one_piece(package, monkeypatch):
    pieces: list[int] = []
    read_body = admission.read_body

    async def count(receive, headers, limit_bytes):
        async def note():
            message = await receive()
            pieces.append(len(message.get("body", b"")))
            return message

        return await read_body(note, headers, limit_bytes)

    monkeypatch.setattr(admission, "read_body", count)

    async def main():
        async with Server(package) as server:
            client = await server.connect()
            sent = request(TABLE, path="/invocations")
            for start in range(0, len(sent), 7_000):
                client.writer.write(sent[start : start + 7_000])
                await client.writer.drain()
                await asyncio.sleep(0.001)
            status, _, body = await asyncio.wait_for(client.read(), 10)
            assert (status, len(orjson.loads(body)["predictions"])) == (200, 400)
            assert pieces == [len(TABLE)]
            assert (await client.ask())[0] == 200
            assert (await client.ask(TABLE, path="/invocations"))[0] == 200

    run(main)


def test_a_body_of_unknown_length_and_one_that_stalls_are_read_as_they_come(package):
    async def main():
        async with Server(package, timeout_s=0.3) as server:
            client = await server.connect()
            head = request(b"", path="/invocations").replace(b"content-length: 0", b"transfer-encoding: chunked")
            client.writer.write(head + b"%x\r\n" % len(TABLE) + TABLE + b"\r\n0\r\n\r\n")
            assert (await asyncio.wait_for(client.read(), 10))[0] == 200
            stalled = request(TABLE, path="/invocations")[:-1]
            client.writer.write(stalled)
            status, _, body = await asyncio.wait_for(client.read(), 10)
            assert (status, orjson.loads(body)["type"]) == (504, "urn:scorecat:problem:deadline-exceeded")

    run(main)


def test_a_body_that_is_refused_before_it_came_is_not_kept(package):
    async def main():
        async with Server(package) as server:
            client = await server.connect()
            client.writer.write(request(TABLE, path="/invocations", content_type="text/html")[:5_000])
            assert (await asyncio.wait_for(client.read(), 10))[0] == 415
            too_large = request(b"", path="/invocations").replace(b"length: 0", b"length: 99000000")
            client = await server.connect()
            client.writer.write(too_large)
            assert (await asyncio.wait_for(client.read(), 10))[0] == 413

    run(main)
