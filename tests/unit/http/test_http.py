"""The service over ASGI: what is answered, and that every bad input is answered and forgotten."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import httpx
import orjson
import pyarrow as pa
import pytest

from serve_app.errors import InvariantError, OverloadedError, ReplicaLostError
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.specs import HISTORY_NAMES, PURCHASE_NAMES, arrow_schema
from serve_app.http.admission import MAX_ROW_BYTES
from serve_app.http.app import create_app
from serve_app.http.schemas import EXAMPLE_REQUEST
from serve_app.runtime.microbatch import BatchLimits
from serve_app.scoring.service.traffic import Traffic
from tests.testing_kit import MemoryAccessLog, MemorySplit, make_scorer, make_traffic, run_virtual

pytestmark = pytest.mark.unit

PATH = "/predict_purchase"
EXAMPLE = dict(EXAMPLE_REQUEST)
PROBLEM_MEMBERS = {"type", "title", "status", "detail", "request_id"}


def body_with(**members) -> bytes:
    return json.dumps({**EXAMPLE, **members}).encode()


def body_without(name: str) -> bytes:
    return json.dumps({k: v for k, v in EXAMPLE.items() if k != name}).encode()


def body_ending(text: str) -> bytes:
    """The example with raw JSON text as its last member, which may repeat one."""
    return json.dumps(EXAMPLE)[:-1].encode() + b"," + text.encode() + b"}"


def raw(name: str, text: str) -> bytes:
    return body_ending(f'"{name}":{text}')


class Service:
    def __init__(self, package, *, timeout_s: float = 5.0, **scorer_options) -> None:
        self.package, self.timeout_s, self.scorer_options = package, timeout_s, scorer_options
        self.log = MemoryAccessLog()

    async def __aenter__(self):
        scorer, self.encoder, self.model = make_scorer(self.package, version=3, **self.scorer_options)
        self.app = create_app(await make_traffic(scorer), self.log, timeout_s=self.timeout_s)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://shop")
        return self

    async def __aexit__(self, *args) -> None:
        await self.client.aclose()

    async def post(self, content=None, path: str = PATH, **headers: str) -> httpx.Response:
        content = json.dumps(EXAMPLE).encode() if content is None else content
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(path, content=content, headers={"content-type": "application/json", **named})

    async def assert_answers(self) -> None:
        answer = await self.post()
        assert answer.status_code == 200, answer.text


def exchange(package, *args, service_options=None, **kwargs) -> httpx.Response:
    """Send one request, and prove that the service answers the next one."""

    async def main():
        async with Service(package, **(service_options or {})) as service:
            answer = await service.post(*args, **kwargs)
            await service.assert_answers()
            return answer

    return run_virtual(main())


def assert_problem(answer: httpx.Response, status: int, *pointers: str) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.keys() >= PROBLEM_MEMBERS
    assert problem["status"] == status
    assert problem["request_id"]
    assert problem["type"].startswith("urn:scorecat:problem:")
    assert [e["pointer"] for e in problem.get("errors", [])] == list(pointers)
    assert "Traceback" not in answer.text
    return problem


def probability_of(package, row: dict) -> float:
    batch = pa.RecordBatch.from_pylist([row], schema=arrow_schema(package.manifest.features))
    matrix = FeatureEncoder(package.manifest.features, package.vocabularies).encode(batch).matrix
    return package.model.classifier.predict_proba(matrix)[0, 1]


# --- answers


def test_the_answer_has_exactly_three_members(package):
    answer = exchange(package)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    expected = probability_of(package, EXAMPLE)
    assert answer.json() == {
        "user_id": EXAMPLE["user_id"],
        "purchase_probability": expected,
        "recommendation": package.manifest.thresholds.recommend(expected),
    }
    assert list(answer.json()) == ["user_id", "purchase_probability", "recommendation"]
    assert answer.headers["x-model-version"] == "3"
    assert answer.headers["x-route-reason"] == "only-version"
    assert len(answer.headers["x-prediction-id"]) == 32


@pytest.mark.parametrize(
    "user_id", ["541312140", 541312140, None, "ünïcode 🛒", "0012", 0, 2**63 - 1, "x" * 512, 'quote " and \\ slash']
)
def test_the_user_id_comes_back_as_it_was_sent(package, user_id):
    answer = exchange(package, body_with(user_id=user_id))
    assert answer.status_code == 200
    assert answer.json()["user_id"] == user_id
    assert type(answer.json()["user_id"]) is type(user_id)


@pytest.mark.parametrize(
    "members",
    [
        {"is_weekend": True},
        {"price": 259},
        {"price": 2**62 + 1},
        {"brand": None, "category_code": None},
        {"brand": "", "category_code": "never.seen"},
        {"hour": 12.0, "day_of_week": 1.0, "is_weekend": 0.0},
        {"total_events_x": 3, "conversion_rate": 1, "avg_price": 0},
        {"total_price_viewed": 2**62 + 1},
        dict.fromkeys(HISTORY_NAMES),
        {"event_time": "2019-10-01 00:00:00 UTC", "event_id": 7, "category_id": "2053013555631882655"},
        {"nobody": "reads this"},
    ],
)
def test_what_may_be_sent_is_scored_as_catboost_scores_it(package, members):
    answer = exchange(package, body_with(**members))
    assert answer.status_code == 200, answer.text
    row = {k: v for k, v in {**EXAMPLE, **members}.items() if k in PURCHASE_NAMES}
    row = {k: float(v) if isinstance(v, (int, float)) else v for k, v in row.items()}
    assert answer.json()["purchase_probability"] == probability_of(package, row)


def test_brand_and_category_may_be_absent(package):
    body = json.loads(body_without("brand"))
    del body["category_code"]
    answer = exchange(package, json.dumps(body).encode())
    assert answer.json()["purchase_probability"] == probability_of(
        package, {**EXAMPLE, "brand": None, "category_code": None}
    )


def test_of_a_repeated_member_the_last_counts(package):
    answer = exchange(package, raw("price", "5"))
    assert answer.json()["purchase_probability"] == probability_of(package, {**EXAMPLE, "price": 5.0})


def test_two_hundred_concurrent_requests_get_the_scores_of_single_ones(package):
    bodies = [{**EXAMPLE, "user_id": i, "price": 1.0 + i, "hour": i % 24} for i in range(200)]

    async def main():
        async with Service(package) as service:
            answers = await asyncio.gather(*(service.post(json.dumps(b).encode()) for b in bodies))
            assert len(service.encoder.batches) < 20
            return [a.json() for a in answers]

    answers = run_virtual(main())
    assert [a["user_id"] for a in answers] == list(range(200))
    assert [a["purchase_probability"] for a in answers] == [probability_of(package, b) for b in bodies]


def test_detail_says_where_every_feature_came_from(package):
    body = body_with(total_events_x=4, brand=None, zebra=1, aardvark=None)
    answer = exchange(package, body, path=f"{PATH}?detail=true")
    assert answer.status_code == 200
    found = answer.json()
    given = {"price", "hour", "day_of_week", "is_weekend", "category_code", "total_events_x"}
    assert list(found["features"]) == list(PURCHASE_NAMES)
    assert {n for n, f in found["features"].items() if f["source"] == "request"} == given
    assert {f["source"] for n, f in found["features"].items() if n not in given} == {"default"}
    assert found["n_defaulted"] == 22 - len(given)
    assert found["features"]["total_events_x"]["value"] == 4.0
    assert found["features"]["brand"] == {"value": "unknown", "source": "default"}
    assert found["features"]["category_code"]["value"] == "electronics.smartphone"
    assert found["features"]["avg_price"]["value"] == found["features"]["price"]["value"] == pytest.approx(259.9)
    assert found["ignored"] == ["aardvark", "zebra"]
    assert (found["model"], found["version"], found["route_reason"]) == ("purchase", 3, "only-version")
    assert found["prediction_id"] == answer.headers["x-prediction-id"]
    assert found["purchase_probability"] == exchange(package, body).json()["purchase_probability"]


def test_an_empty_brand_is_shown_as_it_was_sent(package):
    answer = exchange(package, body_with(brand=""), path=f"{PATH}?detail=true")
    assert answer.json()["features"]["brand"] == {"value": "", "source": "request", "unseen": True}


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999", "9" * 400, "[" * 150 + "]" * 150, '{"a":{"b":[]}}'])
def test_detail_does_not_stumble_over_members_that_are_ignored(package, text):
    plain, detailed = (exchange(package, raw("zebra", text), path=PATH + q) for q in ("", "?detail=true"))
    assert detailed.status_code == plain.status_code
    if plain.status_code == 200:
        assert detailed.json()["ignored"] == ["zebra"]


@pytest.mark.parametrize("query", ["", "?detail=false", "?detail=0", "?detail=1", "?detail=TRUE", "?other=x"])
def test_detail_is_given_when_asked_for(package, query):
    assert ("features" in exchange(package, path=PATH + query).json()) is (query in ("?detail=1", "?detail=TRUE"))


@pytest.mark.parametrize("query", ["?detail=yes", "?detail=", "?detail=%ff", "?detail=true&detail=2"])
def test_a_flag_that_is_no_flag_is_refused(package, query):
    assert "detail must be true or false" in assert_problem(exchange(package, path=PATH + query), 400)["detail"]


# --- bad rows


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        *((body_with(price=v), "/price") for v in (0, -1, 0.0, -0.0, "5", True, None, [], {}, 1e300, 5e-324)),
        *((raw("price", v), "/price") for v in ("NaN", "Infinity", "-Infinity")),
        *((body_with(hour=v), "/hour") for v in (24, -1, 12.5, "12", None, True, 10**30)),
        *((body_with(day_of_week=v), "/day_of_week") for v in (7, -1, "Monday", None)),
        *((body_with(is_weekend=v), "/is_weekend") for v in (2, -1, "yes", None, 0.5)),
        *((body_with(session_id=v), "/session_id") for v in (None, "", 1.5, True, ["a"], {"a": 1}, -1)),
        *((body_with(product_id=v), "/product_id") for v in (None, "", "x" * 513, 2**63, 10**300)),
        *((body_with(user_id=v), "/user_id") for v in ("", "x" * 10_240, 1.5, 2.0**53, False, -1, 10**300)),
        *((body_with(brand=v), "/brand") for v in (1.5, True, "x" * 10_240, ["samsung"], 2**64)),
        *((body_with(category_code=v), "/category_code") for v in (False, "x" * 513)),
        *((body_with(total_events_x=v), "/total_events_x") for v in (-1, "1", 1e300, True, [])),
        *((raw("max_price", v), "/max_price") for v in ("Infinity", "-Infinity", "-0.5")),
        *((body_with(conversion_rate=v), "/conversion_rate") for v in (1.0001, -0.1)),
        *((body_with(event_time=v), "/event_time") for v in ("yesterday", "2019-10-01T00:00:00", True, [])),
        *((body_without(n), f"/{n}") for n in
          ("user_id", "session_id", "product_id", "price", "hour", "day_of_week", "is_weekend")),
    ],
)  # fmt: skip
def test_a_bad_row_is_refused_by_the_name_of_its_field(package, body, pointer):
    answer = exchange(package, body)
    problem = assert_problem(answer, 422, pointer)
    assert len(answer.content) < 1_000
    assert len(problem["errors"][0]["detail"]) > 10


def test_every_bad_field_is_named_at_once(package):
    answer = exchange(package, body_with(price=0, hour=24, brand=1.5, total_sessions="x"))
    assert sorted(e["pointer"] for e in answer.json()["errors"]) == ["/brand", "/hour", "/price", "/total_sessions"]


def test_an_empty_object_is_answered_with_all_that_is_missing(package):
    problem = exchange(package, b"{}").json()
    assert {e["pointer"] for e in problem["errors"]} == {
        "/user_id", "/session_id", "/product_id", "/price", "/hour", "/day_of_week", "/is_weekend",
    }  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"hello",
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"{'price': 1}",
        json.dumps(EXAMPLE).encode()[:-1],
        json.dumps(EXAMPLE).encode() + b"x",
        b"[" * 100_000,
        b'{"a":' * 40_000,
        b"\xff\xfe\x00",
        json.dumps(EXAMPLE).encode("utf-16"),
        body_ending('"user_id":"\\ud800"'),
        body_ending('"brand":"\\udfff"'),
        *(body_ending(f'"price":{v}') for v in ("1e400", "-1e400", "9" * 400, "9" * 5_000)),
        *(body_ending(f'"{name}":' + "9" * 400) for name in ("user_id", "product_id", "brand", "hour", "observe")),
        body_ending('"price":1e400,"brand":NaN'),
        body_ending('"x":NaN,"y":' + "[" * 900 + "]" * 900),
        body_ending('"x":' + "[" * 5_000 + "]" * 5_000),
        json.dumps(EXAMPLE).encode().replace(b"samsung", b"\xed\xa0\x80"),
        b"\x00" * 100,
    ],
    ids=lambda b: repr(b[:24]),
)
def test_a_body_that_is_no_json_object_is_refused(package, body):
    assert_problem(exchange(package, body), 400)


# --- bad requests


async def call_raw(app, headers, messages, *, method="POST", path=PATH) -> tuple[int, dict, int]:
    """Speak ASGI by hand; return status, problem and how many messages were read."""
    sent, read = [], 0

    async def receive():
        nonlocal read
        read += 1
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers, "root_path": "",
        "server": ("shop", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    await app(scope, receive, send)
    assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
    length = dict(sent[0]["headers"])[b"content-length"]
    assert int(length) == len(sent[1]["body"])
    return sent[0]["status"], orjson.loads(sent[1]["body"]), read


def test_an_announced_big_body_is_refused_before_a_byte_is_read(package):
    async def main():
        async with Service(package) as service:
            for size in (MAX_ROW_BYTES + 1, 50 * 1024**2, 10**30):
                headers = [(b"content-type", b"application/json"), (b"content-length", str(size).encode())]
                status, problem, n_read = await call_raw(service.app, headers, [])
                assert (status, n_read) == (413, 0)
                assert str(MAX_ROW_BYTES) in problem["detail"]
            await service.assert_answers()

    run_virtual(main())


def test_a_big_body_in_chunks_is_refused_as_soon_as_it_is_too_big(package):
    async def main():
        async with Service(package) as service:
            chunk = {"type": "http.request", "body": b" " * 65_536, "more_body": True}
            status, problem, n_read = await call_raw(
                service.app, [(b"transfer-encoding", b"chunked")], [dict(chunk) for _ in range(800)]
            )
            assert (status, n_read) == (413, MAX_ROW_BYTES // 65_536 + 1)
            assert problem["title"] == "Payload too large"
            await service.assert_answers()

    run_virtual(main())


def test_a_body_in_many_chunks_is_read_whole(package):
    body = json.dumps(EXAMPLE).encode()

    async def main():
        async with Service(package) as service:
            messages = [
                {"type": "http.request", "body": body[i : i + 7], "more_body": True} for i in range(0, len(body), 7)
            ]
            status, answer, _ = await call_raw(service.app, [], [*messages, {"type": "http.request"}])
            assert (status, answer["user_id"]) == (200, EXAMPLE["user_id"])

    run_virtual(main())


def test_a_caller_that_hangs_up_half_way_spoils_nothing(package):
    async def main():
        async with Service(package) as service:
            message = {"type": "http.request", "body": b"{", "more_body": True}
            status, _, _ = await call_raw(service.app, [], [message])
            assert status == 400
            await service.assert_answers()

    run_virtual(main())


@pytest.mark.parametrize("path", ["/", "/predict", "/predict_purchase/", "/PREDICT_PURCHASE", "/%00", "/a/../b", "//"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_route_is_named(package, method, path):
    async def main():
        async with Service(package) as service:
            answer = await service.client.request(method, path)
            assert "/docs lists" in assert_problem(answer, 404)["detail"]
            await service.assert_answers()

    run_virtual(main())


@pytest.mark.parametrize(("method", "path", "allowed"), [
    ("GET", PATH, "POST"), ("PUT", PATH, "POST"), ("DELETE", PATH, "POST"), ("OPTIONS", PATH, "POST"),
    ("POST", "/livez", "GET, HEAD"), ("POST", "/readyz", "GET, HEAD"),
])  # fmt: skip
def test_a_wrong_method_is_answered_with_the_right_one(package, method, path, allowed):
    async def main():
        async with Service(package) as service:
            answer = await service.client.request(method, path)
            assert_problem(answer, 405)
            assert answer.headers["allow"] == allowed
            await service.assert_answers()

    run_virtual(main())


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "text/plain"},
        {"content_type": "application/x-www-form-urlencoded"},
        {"content_type": "application/xml"},
        {"content_type": "application/jsonx"},
        {"content_type": ""},
        {"content_type": "application/json; charset=latin-1"},
        {"content_type": "application/json;charset=UTF-16"},
        {"content_encoding": "zstd"},
        {"content_encoding": "br"},
    ],
)
def test_a_content_type_nobody_reads_is_refused(package, headers):
    assert_problem(exchange(package, **headers), 415)


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON", "application/json; charset=utf-8", 'application/json; charset="UTF-8"',
     "application/vnd.shop+json", "application/json;charset=utf8"],
)  # fmt: skip
def test_json_by_any_of_its_names_is_read(package, content_type):
    assert exchange(package, content_type=content_type).status_code == 200


@pytest.mark.parametrize("value", ["0", "-1", "nan", "soon", "", "1s", "-inf", "0x10"])
def test_a_timeout_that_is_no_time_is_refused(package, value):
    problem = assert_problem(exchange(package, x_request_timeout_seconds=value), 400)
    assert "X-Request-Timeout-Seconds" in problem["detail"]


# --- request ids and the log


def test_the_request_id_of_the_caller_is_in_the_problem_and_the_log(package):
    async def main():
        async with Service(package) as service:
            answer = await service.post(b"{", x_request_id="shop-7")
            assert answer.json()["request_id"] == "shop-7"
            missing = await service.client.get("/nowhere", headers={"x-request-id": "shop-8"})
            assert missing.json()["request_id"] == "shop-8"
            await service.post(x_request_id="shop-9")
            assert service.log.lines == [
                ("shop-7", "POST", PATH, 400, None),
                ("shop-8", "GET", "/nowhere", 404, None),
                ("shop-9", "POST", PATH, 200, 3),
            ]

    run_virtual(main())


@pytest.mark.parametrize("given", ["", "x" * 129, "two words", "a\tb"])
def test_a_request_id_that_cannot_be_logged_is_replaced(package, given):
    found = exchange(package, b"{", x_request_id=given).json()["request_id"]
    assert found != given
    assert len(found) == 32


def test_neither_ids_nor_bodies_are_logged(package):
    async def main():
        async with Service(package) as service:
            await service.post(path=f"{PATH}?detail=true&user=541312140")
            assert EXAMPLE["user_id"] not in str(service.log.lines)

    run_virtual(main())


# --- trouble behind the service


def test_a_deadline_is_answered_just_before_it_passes(package):
    async def stuck():
        await asyncio.sleep(1.9)

    async def main():
        async with Service(package, before_encode=stuck) as service:
            start = asyncio.get_running_loop().time()
            for header, at in (("0.5", 0.48), ("0.001", 0.0)):
                start = asyncio.get_running_loop().time()
                answer = await service.post(x_request_timeout_seconds=header)
                assert_problem(answer, 504)
                assert answer.headers["retry-after"] == "1"
                assert asyncio.get_running_loop().time() - start == pytest.approx(at, abs=1e-6)
            await service.assert_answers()

    run_virtual(main())


@pytest.mark.parametrize(("header", "at"), [(None, 1.98), ("600", 59.98), ("inf", 59.98)])
def test_a_request_has_the_default_time_unless_it_asks_and_never_more_than_a_minute(package, header, at):
    async def for_ever():
        await asyncio.sleep(1e6)

    async def main():
        async with Service(package, before_encode=for_ever, timeout_s=2.0) as service:
            start = asyncio.get_running_loop().time()
            headers = {} if header is None else {"x_request_timeout_seconds": header}
            assert_problem(await service.post(**headers), 504)
            assert asyncio.get_running_loop().time() - start == pytest.approx(at, abs=1e-6)

    run_virtual(main())


def test_overload_is_refused_with_retry_after_and_passes(package):
    async def slow():
        await asyncio.sleep(0.5)

    async def main():
        limits = BatchLimits(max_rows=4, max_queued_rows=8, eager_batches=1, max_batches=1)
        async with Service(package, before_encode=slow, limits=limits) as service:
            answers = await asyncio.gather(*(service.post() for _ in range(40)))
            refused = [a for a in answers if a.status_code != 200]
            assert 0 < len(refused) < 40
            for answer in refused:
                assert_problem(answer, 503)
                assert answer.headers["retry-after"] == "1"
                assert answer.json()["type"] == "urn:scorecat:problem:overloaded"
            await service.assert_answers()

    run_virtual(main())


@pytest.mark.parametrize("error", [ReplicaLostError("gone"), OverloadedError("full")])
def test_trouble_that_passes_is_a_503_with_retry_after(package, error):
    trouble = [True]

    async def fail():
        if trouble[0]:
            raise error

    async def main():
        async with Service(package, before_predict=fail) as service:
            answer = await service.post()
            assert_problem(answer, 503)
            assert answer.headers["retry-after"] == "1"
            trouble[0] = False
            await asyncio.sleep(1)
            await service.assert_answers()

    run_virtual(main())


@pytest.mark.parametrize("error", [InvariantError("/secret/x is torn"), ValueError("secret"), KeyError("secret")])
def test_our_own_mistake_is_a_500_without_a_word_of_the_inside(package, error, caplog):
    async def fail():
        raise error

    async def main():
        async with Service(package, before_predict=fail) as service:
            answer = await service.post(x_request_id="shop-1")
            assert_problem(answer, 500)
            assert "secret" not in answer.text
            assert service.log.lines == [("shop-1", "POST", PATH, 500, 3)]

    run_virtual(main())
    assert "request shop-1 failed" in caplog.text
    assert "secret" in caplog.text


def test_a_model_with_other_inputs_is_not_served_here(package):
    other = dataclasses.replace(
        package, manifest=dataclasses.replace(package.manifest, features=package.manifest.features[:5])
    )

    async def main():
        async with Service(other) as service:
            assert_problem(await service.post(), 404)

    run_virtual(main())


# --- which version answers


async def _split_service(package, **split):
    record = {"model": "purchase", "stable": 1, "arms": [[2, 0, 5000], [1, 5000, 10_000]], "salt": "00", **split}
    scorers = {version: make_scorer(package, version=version)[0] for version in (1, 2)}

    async def connect(name, version):
        return scorers[version]

    traffic = Traffic(MemorySplit(record), connect)
    await traffic.refresh()
    app = create_app(traffic, MemoryAccessLog(), timeout_s=5.0)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop")


ROW = {name: EXAMPLE[name] for name in ("price", "hour", "day_of_week", "is_weekend")}
TABLE = {"dataframe_records": [ROW, ROW]}
INPUTS = [{"name": name, "shape": [1], "datatype": "FP64", "data": [value]} for name, value in ROW.items()]


def test_every_route_sends_a_user_to_the_same_version_and_says_why(package):
    async def main():
        seen = {}
        async with await _split_service(package) as client:
            for k in range(30):
                user = f"user-{k}"
                answers = [
                    await client.post(PATH, json={**EXAMPLE, "user_id": user}),
                    await client.post("/invocations", json=TABLE, headers={"x-user-id": user}),
                    await client.post(
                        "/v2/models/purchase/infer", json={"inputs": INPUTS}, headers={"x-user-id": user}
                    ),
                ]
                assert {a.status_code for a in answers} == {200}
                assert {a.headers["x-route-reason"] for a in answers} == {"user-hash"}
                (seen[user],) = {a.headers["x-model-version"] for a in answers}
                assert answers[2].json()["model_version"] == seen[user]
            nobody = await client.post("/invocations", json=TABLE)
            assert nobody.headers["x-route-reason"] == "random"
        assert set(seen.values()) == {"1", "2"}

    run_virtual(main())


def test_a_whole_number_and_its_text_are_one_user(package):
    async def main():
        async with await _split_service(package, allow={"77": 2}) as client:
            for user in (541312140, 0, 2**63 - 1, 77, *range(20)):
                one, other = [await client.post(PATH, json={**EXAMPLE, "user_id": form}) for form in (user, str(user))]
                assert (one.status_code, one.json()["user_id"]) == (200, user)
                for header in ("x-model-version", "x-route-reason"):
                    assert one.headers[header] == other.headers[header]
            assert (await client.post(PATH, json={**EXAMPLE, "user_id": 77})).headers["x-route-reason"] == "allow-list"

    run_virtual(main())


def test_a_pin_is_followed_where_it_is_allowed_and_refused_elsewhere(package):
    async def main():
        async with await _split_service(package, pins=True) as client:
            for pin in ("1", "2"):
                for path, body in ((PATH, EXAMPLE), ("/invocations", TABLE)):
                    answer = await client.post(path, json=body, headers={"x-model-version": pin})
                    assert (answer.headers["x-model-version"], answer.headers["x-route-reason"]) == (pin, "pin")
            for pin, status in (("3", 404), ("-1", 400), ("champion", 400), ("9" * 20, 400)):
                assert_problem(await client.post(PATH, json=EXAMPLE, headers={"x-model-version": pin}), status)
        async with await _split_service(package) as client:
            for path, body in ((PATH, EXAMPLE), ("/invocations", TABLE)):
                assert_problem(await client.post(path, json=body, headers={"x-model-version": "1"}), 400)
            answer = await client.post("/v2/models/purchase/versions/2/infer", json={"inputs": INPUTS})
            assert (answer.headers["x-model-version"], answer.headers["x-route-reason"]) == ("2", "pin")

    run_virtual(main())


# --- probes


def test_a_service_that_can_score_is_ready(package):
    async def main():
        async with Service(package) as service:
            live, ready = await service.client.get("/livez"), await service.client.get("/readyz")
            assert (live.status_code, live.json()) == (200, {"status": "ok"})
            assert (ready.status_code, ready.json()) == (200, {"status": "ok", "model": "purchase", "version": 3})

    run_virtual(main())


def test_before_the_first_split_a_service_is_alive_but_not_ready():
    async def main():
        app = create_app(Traffic(MemorySplit(), None), MemoryAccessLog(), timeout_s=1)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            assert (await client.get("/livez")).status_code == 200
            for answer in (await client.get("/readyz"), await client.post(PATH, json=EXAMPLE)):
                assert_problem(answer, 503)
                assert answer.headers["retry-after"] == "1"

    run_virtual(main())


def test_a_service_that_lost_its_replicas_is_not_ready_until_they_answer_again(package):
    lost = True

    async def gone():
        if lost:
            raise ReplicaLostError("gone")

    async def main():
        async with Service(package, before_encode=gone) as service:
            await service.post()
            answer = await service.client.get("/readyz")
            assert_problem(answer, 503)
            assert answer.headers["retry-after"] == "1"
            await asyncio.sleep(1)
            assert_problem(await service.client.get("/readyz"), 503)
            nonlocal lost
            lost = False
            await asyncio.sleep(1)
            assert (await service.client.get("/readyz")).status_code == 200

    run_virtual(main())


def test_a_whole_number_may_be_written_as_a_float(package):
    whole, floats = (
        {"user_id": kind(5), "session_id": kind(6), "product_id": kind(7), "brand": kind(8)} for kind in (int, float)
    )
    answers = [
        exchange(package, body_with(**members), path=f"{PATH}?detail=true").json() for members in (whole, floats)
    ]
    assert [answer["user_id"] for answer in answers] == [5, 5]
    assert answers[0]["purchase_probability"] == answers[1]["purchase_probability"]
    assert [answer["features"]["brand"]["value"] for answer in answers] == ["8", "8"]
