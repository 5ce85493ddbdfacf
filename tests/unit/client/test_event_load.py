"""Back-filling a log: what is sent, that every line is one event for ever, and where a load goes on."""

from __future__ import annotations

import json

import httpx
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from serve_app.cli import app
from serve_app.cli.traffic import events
from serve_app.client import Client
from serve_app.client.events import STATUSES
from serve_app.client.frames import MEDIA_TYPE
from serve_app.client.logs.event_load import REASONS, EventLoadReport
from serve_app.client.logs.log_events import split_log
from serve_app.errors import BadRequestError, InvariantError, NotReadyError
from serve_app.events.adapters.log_files import EventLog
from serve_app.events.adapters.log_writer import LogWriter
from serve_app.events.core.event_rows import drop_unsendable
from serve_app.events.service.synthetic import generate_events
from serve_app.features.core.row_keys import PUBLISHED_COLUMNS
from serve_app.storage.json_file import ProgressFile

pytestmark = pytest.mark.unit

URL = "http://shop:8000"
LINES = """event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session
2019-10-05 22:15:00 UTC,view,1,10,electronics.audio,sony,12.50,100,s-1
,view,1,10,,,1.00,100,s-1
2019-10-06 00:00:00 UTC,cart,2,,,,0.00,100,s-1
2019-10-07 00:00:00 UTC,purchase,2,10,,,1.00,100,s-1
"""


class Shop:
    """Keeps events by id, as the service does."""

    def __init__(self) -> None:
        self.events: dict[str, dict] = {}
        self.sizes: list[int] = []
        self.dies_after: int | None = None
        self.interrupts_after: int | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/livez":
            return httpx.Response(200)
        assert (request.url.path, request.headers["content-type"]) == ("/v1/events", MEDIA_TYPE)
        if self.interrupts_after is not None and len(self.sizes) == self.interrupts_after:
            raise KeyboardInterrupt
        if self.dies_after is not None and len(self.sizes) == self.dies_after:
            raise httpx.ConnectError("refused")
        rows = pa.ipc.open_stream(request.content).read_all().to_pylist()
        self.sizes.append(len(rows))
        counts, errors = dict.fromkeys(STATUSES, 0), []
        for index, row in enumerate(rows):
            status = "recorded"
            if row["price"] <= 0:
                status = "dropped"
                errors.append({"index": index, "status": status, "detail": "price not above 0"})
            elif row["event_id"] in self.events:
                status = "duplicate"
            else:
                self.events[row["event_id"]] = row
            counts[status] += 1
        return httpx.Response(202, json={**counts, "errors": errors})


@pytest.fixture
def shop(monkeypatch, tmp_path) -> Shop:
    shop = Shop()
    transport = httpx.MockTransport(shop)
    make = lambda url, timeout_s, retries: Client(url, timeout_s, 0, transport=transport)  # noqa: E731
    monkeypatch.setattr(events, "Client", make)
    monkeypatch.setattr(events, "check_present", lambda url: None)
    monkeypatch.setenv("SCORECAT_HOME", str(tmp_path / "home"))
    return shop


def load(path, *options):
    return CliRunner().invoke(app, ["events", "load", str(path), "--url", URL, "--json", *options])


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.csv"
    path.write_text(LINES)
    return path


@pytest.fixture
def large(tmp_path):
    with LogWriter(tmp_path / "large.parquet") as writer:
        for batch in generate_events(5000, seed=4):
            writer.write(batch)
    return writer.path


def test_lines_are_sent_as_they_are_with_an_id_of_file_and_line(small):
    (part,) = split_log(EventLog(small).batches(), "0123456789abcdef0123456789abcdef", drop_unsendable)
    assert set(part.table.column_names) == {*PUBLISHED_COLUMNS, "event_id"}
    assert (part.n_lines, part.lines.tolist()) == (4, [0, 2, 3])  # a line without time is no event of a log
    first = part.table.to_pylist()[0]
    assert first["event_id"] == "0123456789abcdef0123:0"
    assert (first["event_time"].isoformat(), first["price"]) == ("2019-10-05T22:15:00+00:00", 12.5)
    assert [row["category_id"] for row in part.table.to_pylist()] == ["10", None, "10"]


def test_ids_of_the_log_are_kept_and_its_lines_without_one_get_one(small):
    batch = next(EventLog(small).batches()).append_column("event_id", pa.array(["a", "b", None, "d"]))
    (part,) = split_log([batch], "f" * 64, drop_unsendable)
    assert part.table.column("event_id").to_pylist() == ["a", f"{'f' * 20}:2", "d"]


@pytest.mark.parametrize("first_line", [0, 1, 999, 1000, 2500, 4999, 5000, 9000])
def test_a_log_is_cut_the_same_wherever_a_load_goes_on(large, first_line):
    batches = list(EventLog(large).batches())
    batches = [b.slice(at, 700) for b in batches for at in range(0, b.num_rows, 700)]
    ids = [f"{'d' * 20}:{line}" for line in range(5000)]
    parts = list(split_log(batches, "d" * 64, drop_unsendable, first_line, size=300))
    assert [i for part in parts for i in part.table.column("event_id").to_pylist()] == ids[first_line:]
    assert all(0 < part.n_lines <= 300 for part in parts)


