"""Every JSON form that MLflow's own scoring server takes, and what is said of those that mean nothing here."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from catboost import CatBoostRegressor

from serve_app.features.core.specs import PURCHASE_NAMES, FeatureSpec
from serve_app.models.catboost.scorer import CatBoostScorer
from serve_app.models.core.manifest import Manifest
from serve_app.models.service.ports import Package
from tests.testing_kit.deployments.calls import AppCalls

pytestmark = pytest.mark.unit

ROWS = [
    {"price": 130.76, "hour": 12, "day_of_week": 1, "is_weekend": 0, "brand": "samsung"},
    {"price": 99.5, "hour": 13, "day_of_week": 2, "is_weekend": 1, "brand": None},
    {"price": 7.0, "hour": 0, "day_of_week": 6, "is_weekend": 1, "brand": "apple"},
]
NAMES = list(ROWS[0])
COLUMNS = {name: [row[name] for row in ROWS] for name in NAMES}
LISTS = [[row[name] for name in NAMES] for row in ROWS]
IN_ORDER = [[row.get(name) for name in PURCHASE_NAMES] for row in ROWS]


@pytest.fixture(scope="module")
def shop(package) -> Iterator[AppCalls]:
    with AppCalls(package) as opened:
        yield opened


def make_numbered(n_inputs: int) -> AppCalls:
    """A regression whose inputs have no names but their numbers, as one trained on an array has."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(200, n_inputs))
    model = CatBoostRegressor(iterations=5, depth=2, verbose=0, allow_writing_files=False)
    model.fit(rows, rows.sum(axis=1))
    features = tuple(FeatureSpec(str(k), "numeric", "", on_null="nan") for k in range(n_inputs))
    manifest = Manifest("numbered", "2026-01-01T00:00:00Z", "regression", features)
    return AppCalls(Package(manifest, {}, pa.table({}), pa.table({}), CatBoostScorer(model, features)))


@pytest.fixture(scope="module")
def expected(shop) -> list[float]:
    answer = shop.post("/invocations", json.dumps({"dataframe_records": ROWS}).encode())
    assert answer.status_code == 200
    found = answer.json()["predictions"]
    assert len(set(found)) == len(ROWS)
    return found


SAME = {
    "split": {"dataframe_split": {"columns": NAMES, "data": LISTS}},
    "split with an index": {"dataframe_split": {"index": [5, 6, 7], "columns": NAMES, "data": LISTS}},
    "records": {"dataframe_records": ROWS},
    "records that leave members out": {
        "dataframe_records": [{n: v for n, v in row.items() if v is not None} for row in ROWS]
    },
    "columns": {"inputs": COLUMNS},
    "columns of (n, 1)": {"inputs": {name: [[v] for v in values] for name, values in COLUMNS.items()}},
    "columns of both shapes": {"inputs": COLUMNS | {"price": [[v] for v in COLUMNS["price"]]}},
    "instances as columns": {"instances": COLUMNS},
    "instances as columns of (n, 1)": {"instances": {n: [[v] for v in values] for n, values in COLUMNS.items()}},
    "instances": {"instances": ROWS},
    "inputs as records": {"inputs": ROWS},
    "instances of tensors": {"instances": [{name: [v] for name, v in row.items()} for row in ROWS]},
    "instances as lists": {"instances": IN_ORDER},
    "inputs as lists": {"inputs": IN_ORDER},
    "with params": {"dataframe_records": ROWS, "params": {"max_tokens": 3}},
    "params first": {"params": {}, "inputs": COLUMNS},
    "with another member": {"instances": ROWS, "signature_name": "serving_default"},
}


@pytest.mark.parametrize("form", SAME)
def test_a_form_of_mlflow_gives_what_records_give(shop, expected, form):
    answer = shop.post("/invocations", json.dumps(SAME[form]).encode())
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"predictions": expected}


@pytest.mark.parametrize("form", SAME)
def test_a_large_body_of_a_form_gives_the_same(shop, expected, form):
    text = json.dumps(SAME[form])
    answer = shop.post("/invocations", text.encode() + b" " * 100_000)
    assert answer.json() == {"predictions": expected}


@pytest.mark.parametrize("key", ["inputs", "instances"])
@pytest.mark.parametrize("k", range(3))
def test_an_object_of_plain_values_is_one_row(shop, expected, key, k):
    answer = shop.post("/invocations", json.dumps({key: ROWS[k]}).encode())
    assert answer.json() == {"predictions": [expected[k]]}


