"""JSON as Python's clients write it: NaN is null wherever rows are read, infinity breaks the rule of its feature."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.errors import MalformedBodyError
from serve_app.http.schemas import EXAMPLE_REQUEST
from serve_app.runtime.json_bodies import load_json
from tests.testing_kit.deployments.calls import AppCalls

pytestmark = pytest.mark.unit

NAN, INF = math.nan, math.inf
INFER = "/v2/models/purchase/infer"
ROWS = [
    {"price": 130.76, "hour": 12, "day_of_week": 1, "is_weekend": 0, "brand": "samsung", "conversion_rate": NAN},
    {"price": 99.0, "hour": 13.0, "day_of_week": 2, "is_weekend": 0, "brand": NAN, "conversion_rate": 0.5},
    {"price": NAN, "hour": 13, "day_of_week": 2, "is_weekend": 0, "brand": "NaN, Infinity", "conversion_rate": 0.25},
]
NAMES = list(ROWS[0])


@pytest.fixture(scope="module")
def calls(package) -> Iterator[AppCalls]:
    with AppCalls(package) as opened:
        yield opened


def without_nan(value):
    """The same value with null where it has NaN."""
    if isinstance(value, dict):
        return {name: without_nan(each) for name, each in value.items()}
    if isinstance(value, list):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def tensors(rows: list[dict], *, nested: bool = False) -> dict:
    return {
        "inputs": [
            {
                "name": name,
                "datatype": "BYTES" if name == "brand" else "FP64",
                "shape": [len(rows), 1] if nested else [len(rows)],
                "data": [[row[name]] if nested else row[name] for row in rows],
            }
            for name in NAMES
        ]
    }


FORMS = {
    "dataframe_split": lambda rows: {
        "dataframe_split": {"columns": NAMES, "data": [[row[name] for name in NAMES] for row in rows]}
    },
    "dataframe_records": lambda rows: {"dataframe_records": rows},
    "inputs": lambda rows: {"inputs": {name: [row[name] for row in rows] for name in NAMES}},
    "inputs of (n, 1)": lambda rows: {"inputs": {name: [[row[name]] for row in rows] for name in NAMES}},
    "instances": lambda rows: {"instances": rows},
    "/v2": tensors,
    "/v2 nested": lambda rows: tensors(rows, nested=True),
}


def post(calls: AppCalls, form: str, value: object) -> httpx.Response:
    return calls.post(INFER if form.startswith("/v2") else "/invocations", json.dumps(value).encode())


@pytest.mark.parametrize("n_times", [1, 300, 4000], ids=["small", "beside the loop", "in the process for large JSON"])
@pytest.mark.parametrize("form", FORMS)
def test_nan_is_null_in_every_form(calls, form, n_times):
    value = FORMS[form](ROWS * n_times)
    answer, expected = post(calls, form, value), post(calls, form, without_nan(value))
    assert (answer.status_code, answer.content) == (expected.status_code, expected.content)
    assert answer.status_code == 200


@pytest.mark.parametrize("value", ["Infinity", "-Infinity"])
@pytest.mark.parametrize("name", ["price", "conversion_rate", "brand"])
@pytest.mark.parametrize("form", FORMS)
def test_an_infinite_number_rejects_its_row_and_no_other(calls, form, name, value):
    rows = [dict(ROWS[0]), {**ROWS[0], name: float(value)}, dict(ROWS[0])]
    answer = post(calls, form, FORMS[form](rows))
    assert answer.status_code == 200
    body = answer.json()
    if form.startswith("/v2"):
        found = {output["name"]: output["data"] for output in body["outputs"]}
        predictions, messages = found["probability"], found["error"]
    else:
        predictions, messages = body["predictions"], ["", body["errors"][0]["detail"], ""]
        assert [error["pointer"] for error in body["errors"]] == [f"/1/{name}"]
    assert [p is None for p in predictions] == [False, True, False]
    assert str(float(value)) in messages[1]


def row_with(**members: str) -> bytes:
    """A body of one row with members as raw JSON text."""
    more = "".join(f',"{name}":{text}' for name, text in members.items())
    return json.dumps(EXAMPLE_REQUEST)[:-1].encode() + more.encode() + b"}"


@pytest.mark.parametrize("name", ["avg_price", "conversion_rate", "brand", "category_code", "event_id", "user_id", "x"])
@pytest.mark.parametrize("query", ["", "?detail=true"])
def test_nan_is_null_in_one_row_too(calls, name, query):
    answers = [calls.post(f"/predict_purchase{query}", row_with(**{name: text})) for text in ("NaN", "null")]
    assert [answer.status_code for answer in answers] == [200, 200]
    first, second = ({k: v for k, v in a.json().items() if k != "prediction_id"} for a in answers)
    assert first == second


@pytest.mark.parametrize("name", ["price", "hour", "session_id", "is_weekend"])
def test_nan_of_a_required_member_is_refused_as_null_is(calls, name):
    answers = [calls.post("/predict_purchase", row_with(**{name: text})) for text in ("NaN", "null")]
    assert answers[0].status_code == 422
    assert answers[0].json()["errors"] == answers[1].json()["errors"]


@pytest.mark.parametrize("text", ["1e400", "-1e400", "9" * 400, "-" + "9" * 400, "9" * 5_000])
@pytest.mark.parametrize("more", ["", "NaN"])
def test_a_number_beyond_a_double_refuses_the_body_everywhere(calls, text, more):
    row = {"hour": "0", "day_of_week": "0", "is_weekend": "0", "price": text, "brand": more or "null"}
    record = b"{" + ",".join(f'"{name}":{value}' for name, value in row.items()).encode() + b"}"
    tensor = b'{"name":"price","datatype":"FP64","shape":[2],"data":[%s,%s]}' % (text.encode(), more.encode() or b"1")
    bodies = {
        "/predict_purchase": row_with(**row),
        "/invocations": b'{"instances":[%s]}' % record,
        INFER: b'{"inputs":[%s]}' % tensor,
    }
    for path, body in bodies.items():
        answer = calls.post(path, body)
        assert (path, answer.status_code, answer.json()["type"]) == (path, 400, "urn:scorecat:problem:malformed-body")
    large = b'{"instances":[%s]}' % b",".join([record] * (1 + 100_000 // len(record)))
    assert calls.post("/invocations", large).status_code == 400


texts = st.one_of(st.text(max_size=6), st.sampled_from(["NaN", 'x", NaN, "', "\\", '"', "-Infinity", "é😀", "\\u0041"]))
values = st.recursive(
    st.one_of(st.floats(allow_infinity=False), st.integers(-(2**64), 2**65), st.booleans(), st.none(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


@given(values, st.booleans(), st.sampled_from([None, 2]))
def test_what_python_writes_means_what_it_means_with_null(value, is_ascii, indent):
    try:
        body = json.dumps([value, NAN], ensure_ascii=is_ascii, indent=indent).encode()
    except UnicodeEncodeError:
        return
    expected = orjson.loads(json.dumps([without_nan(value), None]))
    found = load_json(body)
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    "body",
    [b"[NaN,]", b"[nan]", b"[-Infinite, NaN]",
     b"[-NaN]", b"[NaNs]", b"[Inf, NaN]", b"NaN NaN", b'{"NaN"}', b'["\xff", NaN]', b'["\\ud800", NaN]',
     b"[" * 100_000 + b"NaN", b'["\n", NaN]', b"[01, NaN]", b"\xef\xbb\xbf[NaN]", "[NaN]".encode("utf-16")],
)  # fmt: skip
def test_nothing_else_that_is_no_json_is_taken(body):
    with pytest.raises(MalformedBodyError, match="not valid JSON"):
        load_json(body)
