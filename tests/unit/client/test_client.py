"""The client: when it tries again, what its errors are, and that frames come back as they went."""

from __future__ import annotations

import asyncio
import json
import pickle
from datetime import UTC, datetime, timedelta, timezone

import httpx
import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pytest

from serve_app import errors
from serve_app.client import AsyncClient, Client, Clocks, Row
from serve_app.client.calls import Calls
from serve_app.client.frames import ANSWER_SCHEMA, MEDIA_TYPE
from serve_app.client.logs.wire import Connection, ResponseParser
from serve_app.client.problems import BY_CODE, parse_problem
from serve_app.client.retries import backoff_s, parse_retry_after
from serve_app.errors import (
    BadRequestError,
    DeadlineExceededError,
    FieldError,
    InvalidDataError,
    InvalidRowError,
    InvariantError,
    NotFoundError,
    NotReadyError,
    OverloadedError,
    ScorecatError,
)
from serve_app.http.app import create_app
from serve_app.http.problems import describe_problem
from tests.testing_kit import MemoryAccessLog, make_scorer, make_traffic, run_virtual
from tests.testing_kit.cluster.service_process import ROW

pytestmark = pytest.mark.unit

URL = "http://shop:8000"
EPOCH_S = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
SCORED = {"user_id": "u", "purchase_probability": 0.25, "recommendation": "low"}
OK = httpx.Response(200, json=SCORED, headers={"x-model-version": "3", "x-prediction-id": "p"})


class FakeTime:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept: list[float] = []
        self.clocks = Clocks(lambda: self.now_s, lambda: EPOCH_S + self.now_s, lambda: 0.0)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)


class Server:
    """Answers with what it was given, in turn, the last one for ever; an exception is raised."""

    def __init__(self, *answers, takes_s: float = 0.0) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.time = FakeTime()
        self.takes_s = takes_s

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.time.now_s += self.takes_s
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer):
            return answer(request)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def call_sync(server: Server, do, **options):
    transport = httpx.MockTransport(server)
    with Client(URL, transport=transport, sleep=server.time.sleep, clocks=server.time.clocks, **options) as client:
        return do(client)


def call_async(server: Server, do, **options):
    async def main():
        transport = httpx.MockTransport(server)
        async with AsyncClient(
            URL, transport=transport, sleep=server.time.asleep, clocks=server.time.clocks, **options
        ) as client:
            return await do(client)

    return run_virtual(main())


@pytest.fixture(params=[call_sync, call_async], ids=["sync", "async"])
def call(request):
    """Every fact below is one of both clients."""
    return request.param


def predict(client):
    return client.predict(ROW)


def problem(status: int, code: str, detail: str = "why", headers=None, **members) -> httpx.Response:
    body = {"type": f"urn:scorecat:problem:{code}", "title": "t", "status": status, "detail": detail, **members}
    return httpx.Response(status, json=body, headers=headers or {})


def overloaded(retry_after: str | None = None) -> httpx.Response:
    return problem(503, "overloaded", headers={} if retry_after is None else {"retry-after": retry_after})


EVENT = {"event_type": "view", "product_id": "p", "price": 1.0, "user_id": "u", "user_session": "s"}
COUNTS = dict.fromkeys(("recorded", "duplicate", "dropped", "conflict", "refused", "rejected"), 0) | {"errors": []}


@pytest.mark.parametrize(("status", "code"), [(503, "not-ready"), (504, "outcome-unknown"), (504, "deadline-exceeded")])
@pytest.mark.parametrize("has_id", [True, False])
def test_events_that_may_be_stored_are_sent_again_only_when_each_has_an_id(call, status, code, has_id):
    server = Server(problem(status, code), httpx.Response(202, json=COUNTS | {"recorded": 1}))
    event = EVENT | ({"event_id": "e"} if has_id else {})
    is_repeated = status == 503 or (code == "outcome-unknown" and has_id)
    if is_repeated:
        assert call(server, lambda c: c.send_events(event)).counts["recorded"] == 1
    else:
        with pytest.raises(NotReadyError):
            call(server, lambda c: c.send_events(event))
    assert len(server.requests) == 1 + is_repeated


