"""Replay: what is sent, how it is counted, and when a row was due. Time is virtual."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from serve_app.cli import app
from serve_app.client import AsyncClient, Clocks
from serve_app.client.logs.log_rows import CHUNK_ROWS, encode_log
from serve_app.client.logs.replay import GIVE_UP_AFTER, SCORE_EDGES, Latencies, ReplayReport, read_ahead, replay
from serve_app.errors import InvalidDataError, NotReadyError
from serve_app.events.adapters.log_files import EventLog
from serve_app.events.adapters.log_writer import LogWriter
from serve_app.events.service.synthetic import generate_events
from serve_app.http.row.row_body import parse_row
from tests.testing_kit import run_virtual

pytestmark = pytest.mark.unit

LINES = """event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session
2019-10-05 22:15:00 UTC,view,1,10,electronics.audio,sony,12.50,100,s-1
2019-10-05 22:16:00 UTC,purchase,1,10,electronics.audio,sony,12.50,100,s-1
2019-10-06 00:00:00 UTC,cart,2,,,,0.00,100,s-1
2019-10-07 00:00:00 UTC,remove_from_cart,2,10,,,1.00,100,s-1
2019-10-07 00:00:00 UTC,view,2,10,,,1.00,100,
"""


@pytest.fixture
def log(tmp_path) -> EventLog:
    path = tmp_path / "events.csv"
    path.write_text(LINES)
    return EventLog(path)


def test_views_and_carts_are_sent_as_they_are(log):
    rows = [json.loads(row) for chunk in encode_log(log.batches()) for row in chunk]
    assert len(rows) == 3
    assert rows[0] == {
        "user_id": "100", "session_id": "s-1", "product_id": "1", "category_id": "10",
        "category_code": "electronics.audio", "brand": "sony", "price": 12.5,
        "hour": 22, "day_of_week": 5, "is_weekend": 1, "event_time": "2019-10-05T22:15:00Z",
    }  # fmt: skip
    assert (rows[1]["price"], rows[1]["brand"], rows[1]["is_weekend"]) == (0.0, None, 1)
    assert (rows[2]["session_id"], rows[2]["day_of_week"], rows[2]["is_weekend"]) == (None, 0, 0)
    assert parse_row(json.dumps(rows[0]).encode())["event_time"] == datetime(2019, 10, 5, 22, 15, tzinfo=UTC)


@pytest.mark.parametrize("name", ["events.csv", "events.csv.gz", "events.parquet"])
def test_every_form_of_a_log_gives_the_same_rows(tmp_path, name):
    batch = next(iter(generate_events(3000, seed=1)))
    with LogWriter(tmp_path / name) as writer:
        writer.write(batch)
    chunks = list(encode_log(EventLog(tmp_path / name).batches()))
    expected = sum(kind in {"view", "cart"} for kind in batch.column("event_type").to_pylist())
    assert sum(map(len, chunks)) == expected
    assert max(map(len, chunks)) <= CHUNK_ROWS
    for row in chunks[0]:
        assert parse_row(row)["price"] > 0


def test_a_line_without_a_time_is_left_to_the_service(log):
    batch = next(log.batches())
    none = pa.nulls(batch.num_rows, pa.int64())
    (chunk,) = encode_log([batch.set_column(0, "event_time", none)])
    row = json.loads(chunk[0])
    assert (row["hour"], row["day_of_week"], row["is_weekend"], row["event_time"]) == (None, None, None, None)


def answer(row: dict) -> httpx.Response:
    if row["price"] <= 0:
        errors = [{"pointer": "/price", "detail": "above 0"}]
        return httpx.Response(422, json={"type": "urn:scorecat:problem:invalid-row", "detail": "d", "errors": errors})
    body = {"user_id": None, "purchase_probability": row["price"] / 100, "recommendation": "low"}
    return httpx.Response(200, json=body)


async def send(rows, handler, report, *, chunk: int = 3, reading_s: float = 0.0, retries: int = 3, **options) -> None:
    async def chunks():
        for start in range(0, len(rows), chunk):
            await asyncio.sleep(reading_s)
            yield [json.dumps(row).encode() for row in rows[start : start + chunk]]

    transport = httpx.MockTransport(handler)
    clocks = Clocks(asyncio.get_running_loop().time, lambda: 0.0, lambda: 0.0)
    async with AsyncClient("http://shop", 60.0, retries, transport=transport, clocks=clocks) as client:
        await replay(client, chunks(), report, **options)


def run(rows, handler, **options) -> ReplayReport:
    report = ReplayReport()
    run_virtual(send(rows, handler, report, **options))
    return report


def rows_with(*prices: float) -> list[dict]:
    return [{"price": price} for price in prices]


def slow(seconds: float):
    async def handler(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(seconds)
        return answer(json.loads(request.content))

    return handler


@pytest.mark.parametrize("concurrency", [1, 4, 64])
def test_every_row_is_sent_once_and_counted_once(concurrency):
    seen = []

    async def handler(request):
        row = json.loads(request.content)
        seen.append(row["price"])
        await asyncio.sleep(0.01)
        return httpx.Response(500) if row["price"] == 13 else answer(row)

    report = run(rows_with(*range(20)), handler, concurrency=concurrency)
    assert sorted(seen) == list(range(20))
    assert (report.n_sent, report.n_answered, report.n_rejected, report.n_failed) == (20, 18, 1, 1)
    assert report.rejections == {"/price": 1}
    assert report.failures == {"internal": 1}
    assert report.latencies.n == 20


def test_limit_is_the_number_of_rows_sent():
    report = run(rows_with(*range(1, 20)), slow(0.1), concurrency=4, limit=7)
    assert (report.n_sent, report.n_answered) == (7, 7)


def test_a_refusal_with_retry_after_is_sent_again_and_counted():
    refused = [httpx.Response(503, headers={"retry-after": "2"})]

    async def handler(request):
        return refused.pop() if refused else answer(json.loads(request.content))

    report = run(rows_with(1, 2), handler, concurrency=1)
    assert (report.n_answered, report.n_failed, report.n_retried) == (2, 0, 1)
    assert report.latencies.max_s == pytest.approx(2.0)


def test_a_closed_loop_sends_when_answers_come():
    report = run(rows_with(*[1] * 12), slow(0.5), concurrency=4)
    assert report.seconds == pytest.approx(1.5)
    assert report.rows_per_s == pytest.approx(8.0)
    assert report.latencies.quantile_s(0.99) == pytest.approx(0.5, rel=0.01)


def test_an_open_loop_keeps_its_rate():
    report = run(rows_with(*[1] * 11), slow(0.01), concurrency=4, rate=10)
    assert report.seconds == pytest.approx(1.01)
    assert report.latencies.max_s == pytest.approx(0.01)


def test_at_a_rate_a_row_waits_since_it_was_due_not_since_it_was_sent():
    report = run(rows_with(*[1] * 10), slow(1.0), concurrency=1, rate=10)
    assert report.latencies.max_s == pytest.approx(10 - 0.9)
    assert report.latencies.quantile_s(0.1) == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_what_reading_the_log_delays_is_no_latency_of_the_service(concurrency):
    report = run(rows_with(*[1] * 10), slow(0.01), concurrency=concurrency, rate=10, chunk=5, reading_s=3.0)
    assert report.latencies.max_s == pytest.approx(0.01)
    assert report.seconds == pytest.approx(3.65, abs=0.2)  # 0.9 s, and 3 s of reading, some of it beside the waits


def test_an_absent_service_is_given_up_soon():
    async def handler(request):
        raise httpx.ConnectError("refused")

    report = run(rows_with(*[1] * 1000), handler, concurrency=8)
    assert report.is_hopeless
    assert GIVE_UP_AFTER <= report.n_failed <= 16
    assert "refused" in str(report.last_failure)


def test_a_log_that_breaks_off_ends_the_replay_after_the_rows_under_way():
    async def main():
        async def chunks():
            yield [b'{"price":1}'] * 5
            raise InvalidDataError("the file is cut")

        report = ReplayReport()
        async with AsyncClient("http://shop", transport=httpx.MockTransport(slow(0.1))) as client:
            with pytest.raises(InvalidDataError, match="cut"):
                await replay(client, chunks(), report, concurrency=3)
        assert report.n_answered == 5

    run_virtual(main())


def test_the_report_holds_what_is_known_when_it_is_interrupted():
    report = ReplayReport()

    async def main():
        task = asyncio.create_task(send(rows_with(*[1] * 100), slow(1.0), report, concurrency=2))
        await asyncio.sleep(5.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_virtual(main())
    assert (report.n_sent, report.n_answered) == (12, 10)
    assert report.to_json()["rows_per_s"] == pytest.approx(2.0)


def test_quantiles_are_exact_to_1_percent():
    latencies = Latencies()
    assert latencies.quantile_s(0.5) is None
    for ms in range(1, 1001):
        latencies.add(ms / 1e3)
    for share in (0.001, 0.5, 0.9, 0.99, 1.0):
        assert latencies.quantile_s(share) == pytest.approx(share, rel=0.01)
    assert latencies.max_s == 1.0
    latencies.add(0.0)


def test_scores_fall_into_their_bins():
    report = ReplayReport()
    for score in (0.0, 0.0099, 0.01, 0.5, 0.7, 0.99, 1.0):
        report.add_score(score)
    assert [b["from"] for b in report.to_json()["scores"]] == list(SCORE_EDGES[:-1])
    assert report.scores == [2, 1, 0, 0, 0, 0, 1, 3]


def test_reading_ahead_keeps_order_and_hands_on_errors():
    def numbers() -> Iterator[int]:
        yield from range(1, 5)
        raise InvalidDataError("cut")

    async def main():
        ahead = read_ahead(numbers())
        assert [await anext(ahead) for _ in range(4)] == [1, 2, 3, 4]
        with pytest.raises(InvalidDataError):
            await anext(ahead)

    asyncio.run(main())


def test_the_command_names_a_missing_log_and_a_wrong_rate(tmp_path):
    runner = CliRunner()
    assert runner.invoke(app, ["replay", str(tmp_path / "none.csv")]).exit_code != 0
    assert runner.invoke(app, ["replay", "x.csv", "--rate", "0"]).exit_code == 2


def test_the_command_says_at_once_that_nothing_is_there(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    (tmp_path / "x.csv").write_text("event_time,event_type\n")
    done = CliRunner().invoke(app, ["replay", str(tmp_path / "x.csv"), "--url", url])
    assert isinstance(done.exception, NotReadyError)
    assert f"nothing answers on {url}: start it with `scorecat up`" in str(done.exception)
