"""The proof of no skew: it finds nothing where there is nothing, and every kind of difference where there is one."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter

import httpx
import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from serve_app.cli import app
from serve_app.cli.history import features
from serve_app.client import AsyncClient
from serve_app.errors import InvariantError, NotReadyError
from serve_app.events.adapters.log_writer import LogWriter
from serve_app.events.core.event_rows import EVENT_TYPES
from serve_app.events.service.partitions import LogSummary, read_partitions
from serve_app.events.service.synthetic import generate_events
from serve_app.skew.expected import SCORE, FeatureDifference
from serve_app.skew.report import KEPT, SkewReport
from serve_app.skew.verify import WEEK_S, plan_steps, shift_of
from serve_app.skew.verify_log import PartVerifier
from serve_app.storage.json_file import ProgressFile
from serve_app.terminal import console
from serve_app.terminal.interrupts import run_gently
from tests.testing_kit.history.live import LiveService, TestableHistory

pytestmark = pytest.mark.unit

N = 200
NOW_S = 1_790_000_000


def make_log(n: int, seed: int = 0) -> pa.RecordBatch:
    """A generated log with users of many events, null categories, and everything shuffled over few sessions."""
    batch = pa.Table.from_batches(list(generate_events(n, seed=seed))).combine_chunks().to_batches()[0]
    rng = np.random.default_rng(seed)
    users = pa.array([str(u) for u in rng.integers(0, max(1, n // 25), n)])
    sessions = pa.array([f"s{s}" for s in rng.integers(0, 3, n)])
    kinds = pa.array(EVENT_TYPES).take(pa.array(rng.choice(3, n, p=[0.8, 0.1, 0.1])))
    categories = [None if gone else value for gone, value in zip(
        rng.random(n) < 0.3, batch.column("category_id").to_pylist(), strict=True)]  # fmt: skip
    changes = {"user_id": users, "user_session": sessions, "event_type": kinds, "category_id": pa.array(categories)}
    for name, column in changes.items():
        batch = batch.set_column(batch.schema.get_field_index(name), name, column)
    return batch


class Log:
    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch

    def batches(self):
        yield self._batch


@pytest.fixture(scope="module")
def part():
    summary = LogSummary()
    (partition,) = read_partitions(Log(make_log(N)), None, summary)
    return partition, summary


class Shop(httpx.AsyncBaseTransport):
    """The real routes over states in memory; `spoil` changes an answer with a score, to be found out."""

    def __init__(self, package) -> None:
        self.package = package
        self.history = TestableHistory()
        self.history.now_s = NOW_S
        self.spoil = lambda answer: answer
        self.rejects_at = 0
        self.n_requests = 0

    @property
    def known(self):
        return self.history._store.known

    async def __aenter__(self):
        self.service = await LiveService(self.package, self.history).__aenter__()
        self.routes = self.service.client._transport
        return self

    async def __aexit__(self, *args) -> None:
        await self.service.__aexit__(*args)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.n_requests += 1
        answer = await self.routes.handle_async_request(request)
        if request.url.path == "/v1/events":
            return answer
        if self.n_requests == self.rejects_at:
            errors = [{"pointer": "/price", "detail": "above 9"}]
            return httpx.Response(422, json={"type": "urn:scorecat:problem:invalid-row", "errors": errors})
        body = self.spoil(json.loads(await answer.aread()))
        headers = {"x-model-version": answer.headers["x-model-version"]}
        return httpx.Response(answer.status_code, json=body, headers=headers)

    async def aclose(self) -> None:
        """Stay open: the client that used it is closed before the service is."""


@pytest.fixture
def shop(package):
    return Shop(package)


def run(part, shop, prefix="verify-x-", concurrency=8, now_s=NOW_S, **options) -> SkewReport:
    partition, summary = part

    async def main():
        async with shop, AsyncClient("http://shop", transport=shop, retries=0) as client:
            verifier = PartVerifier(partition, summary, lambda version: shop.package, 1, lambda: None, **options)
            return await verifier.run(client, concurrency, prefix, shift_of(summary.last_s, now_s))

    return asyncio.run(main())


def test_a_service_that_agrees_differs_nowhere_null_categories_too(part, shop):
    report = run(part, shop)
    n_rows = int((part[0].table.column("event_type").to_numpy() < 2).sum())
    assert (report.n_rows, report.n_purchases) == (n_rows, N - n_rows)
    assert report.differences == []
    assert report.n_values == n_rows * 45  # 22 features beside table and matrix, and the score
    assert shop.n_requests == N


def test_histories_of_others_change_nothing_and_are_not_changed(part, shop):
    run(part, shop, "verify-first-")
    before = dict(shop.known.users)
    categories = dict(shop.known.categories)
    assert run(part, shop, "verify-second-").n_differences == 0
    assert {key: shop.known.users[key] for key in before} == before
    assert {key: shop.known.categories[key] for key in categories} == categories


def spoil_feature(name, change):
    def spoil(answer):
        feature = answer["features"][name]
        feature["value"] = change(feature["value"])
        return answer

    return spoil


@pytest.mark.parametrize(
    ("name", "change", "against"),
    [
        ("total_sessions", lambda v: v + 1, {"table", "matrix"}),
        ("avg_price_viewed", lambda v: float(np.nextafter(np.float32(v), np.float32(9e9))), {"table", "matrix"}),
        ("hour", lambda v: (v + 1) % 24, {"table", "matrix"}),
        ("brand", lambda v: f"{v}x", {"table"}),
    ],
)
def test_a_value_that_is_off_by_one_bit_is_found_in_every_row(part, shop, name, change, against):
    shop.spoil = spoil_feature(name, change)
    report = run(part, shop)
    assert report.by_feature == {name: report.n_rows * len(against)}
    assert {d.against for d in report.differences} == against
    first = min(report.differences, key=lambda d: d.position)
    assert first.expected != first.got


def test_a_score_that_is_off_by_one_bit_is_found(part, shop):
    shop.spoil = lambda a: a | {"purchase_probability": float(np.nextafter(a["purchase_probability"], 1))}
    report = run(part, shop)
    assert report.by_feature == {SCORE: report.n_rows}


def test_a_default_is_a_difference_even_when_its_value_is_right(part, shop):
    def spoil(answer):
        answer["features"]["total_purchases"]["source"] = "default"
        return answer

    shop.spoil = spoil
    report = run(part, shop)
    assert report.by_feature == {"total_purchases": report.n_rows}
    assert report.differences[0].got.endswith("from default")


def test_a_service_that_takes_a_null_category_for_the_last_one_is_found_out(part, shop, monkeypatch):
    monkeypatch.setattr("serve_app.http.row.row_body.NO_CATEGORY", None)
    found = set(run(part, shop).by_feature)
    assert "unique_categories" in found
    assert found <= {"unique_categories", SCORE}


def test_a_row_that_should_not_be_rejected_is_a_difference(part, shop):
    shop.rejects_at = 5
    differences = [d for d in run(part, shop, concurrency=1).differences if not d.feature]
    assert [d.got for d in differences] == ["rejected: /price above 9"]


def test_a_store_that_is_late_is_asked_again_and_counts_nothing_twice(part, shop):
    class LateError(NotReadyError):
        n_left = 7

        def __bool__(self) -> bool:
            self.n_left -= 1
            return self.n_left >= 0

    shop.history.fault = LateError("busy", 1.0)
    report = run(part, shop)
    assert report.n_unavailable > 0
    assert (report.n_differences, report.n_rows + report.n_purchases) == (0, N)


def test_a_store_that_stays_down_ends_the_run(part, shop):
    shop.history.fault = NotReadyError("gone", 1.0)
    with pytest.raises(NotReadyError, match="did not answer in 2 tries"):
        run(part, shop, n_tries=2, wait_s=0.0)


def test_an_event_that_is_not_recorded_ends_the_run_with_the_reason(part, shop):
    shop.history._retention_s = 10
    with pytest.raises(InvariantError, match="refused"):
        run(part, shop)


def test_each_user_s_events_are_sent_in_order_and_users_side_by_side(part):
    partition, _ = part
    users = plan_steps(partition, "p-", WEEK_S)
    assert sum(map(len, users)) == N
    assert len(users) == len(set(partition.events.user.tolist()))
    assert [len(u) for u in users] == sorted((len(u) for u in users), reverse=True)
    for steps in users:
        bodies = [json.loads(s.body) if s.row is not None else s.event for s in steps]
        assert len({body["user_id"] for body in bodies}) == 1
        assert all(body["user_id"].startswith("p-") and body["event_id"].startswith("p-") for body in bodies)
        rows = [s.row for s in steps if s.row is not None]
        assert rows == sorted(rows)
    kinds = Counter(s.row is None for steps in users for s in steps)
    assert kinds[True] == int((partition.table.column("event_type").to_numpy() == 2).sum())


@pytest.mark.parametrize("last_s", [0, 1_570_000_000, int(NOW_S), int(NOW_S) + 3 * WEEK_S + 5])
def test_a_log_is_moved_by_whole_weeks_into_the_last_one(last_s):
    shift_s = shift_of(last_s, int(NOW_S))
    assert shift_s % WEEK_S == 0
    assert 0 <= NOW_S - (last_s + shift_s) < WEEK_S


def test_a_report_survives_its_record_and_keeps_few_differences():
    report = SkewReport(n_rows=3, versions={2, 1})
    for k in range(3 * KEPT):
        report.add_row(1, [FeatureDifference(k, "price", "table", 1.0, 2.0)])
    again = SkewReport.from_json(json.loads(json.dumps(report.to_json())))
    assert again == report
    assert (len(again.differences), again.n_differences) == (KEPT, 3 * KEPT)
    again.add(report)
    assert (len(again.differences), again.n_rows) == (KEPT, 2 * report.n_rows)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_work_that_a_signal_ends_leaves_no_traceback(number, monkeypatch):
    def handler(number, _):
        raise KeyboardInterrupt

    reported = []
    before = signal.signal(signal.SIGTERM, handler)
    before_int = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the run is in the background

    async def busy():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        asyncio.get_running_loop().call_later(0.05, signal.raise_signal, number)
        await asyncio.gather(*(asyncio.sleep(60) for _ in range(3)))

    try:
        with pytest.raises(KeyboardInterrupt):
            run_gently(busy())
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, before_int)
    assert reported == []


def test_where_no_terminal_is_progress_is_a_line_now_and_then(monkeypatch, capsys):
    lines = console.Lines()
    lines.show(lambda: "too early")
    monkeypatch.setattr(console, "LINE_S", 0.0)
    lines.show(lambda: "7 of 9 events")
    assert capsys.readouterr().err == "7 of 9 events\n"


def test_an_interrupted_run_goes_on_with_the_users_that_are_not_done(tmp_path, shop, monkeypatch):
    monkeypatch.setenv("SCORECAT_HOME", str(tmp_path / "home"))
    with LogWriter(tmp_path / "log.parquet") as writer:
        writer.write(make_log(N, seed=2))
    monkeypatch.setattr("serve_app.skew.verify_run.PART_EVENTS", 50)  # in parts
    monkeypatch.setattr(features, "check_present", lambda url: None)
    monkeypatch.setattr(features, "_read_served", lambda url: ("purchase", 1))
    monkeypatch.setattr(features, "open_packages", lambda *_: lambda version: shop.package)
    parts = []

    async def send(verifier, url, concurrency, prefix, shift_s):
        if len(parts) == stop_at:
            raise KeyboardInterrupt
        parts.append(prefix)
        async with shop, AsyncClient(url, transport=shop, retries=0) as client:
            await verifier.run(client, concurrency, prefix, shift_s)

    monkeypatch.setattr(features, "_send_part", send)
    monkeypatch.setattr(features.time, "time", lambda: NOW_S)
    command = ["features", "verify", str(tmp_path / "log.parquet"), "--url", "http://shop", "--json"]
    stop_at = 0
    none = CliRunner().invoke(app, [*command[:-1]])
    assert (none.exit_code, none.stdout) == (130, "nothing was compared\n")
    assert "interrupted: the same command begins again" in none.stderr
    stop_at = 3
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 130
    assert json.loads(first.stdout)["complete"] is False
    stop_at = -1
    second = CliRunner().invoke(app, command)
    found = json.loads(second.stdout)
    assert (second.exit_code, found["complete"], found["different"]) == (0, True, 0)
    assert found["rows"] + found["purchases"] == N
    assert len(set(parts)) == 2  # each start under ids of its own
    assert found["prefixes"][1:] == list(dict.fromkeys(parts))
    (record,) = (tmp_path / "home" / "verify").iterdir()
    assert ProgressFile(record).read()["prefixes"] == found["prefixes"]