def test_a_prediction_is_typed(call):
    server = Server(OK)
    found = call(server, predict)
    assert (found.probability, found.recommendation, found.user_id) == (0.25, "low", "u")
    assert (found.version, found.prediction_id, found.detail) == (3, "p", None)
    (request,) = server.requests
    assert str(request.url) == f"{URL}/predict_purchase"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-request-id"] == found.request_id
    assert json.loads(request.content) == ROW


def test_detail_is_what_else_the_service_said(call):
    server = Server(httpx.Response(200, json={**SCORED, "n_defaulted": 16}))
    assert call(server, lambda c: c.predict(ROW, detail=True)).detail == {"n_defaulted": 16}
    assert str(server.requests[0].url).endswith("?detail=true")


def test_a_row_knows_its_hour_and_day_in_utc(call):
    server = Server(OK)
    at = datetime(2019, 10, 5, 1, 30, tzinfo=timezone(timedelta(hours=3)))  # Friday, 22:30 UTC
    call(server, lambda c: c.predict(Row("u", "s", "p", 1.5, at, history={"total_events_x": 2})))
    sent = json.loads(server.requests[0].content)
    assert (sent["hour"], sent["day_of_week"], sent["is_weekend"], sent["total_events_x"]) == (22, 4, 0, 2)
    with pytest.raises(InvalidRowError, match="zone"):
        call(server, lambda c: c.predict(Row("u", "s", "p", 1.5, datetime(2019, 10, 5))))  # noqa: DTZ001


def test_numpy_values_are_sent_and_other_objects_refused(call):
    server = Server(OK)
    call(server, lambda c: c.predict({**ROW, "price": np.float32(2.5)}))
    assert json.loads(server.requests[0].content)["price"] == 2.5
    with pytest.raises(InvalidRowError, match="JSON"):
        call(server, lambda c: c.predict({**ROW, "price": object()}))


@pytest.mark.parametrize(
    "answer",
    [
        overloaded(),
        problem(429, "rate-limited"),
        httpx.Response(503, text="proxy"),
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("disconnected"),
    ],
    ids=str,
)
def test_what_may_pass_is_tried_again_with_growing_waits_under_one_request_id(call, answer):
    server = Server(answer, answer, OK)
    assert call(server, lambda c: c.predict(ROW)).probability == 0.25
    assert server.time.slept == [0.1, 0.2]
    assert len({r.headers["x-request-id"] for r in server.requests}) == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (problem(422, "invalid-row"), InvalidRowError),
        (problem(500, "internal"), InvariantError),
        (problem(504, "deadline-exceeded"), DeadlineExceededError),
        (httpx.Response(408, text="Request timed out"), DeadlineExceededError),
        (httpx.Response(307, headers={"location": "/"}), InvariantError),
        (httpx.Response(401), BadRequestError),
        (httpx.ReadTimeout("slow"), DeadlineExceededError),
        (httpx.UnsupportedProtocol("x"), BadRequestError),
        (httpx.DecodingError("gzip"), InvariantError),
    ],
    ids=str,
)
def test_what_cannot_pass_is_not_tried_again(call, answer, kind):
    server = Server(answer, OK)
    with pytest.raises(ScorecatError) as caught:
        call(server, predict)
    assert type(caught.value) is kind
    assert len(server.requests) == 1


def test_retries_end(call):
    server = Server(overloaded())
    with pytest.raises(OverloadedError):
        call(server, predict, retries=2)
    assert len(server.requests) == 3
    server = Server(overloaded())
    with pytest.raises(OverloadedError):
        call(server, predict, retries=0)
    assert len(server.requests) == 1


@pytest.mark.parametrize("form", ["2", "Thu, 01 Jan 2026 00:00:02 GMT"])
def test_retry_after_is_waited_for_in_both_its_forms(call, form):
    server = Server(overloaded(form), OK)
    call(server, predict)
    assert server.time.slept == [2.0]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        ("Wed, 31 Dec 2025 23:59:00 GMT", 0.0),
        ("Thu, 01 Jan 2026 00:01:00 -0000", 60.0),
        ("Thu, 99 Jan 2026 00:01:00 GMT", None),
    ],
)
def test_retry_after_is_parsed_or_ignored(value, seconds):
    assert parse_retry_after(value, EPOCH_S) == seconds