def test_a_load_sends_every_line_once_and_counts_what_became_of_each(shop, small):
    done = load(small)
    facts = json.loads(done.stdout)
    assert done.exit_code == 0
    assert {status: facts[status] for status in STATUSES} == {
        "recorded": 2, "duplicate": 0, "dropped": 2, "conflict": 0, "refused": 0, "rejected": 0
    }  # fmt: skip
    assert facts["reasons"] == [
        {"status": "dropped", "detail": "price not above 0", "events": 1, "lines": ["small.csv:3"]},
        {"status": "dropped", "detail": "no event_time", "events": 1, "lines": ["small.csv"]},
    ]
    assert [e["event_type"] for e in shop.events.values()] == ["view", "purchase"]


def test_the_same_command_goes_on_where_an_interrupt_stopped_it(shop, large):
    shop.interrupts_after = 1
    done = load(large)
    assert (done.exit_code, json.loads(done.stdout)["recorded"]) == (130, 2000)
    shop.interrupts_after = None
    done = load(large)
    facts = json.loads(done.stdout)
    assert (done.exit_code, facts["recorded"], facts["skipped"]) == (0, 3000, 2000)
    assert shop.sizes == [2000, 2000, 1000]
    assert len(shop.events) == 5000
    assert json.loads(load(large).stdout)["skipped"] == 5000
    again = json.loads(load(large, "--from-start").stdout)
    assert (again["duplicate"], again["recorded"], len(shop.events)) == (5000, 0, 5000)


def test_a_service_that_goes_away_loses_nothing(shop, large):
    shop.dies_after = 2
    done = load(large)
    assert isinstance(done.exception, NotReadyError)
    assert "4,000 lines were sent" in done.stderr
    shop.dies_after = None
    assert json.loads(load(large).stdout)["recorded"] == 1000


def test_a_folder_that_grew_sends_only_the_new_file(shop, tmp_path, large):
    folder = tmp_path / "months"
    folder.mkdir()
    large.rename(folder / "1.parquet")
    assert json.loads(load(folder).stdout)["recorded"] == 5000
    (folder / "2.csv").write_text(LINES)
    facts = json.loads(load(folder).stdout)
    assert (facts["recorded"], facts["skipped"]) == (2, 5000)


def test_an_event_that_is_refused_makes_the_load_fail(shop, small, monkeypatch):
    body = {**dict.fromkeys(STATUSES, 0), "refused": 2, "recorded": 1}
    body["errors"] = [
        {"index": k, "status": "refused", "detail": f"event_time is 2,{k}00.5 days ago; beyond 30 days nothing is kept"}
        for k in range(2)
    ]
    transport = httpx.MockTransport(lambda request: httpx.Response(202, json=body))
    monkeypatch.setattr(events, "Client", lambda *_: Client(URL, transport=transport))
    done = load(small)
    assert done.exit_code == 1
    refused = json.loads(done.stdout)["reasons"][0]
    assert (refused["events"], refused["lines"]) == (2, ["small.csv:1", "small.csv:3"])  # one reason, whatever numbers


def test_reasons_are_bounded():
    report = EventLoadReport()
    for k in range(3 * REASONS):
        report.add_reason("refused", "x" * k, str(k))
    assert len(report.reasons) <= REASONS + 1
    assert sum(r.n for r in report.reasons.values()) == 3 * REASONS


def test_a_rate_is_kept(small):
    from serve_app.client.logs.event_load import EventLoad

    class Time:
        at = 0.0

        def sleep(self, seconds):
            self.at += seconds

    time, shop = Time(), Shop()
    with Client(URL, transport=httpx.MockTransport(shop)) as client:
        run = EventLoad(client, EventLoadReport(), 2.0, lambda: time.at, time.sleep)
        run.send("x", split_log(EventLog(small).batches(), "d" * 64, drop_unsendable, size=1), lambda n: None)
    assert time.at == pytest.approx(1.5)  # four lines, one after the other


def test_events_without_id_are_not_sent_again_when_a_connection_was_lost():
    tries = []

    def lose(request):
        tries.append(request)
        raise httpx.ReadError("lost")

    with Client(URL, transport=httpx.MockTransport(lose), sleep=lambda s: None) as client:
        event = {"user_id": "u"}
        for given, n in ((event, 1), ([{**event, "event_id": "e"}], 4), ([event, {**event, "event_id": "e"}], 1)):
            tries.clear()
            with pytest.raises(NotReadyError):
                client.send_events(given)
            assert len(tries) == n


@pytest.mark.parametrize("body", [b"no", b"[]", b"{}", json.dumps(dict.fromkeys(STATUSES, 1)).encode()])
def test_an_answer_that_does_not_account_for_every_event_is_no_answer(body):
    transport = httpx.MockTransport(lambda request: httpx.Response(202, content=body))
    with Client(URL, transport=transport) as client, pytest.raises(InvariantError):
        client.send_events({"user_id": "u", "event_id": "e"})
    with Client(URL, transport=transport) as client, pytest.raises(BadRequestError):
        client.send_events(7)


def test_a_record_that_is_none_is_named(tmp_path):
    record = ProgressFile(tmp_path / "deep" / "record.json")
    assert record.read() is None
    record.write({"lines": 3})
    assert record.read() == {"lines": 3}
    record.path.write_text("torn{")
    with pytest.raises(InvariantError, match=r"record\.json.*remove it"):
        record.read()
