"""Live history over HTTP: events in, features out, the scored row observed, and a store that fails."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve_app.errors import NotReadyError, UnknownOutcomeError
from serve_app.features.core.specs import HISTORY_NAMES
from serve_app.history.service.intake import MAX_ERRORS, MAX_EVENTS
from serve_app.http.app import create_app
from tests.testing_kit import MemoryAccessLog, make_scorer, make_traffic
from tests.testing_kit.history.live import LiveService, TestableHistory

pytestmark = pytest.mark.unit

ROW = {
    "user_id": "anna", "session_id": "s1", "product_id": "p1", "price": 20.0, "hour": 7, "day_of_week": 2,
    "is_weekend": 0, "event_time": "2019-10-02T07:06:40Z", "category_id": "c1",
}  # fmt: skip
JSON, NDJSON, ARROW = "application/json", "application/x-ndjson", "application/vnd.apache.arrow.stream"


def event(n: int = 0, **changes) -> dict:
    fields = {
        "event_time": "2019-10-02 07:00:00 UTC", "event_type": "view", "product_id": f"p{n}", "category_id": "c1",
        "category_code": "electronics", "brand": "acme", "price": 10.0, "user_id": "anna", "user_session": "s1",
        "event_id": f"e{n}",
    }  # fmt: skip
    return fields | changes


def live(package, work, **options):
    """Run a coroutine function with a service."""

    async def main():
        async with LiveService(package, **options) as service:
            return await work(service)

    return asyncio.run(main())


async def recovered(service) -> None:
    for _ in range(500):
        if not service.reader.is_down:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the store was not tried again")


def value(detail: dict, name: str) -> tuple[float, str]:
    return detail["features"][name]["value"], detail["features"][name]["source"]


def test_a_score_knows_what_was_recorded_and_says_where_each_value_came_from(package):
    async def work(service):
        before = await service.predict(**ROW)
        assert before["history"] == {"status": "new"}
        assert value(before, "total_events_x") == (1.0, "state")
        assert (await service.send(event(1), event(2, event_type="purchase", price=40.0)))["recorded"] == 2
        after = await service.predict(**ROW, total_events_y=50.0)
        assert after["history"] == {"status": "found"}
        assert value(after, "total_events_x") == (3.0, "state")
        assert value(after, "total_events_y") == (50.0, "request")
        assert value(after, "max_price") == (40.0, "state")
        assert value(after, "total_purchases") == (1.0, "state")
        assert value(after, "session_duration")[0] == pytest.approx(400 / 60)
        assert after["n_defaulted"] == 2  # brand and category_code
        assert after["purchase_probability"] != before["purchase_probability"]
        assert service.encoder.batches[-1].num_columns < 20

    live(package, work)


def test_a_row_that_brings_everything_or_names_no_user_is_not_looked_up(package):
    async def work(service):
        full = await service.predict(**ROW, **dict.fromkeys(HISTORY_NAMES, 1.0))
        assert full["history"] == {"status": "given"}
        nobody = await service.predict(**ROW | {"user_id": None})
        assert nobody["history"] == {"status": "no_ids"}
        assert value(nobody, "total_events_x") == (1.0, "default")
        assert service.history.n_lookups == 0

    live(package, work)


def test_a_micro_batch_is_one_look_up(package):
    async def work(service):
        answers = await asyncio.gather(*(service.predict(**ROW | {"user_id": f"u{k}"}) for k in range(100)))
        assert {a["history"]["status"] for a in answers} == {"new"}
        assert service.history.n_lookups == len(service.encoder.batches) < 20

    live(package, work)


def test_an_observed_row_is_scored_first_then_counts_once_even_if_the_event_comes_too(package):
    async def work(service):
        first = await service.predict(**ROW, observe=True, event_id="e9")
        assert (first["x-observed"], first["observed"]["status"]) == ("recorded", "recorded")
        assert value(first, "total_events_x")[0] == 1
        again = await service.predict(**ROW, observe=True, event_id="e9")
        assert again["observed"]["status"] == "duplicate"
        assert value(again, "total_events_x")[0] == 1
        sent = await service.send(event(1, price=20.0, event_time="2019-10-02 07:06:40 UTC", event_id="e9"))
        assert (sent["duplicate"], sent["errors"]) == (1, [])
        anonymous = await service.predict(**ROW, observe=True)
        assert len(anonymous["observed"]["event_id"]) == 32
        assert value(anonymous, "total_events_x")[0] == 2
        assert value(await service.predict(**ROW), "total_events_x")[0] == 3

    live(package, work)


@pytest.mark.parametrize("row_first", [True, False])
def test_a_row_that_says_less_than_its_event_is_no_conflict_with_it(package, row_first):
    async def work(service):
        bare = {k: v for k, v in ROW.items() if k not in {"event_time", "category_id"}} | {"event_id": "e1"}
        calls = [service.predict(**bare, observe=True), service.send(event(1, price=20.0))]
        first, second = [await call for call in (calls if row_first else calls[::-1])]
        observed, sent = (first, second) if row_first else (second, first)
        assert observed["observed"]["status"] == ("recorded" if row_first else "duplicate")
        assert (sent["duplicate"], sent["recorded"]) == ((1, 0) if row_first else (0, 1))
        assert value(await service.predict(**ROW), "total_events_x")[0] == 2

    live(package, work)


def test_an_observed_row_takes_the_category_its_look_up_took_and_a_clock_set_back_stretches_nothing(package):
    async def work(service):
        await service.send(event(1, user_id="ben"))
        bare = {k: v for k, v in ROW.items() if k not in {"event_time", "category_id"}}
        await service.predict(**bare, observe=True)
        service.history.now_s -= 3600
        found = await service.predict(**bare | {"product_id": "p2"}, observe=True)
        assert value(found, "unique_categories")[0] == 1
        assert value(await service.predict(**bare), "session_duration")[0] == 0

    live(package, work)


@pytest.mark.parametrize("name", ["user_id", "session_id", "product_id", "category_id", "event_id"])
def test_a_whole_number_is_an_id_of_a_row_exactly_where_it_is_one_of_an_event(package, name):
    async def work(service):
        of_event = "user_session" if name == "session_id" else name
        largest = await service.send(event(1, **{of_event: 2**63 - 1}), event(2, **{of_event: 2**63}))
        assert (largest["recorded"], largest["rejected"]) == (1, 1)
        await service.predict(**ROW | {name: 2**63 - 1})
        for bad in (2**63, -1):
            refused = await service.client.post("/predict_purchase", json=ROW | {name: bad})
            assert refused.status_code == 422
            assert "a whole number from 0 to 2^63-1" in refused.json()["errors"][0]["detail"]

    live(package, work)


FUTURE, LONG_AGO, ANCIENT = "2099-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "2012-01-01T00:00:00Z"


@pytest.mark.parametrize(("at", "minutes"), [(FUTURE, 400 / 60), (LONG_AGO, 400 / 60), (ANCIENT, None)])
def test_a_row_of_a_time_that_cannot_be_is_as_of_the_clock_and_one_of_long_ago_as_of_then(package, at, minutes):
    async def work(service):
        await service.send(event(1))
        bare = {k: v for k, v in ROW.items() if k != "event_time"}
        now = value(await service.predict(**bare), "session_duration")[0]
        found = await service.predict(**ROW | {"event_time": at})
        table = {"dataframe_records": [ROW | {"event_time": at}]}
        answer = await service.client.post("/invocations", json=table)
        assert answer.json()["predictions"] == [found["purchase_probability"]]
        assert found["history"] == {"status": "found"}
        assert now == pytest.approx(400 / 60)
        if minutes is None:
            assert value(found, "session_duration")[0] > 1e6
        else:
            assert value(found, "session_duration")[0] == now

    live(package, work)


@pytest.mark.parametrize("media", [JSON, NDJSON, ARROW])
def test_every_form_of_body_is_the_same_events(package, media):
    async def work(service):
        events = [event(n, event_time=f"2019-10-02T07:00:0{n}Z") for n in range(5)]
        if media == ARROW:
            table = pa.Table.from_pylist(events)
            times = pa.array([1_569_999_600_000 + 1000 * n for n in range(5)], pa.timestamp("ms"))
            table = table.set_column(0, "event_time", times).set_column(2, "product_id", pa.array([*range(5)]))
            sink = io.BytesIO()
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            body = sink.getvalue()
        else:
            body = orjson.dumps(events) if media == JSON else b"\r\n".join(map(orjson.dumps, events)) + b"\n\n"
        answer = await service.client.post("/v1/events", content=body, headers={"content-type": media})
        assert answer.status_code == 202, answer.text
        assert answer.json()["recorded"] == 5
        found = await service.predict(**ROW)
        assert value(found, "total_events_x")[0] == 6
        assert value(found, "session_duration")[0] == pytest.approx(400 / 60)

    live(package, work)


def test_one_event_may_come_as_one_object(package):
    async def work(service):
        answer = await service.client.post("/v1/events", json=event(user_id=541312140, price=3))
        assert answer.status_code == 202
        assert answer.json() == {
            "recorded": 1, "duplicate": 0, "dropped": 0, "conflict": 0, "refused": 0, "rejected": 0, "errors": []
        }  # fmt: skip

    live(package, work)


BAD = [
    ({"price": 0}, "dropped", "price not above 0"),
    ({"event_type": "wish"}, "dropped", "unknown event_type"),
    ({"user_id": None}, "dropped", "no user_id"),
    ({"event_time": "2019-10-02 08:06:40 UTC"}, "refused", "ahead of this server's clock"),
    ({"event_time": "1969-10-02 08:06:40 UTC"}, "dropped", "event_time before 1970"),
    ({"event_time": "2106-02-07 06:28:15 UTC"}, "dropped", "event_time after 2099"),
    ({"event_time": "2016-10-02 08:06:40 UTC"}, "refused", "days ago"),
    ({"event_id": "e0", "price": 11.0}, "conflict", "other content"),
    ({"price": "10"}, "rejected", "price must be a number, got '10'"),
    ({"price": True}, "rejected", "price must be a number, got true"),
    ({"event_time": 1570000000}, "rejected", "event_time must be like"),
    ({"event_time": "yesterday"}, "rejected", "event_time must be like"),
    ({"event_time": "2019-13-02 08:06:40 UTC"}, "rejected", "event_time must be like"),
    ({"product_id": {"a": 1}}, "rejected", "2^63-1, got an object"),
    ({"user_session": 1.5}, "rejected", "user_session must be a string or a whole number"),
    ({"user_id": 2**63}, "rejected", f"user_id must be a string or a whole number from 0 to 2^63-1, got {2**63}"),
    ({"event_id": -1}, "rejected", "event_id must be a string or a whole number from 0 to 2^63-1, got -1"),
    ({"user_id": "Ü\N{SNOWMAN}\N{PILE OF POO}" * 3_500}, "rejected", "user_id may have 512 characters, it has 10500"),
]


def test_each_bad_event_is_named_and_the_others_count(package):
    async def work(service):
        sent = await service.send(
            event(0), *(event(100 + k) | change for k, (change, _, _) in enumerate(BAD)), event(1)
        )
        assert (sent["recorded"], sent["rejected"], sent["conflict"], sent["refused"]) == (2, 10, 1, 2)
        assert [e["index"] for e in sent["errors"]] == list(range(1, len(BAD) + 1))
        for error, (_, status, detail) in zip(sent["errors"], BAD, strict=True):
            assert error["status"] == status
            assert detail in error["detail"]
        assert value(await service.predict(**ROW), "total_events_x")[0] == 3
        assert ("/v1/events", "recorded", 2) in service.meter.events

    live(package, work, history=TestableHistory(retention_s=365 * 86_400))


def test_ids_may_hold_any_unicode(package):
    async def work(service):
        name = "\u0000 Ünï\N{SNOWMAN}\N{PILE OF POO}\u202e\ufffe"
        assert (await service.send(event(user_id=name, user_session=name, product_id=name)))["recorded"] == 1
        found = await service.predict(**ROW | {"user_id": name, "session_id": name, "product_id": name})
        assert value(found, "total_events_x")[0] == 2
        lone = b'{"event_type":"view","user_id":"\\ud800","user_session":"s","product_id":"p","price":1}'
        answer = await service.client.post("/v1/events", content=lone, headers={"content-type": JSON})
        assert answer.status_code == 400

    live(package, work)


@pytest.mark.parametrize(
    ("body", "media", "status"),
    [
        (b"", JSON, 400), (b"{", JSON, 400), (b"3", JSON, 400), (b'"text"', JSON, 400), (b"[1,2]", JSON, 422),
        (b"x\ny\n", NDJSON, 422), (b"rubbish", ARROW, 400), (b"", ARROW, 400), (b"<a/>", "text/xml", 415),
        (b"[" + b"{}," * MAX_EVENTS + b"{}]", JSON, 413), (b"{}\n" * (MAX_EVENTS + 1), NDJSON, 413),
        (b" " * (32 * 1024 * 1024 + 1), JSON, 413),
    ],
)  # fmt: skip
def test_a_bad_body_is_a_problem_and_changes_nothing(package, body, media, status):
    async def work(service):
        answer = await service.client.post("/v1/events", content=body, headers={"content-type": media})
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert (await service.send(event()))["recorded"] == 1

    live(package, work)


def test_a_bad_line_of_ndjson_is_named_and_errors_are_capped(package):
    async def work(service):
        body = b"\n".join([orjson.dumps(event()), *[b"{oops"] * 150])
        answer = await service.client.post("/v1/events", content=body, headers={"content-type": NDJSON})
        found = answer.json()
        assert (found["recorded"], found["rejected"]) == (1, 150)
        assert found["errors"][0] == {"index": 1, "status": "rejected", "detail": "is not valid JSON"}
        assert (len(found["errors"]), found["errors_omitted"], found["errors_limit"]) == (MAX_ERRORS, 50, MAX_ERRORS)

    live(package, work)


def test_requests_that_come_together_are_one_commit_and_each_hears_of_its_own(package):
    async def work(service):
        sent = await asyncio.gather(*(service.send(event(n), event(n)) for n in range(40)))
        assert [(s["recorded"], s["duplicate"]) for s in sent] == [(1, 1)] * 40
        assert service.history.n_records < 10

    live(package, work)


def test_a_store_that_fails_costs_defaults_and_no_score_and_is_left_alone_until_it_answers(package):
    async def work(service):
        await service.send(event(1))
        service.history.fault = NotReadyError("the disk is full: free space", 3.0)
        down = await service.predict(**ROW, observe=True)
        assert down["history"] == {"status": "unavailable"}
        assert value(down, "total_events_x") == (1.0, "default")
        assert (down["x-observed"], down["observed"]["detail"]) == ("unavailable", "the disk is full: free space")
        asked = service.history.n_lookups, service.history.n_records
        for _ in range(20):
            assert (await service.predict(**ROW, observe=True))["observed"]["status"] == "unavailable"
        assert service.history.n_lookups - asked[0] <= 5  # probes beside the requests
        assert service.history.n_records == asked[1]
        refused = await service.client.post("/v1/events", json=event(2))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "3")
        assert "the disk is full" in refused.json()["detail"]
        service.history.fault = UnknownOutcomeError("the writer was lost", 1.0)
        unclear = await service.client.post("/v1/events", json=event(2))
        assert (unclear.status_code, unclear.json()["title"]) == (504, "Outcome unknown")
        service.history.fault = None
        await recovered(service)
        assert value(await service.predict(**ROW), "total_events_x") == (2.0, "state")
        assert (await service.send(event(2)))["recorded"] == 1

    live(package, work)


def test_why_events_are_refused_is_logged_once_and_that_they_are_recorded_again(package, caplog):
    async def work(service):
        service.history.fault = NotReadyError("history.db is damaged: move it away", 10.0)
        for n in range(3):
            refused = await service.client.post("/v1/events", json=event(n))
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        service.history.fault = None
        await service.send(event(1))
        await service.send(event(2))

    with caplog.at_level(logging.WARNING, "scorecat.state"):
        live(package, work)
    assert [r.message for r in caplog.records] == [
        "events are not recorded: history.db is damaged: move it away", "events are recorded again",
    ]  # fmt: skip


def test_a_store_that_hangs_is_waited_for_once_and_not_by_everybody(package):
    class Slow(TestableHistory):
        delay_s = 0.0

        def lookup(self, rows):
            time.sleep(self.delay_s)
            return super().lookup(rows)

    async def work(service):
        service.history.delay_s = 0.4
        started = time.monotonic()
        assert (await service.predict(**ROW))["history"] == {"status": "unavailable"}
        answers = await asyncio.gather(*(service.predict(**ROW) for _ in range(30)))
        assert time.monotonic() - started < 0.35
        assert {a["history"]["status"] for a in answers} == {"unavailable"}
        service.history.delay_s = 0.0
        await recovered(service)
        assert (await service.predict(**ROW))["history"] == {"status": "new"}

    live(package, work, history=Slow(), timeout_s=0.05)


def test_without_state_scores_use_defaults_and_events_are_refused(package):
    async def main():
        scorer, _, _ = make_scorer(package)
        app = create_app(await make_traffic(scorer), MemoryAccessLog(), timeout_s=5.0)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            refused = await client.post("/v1/events", json=event())
            assert refused.status_code == 503
            assert "SCORECAT_STATE=off" in refused.json()["detail"]
            answer = await client.post("/predict_purchase?detail=true", json=ROW | {"observe": True})
            assert answer.headers["x-observed"] == "off"
            assert answer.json()["history"] == {"status": "off"}

    asyncio.run(main())


TABLE = {
    "user_id": ["anna", None, "ben"], "session_id": ["s1", "s1", "s1"], "product_id": ["p1", "p1", "7"],
    "category_id": ["c1", "c1", None], "event_time": ["2019-10-02T07:06:40Z"] * 3, "price": [20.0] * 3,
    "hour": [7.0] * 3, "day_of_week": [2.0] * 3, "is_weekend": [0.0] * 3,
}  # fmt: skip


def as_csv() -> bytes:
    rows = zip(*TABLE.values(), strict=True)
    return "\n".join([",".join(TABLE), *(",".join("" if v is None else str(v) for v in row) for row in rows)]).encode()


def as_arrow(parquet: bool) -> bytes:
    table = pa.table(TABLE)
    times = table.column("event_time").cast(pa.timestamp("us", "UTC"))
    table = table.set_column(table.column_names.index("event_time"), "event_time", times)
    sink = io.BytesIO()
    if parquet:
        pq.write_table(table, sink)
    else:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    return sink.getvalue()


def as_tensors() -> bytes:
    inputs = [
        {"name": n, "datatype": "BYTES" if n in list(TABLE)[:5] else "FP64", "shape": [3], "data": v}
        for n, v in TABLE.items()
    ]
    return json.dumps({"inputs": inputs}).encode()


FORMS = {
    "records": (JSON, lambda: json.dumps({"dataframe_records": pa.table(TABLE).to_pylist()}).encode()),
    "csv": ("text/csv", as_csv),
    "arrow": (ARROW, lambda: as_arrow(parquet=False)),
    "parquet": ("application/vnd.apache.parquet", lambda: as_arrow(parquet=True)),
    "v2": (JSON, as_tensors),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_tables_that_name_their_user_are_looked_up_like_single_ones(package, form):
    async def work(service):
        await service.send(event(1), event(2, price=40.0))
        single = []
        for row in pa.table(TABLE).to_pylist():
            given = {k: v for k, v in row.items() if v is not None or k == "user_id"}
            single.append((await service.predict(**given))["purchase_probability"])
        media, build = FORMS[form]
        path = "/v2/models/purchase/infer" if form == "v2" else "/invocations"
        answer = await service.client.post(path, content=build(), headers={"content-type": media})
        assert answer.status_code == 200, answer.text
        found = answer.json()["outputs"][0]["data"] if form == "v2" else answer.json()["predictions"]
        np.testing.assert_array_equal(found, single)
        assert service.meter.ignored == []

    live(package, work)


def test_a_row_of_a_table_whose_time_cannot_be_read_is_rejected_alone(package):
    async def work(service):
        records = pa.table(TABLE).to_pylist()
        records[1]["event_time"] = "noon"
        answer = await service.client.post("/invocations", json={"dataframe_records": records})
        (error,) = answer.json()["errors"]
        assert (error["index"], error["pointer"]) == (1, "/1/event_time")
        assert "ISO 8601" in error["detail"]
        lists = [[1.0] * 20 + ["samsung", "electronics"]]
        assert (await service.client.post("/invocations", json={"instances": lists})).status_code in {200, 422}

    live(package, work)


def test_a_request_of_as_many_events_as_allowed_is_one_commit(package):
    async def work(service):
        events = [event(n % 2_000, event_id=None) for n in range(MAX_EVENTS)]
        headers = {"x-request-timeout-seconds": "60"}
        answer = await service.client.post("/v1/events", json=events, headers=headers)
        assert answer.json()["recorded"] == MAX_EVENTS
        assert service.history.n_records == 1
        found = await service.predict(**ROW)
        assert value(found, "total_events_x")[0] == MAX_EVENTS + 1
        assert value(found, "unique_products")[0] == 1_024
        assert value(await service.predict(**ROW | {"user_id": "ben"}), "total_events_x")[0] == 1

    live(package, work)