def test_back_off_doubles_to_a_limit_and_jitter_takes_half_at_most():
    assert [backoff_s(n, 0.0) for n in (1, 2, 3, 7, 1000)] == [0.1, 0.2, 0.4, 5.0, 5.0]
    assert backoff_s(1, 1.0) == 0.05


def test_nobody_waits_past_the_deadline(call):
    server = Server(overloaded("10"), OK)
    with pytest.raises(OverloadedError) as caught:
        call(server, lambda c: c.predict(ROW, deadline_s=9.9))
    assert caught.value.retry_after_s == 10.0
    assert server.time.slept == []


def test_each_try_tells_the_service_what_is_left(call):
    server = Server(overloaded("1"), OK, takes_s=0.5)
    call(server, lambda c: c.predict(ROW, deadline_s=4))
    assert [r.headers["x-request-timeout-seconds"] for r in server.requests] == ["4.000", "2.500"]
    assert server.requests[1].extensions["timeout"]["read"] == 2.5


def test_slow_failures_use_up_the_deadline(call):
    server = Server(httpx.ConnectError("refused"), takes_s=2.0)
    with pytest.raises(NotReadyError, match="refused"):
        call(server, predict, timeout_s=5.0, retries=99)
    assert len(server.requests) == 3
    assert server.time.now_s < 6.5


@pytest.mark.parametrize("deadline_s", [0, -1, float("nan"), float("inf")])
def test_a_deadline_is_a_number_above_0(call, deadline_s):
    with pytest.raises(BadRequestError, match="deadline_s"):
        call(Server(OK), lambda c: c.predict(ROW, deadline_s=deadline_s))


@pytest.mark.parametrize("url", ["shop", "ftp://shop", "http://", "http://shop:x", ""])
def test_a_url_that_is_none_is_named(url):
    with pytest.raises(BadRequestError, match="no URL"):
        Client(url)


@pytest.mark.parametrize("options", [{"timeout_s": 0}, {"retries": -1}, {"max_rows": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(BadRequestError, match="at least"):
        Client(URL, **options)


def test_retries_are_counted():
    server = Server(overloaded(), OK)
    assert call_sync(server, lambda c: (c.predict(ROW), c.n_retries)[1]) == 1


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_every_error_of_the_service_comes_back_as_itself(code):
    kind = BY_CODE[code]
    sent = kind("why", 7.0) if issubclass(kind, NotReadyError) else kind("why", (FieldError("/price", "above 0"),))
    status, members, headers = describe_problem(sent, "id-1")
    request = httpx.Request("POST", URL)
    answer = httpx.Response(status, content=orjson.dumps(members), headers=headers, request=request)
    found = parse_problem(answer, parse_retry_after(answer.headers.get("retry-after"), 0.0))
    assert type(found) is kind
    assert found.errors == sent.errors
    assert getattr(found, "retry_after_s", None) == getattr(sent, "retry_after_s", None)
    assert found.__notes__ == [f"HTTP {status}, request id id-1"]
    assert vars(pickle.loads(pickle.dumps(found))) == vars(found)


def test_every_error_type_is_known():
    kinds = {k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, ScorecatError)}
    assert set(BY_CODE.values()) == kinds - {ScorecatError}


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"detail":3}', b'{"errors":[1,{"pointer":"/a"}]}', b"\xff"])
def test_an_error_without_problem_details_says_who_answered_what(body):
    answer = httpx.Response(404, content=body, request=httpx.Request("POST", URL))
    found = parse_problem(answer, None)
    assert type(found) is NotFoundError
    assert f"{URL} answered 404" in str(found)


@pytest.mark.parametrize("body", [b"", b"hello", b"[]", b"{}", b'{"purchase_probability":null}'])
def test_a_success_that_is_no_prediction_is_an_error(call, body):
    with pytest.raises(InvariantError, match="is it scorecat"):
        call(Server(httpx.Response(200, content=body)), predict)


def answer_frame(request: httpx.Request) -> httpx.Response:
    """Scores are price / 1000; a price that is not above 0 is rejected."""
    with pa.ipc.open_stream(request.content) as reader:
        prices = reader.read_all()["price"].to_pylist()
    rows = [
        {"probability": p / 1000, "recommendation": "low", "version": 3, "error": None}
        if p > 0
        else {"probability": None, "recommendation": None, "version": None, "error": "price must be above 0"}
        for p in prices
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, ANSWER_SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=ANSWER_SCHEMA))
    return httpx.Response(200, content=sink.getvalue().to_pybytes(), headers={"content-type": MEDIA_TYPE})