@pytest.mark.parametrize("form", [[5.0, -1.0, None], [[5.0], [-1.0], [None]], [{"0": 5.0}, {"0": -1.0}, {"0": None}]])
@pytest.mark.parametrize("key", ["inputs", "instances"])
def test_a_model_of_one_input_takes_a_list_of_its_values(one_input, key, form):
    answer = one_input.post("/invocations", json.dumps({key: form}).encode())
    expected = one_input.post("/invocations", b'{"inputs": {"0": [5.0, -1.0, null]}}')
    assert answer.status_code == expected.status_code == 200
    assert answer.json() == expected.json()


def test_a_model_of_one_input_takes_one_value(one_input):
    answers = [one_input.post("/invocations", body) for body in (b'{"inputs": 5}', b'{"inputs": {"0": [5]}}')]
    assert answers[0].json() == answers[1].json()
    assert answers[0].status_code == 200


def test_columns_that_pandas_numbered_are_named_by_their_numbers(three_inputs):
    expected = three_inputs.post("/invocations", b'{"dataframe_records": [{"0": 1, "1": 2, "2": 3}]}')
    for columns in ([0, 1, 2], ["0", "1", "2"], [0, "1", 2]):
        body = {"dataframe_split": {"columns": columns, "data": [[1, 2, 3]]}}
        answer = three_inputs.post("/invocations", json.dumps(body).encode())
        assert answer.status_code == expected.status_code == 200, answer.text
        assert answer.json() == expected.json()
    turned = {"dataframe_split": {"columns": [2, 0, 1], "data": [[3, 1, 2]]}}
    assert three_inputs.post("/invocations", json.dumps(turned).encode()).json() == expected.json()


@pytest.fixture(scope="module")
def one_input() -> Iterator[AppCalls]:
    with make_numbered(1) as opened:
        yield opened


@pytest.fixture(scope="module")
def three_inputs() -> Iterator[AppCalls]:
    with make_numbered(3) as opened:
        yield opened


@pytest.mark.parametrize("key", ["dataframe_records", "dataframe_split"])
def test_a_list_within_a_data_frame_is_a_bad_value(shop, key):
    rows = [{**ROWS[0], "price": [5]}, ROWS[1]]
    body = {"dataframe_records": rows}
    if key == "dataframe_split":
        body = {key: {"columns": NAMES, "data": [[row[name] for name in NAMES] for row in rows]}}
    answer = shop.post("/invocations", json.dumps(body).encode())
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/0/price"]


def test_a_column_with_some_lists_of_one_is_no_tensor(shop):
    answer = shop.post("/invocations", json.dumps({"inputs": COLUMNS | {"price": [[5], 6, [7, 8]]}}).encode())
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/0/price", "/2/price"]


REFUSED = {
    "a flat list": ({"instances": [1, 2, 3]}, "instances is a list of plain values (a number first), the model has 22"),
    "texts": ({"inputs": ["a", "b"]}, "inputs is a list of plain values (a text first)"),
    "one value": ({"inputs": 5}, "inputs must be a list of rows, not a number"),
    "null": ({"instances": None}, "instances must be a list of rows, not null"),
    "an object of records": ({"dataframe_records": ROWS[0]}, "dataframe_records must be a list of rows, not an object"),
    "a number first": ({"instances": [1, ROWS[0]]}, "instances/0 is a number; every row must be an object"),
    "null first": ({"instances": [None, ROWS[0]]}, "instances/0 is null; every row must be an object"),
    "a list later": ({"instances": [ROWS[0], [1]]}, "instances/1 is a list; every row must be an object"),
    "an object later": ({"instances": [[1], ROWS[0]]}, "instances/1 is an object; every row must be a list"),
    "a short list": ({"instances": [[1, 2]]}, "instances/0 is a list of 2; it must be a list of 22 values"),
    "lists and values": ({"inputs": COLUMNS | {"hour": 3}}, "'hour' is a number beside lists"),
    "two lengths": ({"inputs": {"price": [1], "hour": [1, 2]}}, "'price' has 1 and 'hour' has 2"),
    "names that are none": ({"dataframe_split": {"columns": [["a", 1]], "data": [[1]]}}, "a list of names `columns`"),
    "no names": ({"dataframe_split": {"data": [[1]]}}, "a list of names `columns`"),
    "a number and its text": ({"dataframe_split": {"columns": [0, "0"], "data": [[1, 2]]}}, "names a column twice"),
    "a list": ([ROWS[0]], "it is a list"),
    "another member alone": ({"data": [1], "model": "x"}, "it has none of them, only data, model"),
    "nothing": ({}, "it has none"),
    "two forms": ({"inputs": {}, "instances": []}, "it has inputs and instances"),
}  # fmt: skip


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_no_form_is_named_as_it_was_given(shop, form):
    body, says = REFUSED[form]
    answer = shop.post("/invocations", json.dumps(body).encode())
    assert answer.status_code == 400, answer.text
    assert says in answer.json()["detail"]