def test_a_data_frame_comes_back_with_its_index_whatever_the_slices(call):
    frame = pd.DataFrame({"price": [5.0, 0.0, 7.0, 8.0, 9.0]}, index=["e", "d", "c", "b", "a"])
    answers = {}
    for max_rows, n_requests in ((2, 3), (5, 1), (100, 1)):
        server = Server(answer_frame)
        answers[max_rows] = call(server, lambda c: c.predict_frame(frame), max_rows=max_rows)
        assert len(server.requests) == n_requests
        assert {r.headers["content-type"] for r in server.requests} == {MEDIA_TYPE}
        assert {r.headers["accept"] for r in server.requests} == {MEDIA_TYPE}
    found = answers[2]
    assert list(found.index) == list("edcba")
    assert list(found.columns) == ["probability", "recommendation", "version", "error"]
    assert found["probability"].tolist()[0] == 0.005
    assert found["probability"].isna().tolist() == [False, True, False, False, False]
    assert found["version"].dtype == pd.Int64Dtype()
    assert found["error"].dropna().to_dict() == {"d": "price must be above 0"}
    for other in answers.values():
        pd.testing.assert_frame_equal(found, other)


@pytest.mark.parametrize("n_rows", [0, 1, 7])
def test_arrow_comes_back_as_arrow_in_row_order(call, n_rows):
    table = pa.table({"price": pa.array(np.arange(n_rows), pa.float64())})
    batch = pa.RecordBatch.from_arrays([table["price"].combine_chunks()], names=["price"])
    for frame, kind in ((table, pa.Table), (batch, pa.RecordBatch)):
        server = Server(answer_frame)
        found = call(server, lambda c, frame=frame: c.predict_frame(frame), max_rows=3)
        assert isinstance(found, kind)
        assert found.schema == ANSWER_SCHEMA
        assert found["probability"].to_pylist() == [None if p == 0 else p / 1000 for p in range(n_rows)]
        assert len(server.requests) == -(-n_rows // 3)


def test_an_empty_data_frame_asks_nothing(call):
    server = Server(answer_frame)
    assert call(server, lambda c: c.predict_frame(pd.DataFrame({"price": []}))).empty
    assert server.requests == []


@pytest.mark.parametrize("frame", [[1], {"price": [1]}, None])
def test_what_is_no_frame_is_refused(call, frame):
    with pytest.raises(BadRequestError, match="DataFrame"):
        call(Server(answer_frame), lambda c: c.predict_frame(frame))


def test_a_frame_that_has_no_form_in_arrow_is_refused(call):
    for frame in (pd.DataFrame({"price": [1, "a"]}), pd.DataFrame([[1, 2]], columns=["price", "price"])):
        with pytest.raises(InvalidDataError, match="Arrow"):
            call(Server(answer_frame), lambda c, frame=frame: c.predict_frame(frame))


def test_a_deadline_bounds_all_slices_and_the_default_each(call):
    table = pa.table({"price": [1.0, 2.0, 3.0, 4.0]})
    server = Server(answer_frame, takes_s=2.0)
    assert call(server, lambda c: c.predict_frame(table), max_rows=1, timeout_s=3.0).num_rows == 4
    server = Server(answer_frame, takes_s=2.0)
    with pytest.raises(DeadlineExceededError) as caught:
        call(server, lambda c: c.predict_frame(table, deadline_s=3.0), max_rows=1)
    assert caught.value.__notes__ == ["rows 2 to 2 of the frame"]


@pytest.mark.parametrize("body", [b"", b"no", pa.BufferOutputStream().getvalue().to_pybytes()])
def test_an_answer_that_is_no_stream_is_an_error(call, body):
    with pytest.raises(InvariantError, match="is it scorecat"):
        call(Server(httpx.Response(200, content=body)), lambda c: c.predict_frame(pa.table({"price": [1.0]})))


def test_an_answer_with_other_rows_is_an_error(call):
    server = Server(answer_frame(Calls(URL, 1, 0, 9, None, Clocks()).score_frame(
        pa.table({"price": [1.0, 2.0]}), deadline_s=None).send(None).request))  # fmt: skip
    with pytest.raises(InvariantError, match="2 rows for 1"):
        call(server, lambda c: c.predict_frame(pa.table({"price": [1.0]})))


def test_the_real_routes_answer_a_row_and_a_frame_alike(package):
    async def main():
        scorer, _, _ = make_scorer(package, version=3)
        app = create_app(await make_traffic(scorer), MemoryAccessLog(), timeout_s=5.0)
        async with AsyncClient(URL, transport=httpx.ASGITransport(app), max_rows=2) as client:
            rows = [{**ROW, "price": price} for price in (10.5, 0.0, 300.0)]
            frame = pd.DataFrame(rows, index=[7, 8, 9])
            scored = await client.predict_frame(frame)
            single = [await client.predict(rows[i]) for i in (0, 2)]
            with pytest.raises(InvalidRowError) as caught:
                await client.predict(rows[1])
        assert [e.pointer for e in caught.value.errors] == ["/price"]
        assert list(scored.index) == [7, 8, 9]
        assert scored["probability"].dropna().tolist() == [p.probability for p in single]
        assert scored.loc[8, "error"]
        assert [p.version for p in single] == [3, 3]

    asyncio.run(main())


HEAD = b"HTTP/1.1 200 OK\r\nX-Model-Version: 3\r\n"
WHOLE = {
    "length": HEAD + b"Content-Length: 5\r\n\r\nhello",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
    "trailer": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("form", WHOLE)
def test_an_answer_is_read_wherever_it_is_cut(form):
    data = WHOLE[form]
    for cut in range(len(data)):
        parser = ResponseParser()
        assert not parser.feed(data[:cut])
        assert parser.feed(data[cut:])
        assert (parser.status, bytes(parser.body), parser.keeps_open) == (200, b"hello", True)
        assert (b"x-model-version", b"3") in parser.headers


def test_an_answer_without_length_ends_with_its_connection():
    parser = ResponseParser()
    assert not parser.feed(HEAD + b"Connection: close\r\n\r\nhel")
    assert not parser.feed(b"lo")
    assert parser.end()
    assert not parser.keeps_open
    cut = ResponseParser()
    cut.feed(WHOLE["length"][:-1])
    assert not cut.end()


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\n\r\nab",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"a" * 70_000,
    ],
)
def test_what_is_not_http_is_refused(data):
    with pytest.raises(ValueError):
        ResponseParser().feed(data)


class FakeSocket(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_aborted = False

    def write(self, data) -> None:
        self.written += data

    def abort(self) -> None:
        self.is_aborted = True


def exchange_with(react):
    async def main():
        connection, socket = Connection(), FakeSocket()
        connection.connection_made(socket)
        asyncio.get_running_loop().call_later(1.0, react, connection)
        return bytes((await connection.exchange(b"POST", 5.0)).body)

    return run_virtual(main())


def test_a_connection_gives_the_answer_or_says_why_there_is_none():
    assert exchange_with(lambda c: c.data_received(WHOLE["length"])) == b"hello"
    with pytest.raises(httpx.ReadTimeout):
        exchange_with(lambda c: None)
    with pytest.raises(httpx.ReadError):
        exchange_with(lambda c: c.connection_lost(None))
    with pytest.raises(httpx.RemoteProtocolError):
        exchange_with(lambda c: c.data_received(b"SSH-2.0\r\n\r\n"))
