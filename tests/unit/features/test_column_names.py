"""Columns and members that are not there, misspelt or read by no one, in every form that a row can come in."""

from __future__ import annotations

import asyncio
import io
import struct
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.row_keys import KEY_NAMES, PUBLISHED_COLUMNS
from serve_app.features.core.specs import PURCHASE_FEATURES, UNKNOWN_CLASS, FeatureSpec
from serve_app.features.core.typed_columns import MAX_COLUMNS
from serve_app.http.app import create_app
from serve_app.http.column_names import MAX_HEADER_BYTES, describe_ignored
from serve_app.http.schemas import EXAMPLE_REQUEST
from serve_app.http.tables.json_records import MIN_BYTES
from serve_app.models.core.manifest import Manifest
from serve_app.models.core.model_facts import ModelFacts
from serve_app.models.core.schema_file import Schema, parse_schema
from serve_app.models.service.import_plan import plan_import
from serve_app.runtime.microbatch import BatchLimits
from serve_app.scoring.service.version_scorer import VersionScorer
from tests.testing_kit import VOCABULARIES, LocalEncoder, LocalModel, MemoryAccessLog, MemoryMeter, make_traffic

pytestmark = pytest.mark.unit

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
N_ROWS = 3
ROW_FEATURES = {name: EXAMPLE_REQUEST[name] for name in ("price", "hour", "day_of_week", "is_weekend")}
LOAN: dict[str, Any] = {"income": 1000.0, "age": 31.0, "employer": "mill", "region": "north", "purpose": "car"}
ENCODERS = {
    "employer": ["mill", "nan", "port"],  # was fitted with missing values: null is the class nan
    "region": ["north", "south", UNKNOWN_CLASS],
    "purpose": ["car", "house"],
}
SCHEMA = {"features": [{"name": "age", "fill": 40}]}


class SumModel:
    """A model that tells rows apart, NaN too."""

    def predict(self, matrix: np.ndarray, strings: pa.RecordBatch | None = None) -> np.ndarray:
        weights = np.arange(1.0, matrix.shape[1] + 1)
        return 1 / (1 + np.exp(-(np.where(np.isnan(matrix), -7.0, matrix) @ weights) / 1e5))

    def explain(self, matrix: np.ndarray, strings: pa.RecordBatch | None = None) -> np.ndarray:
        return np.column_stack([np.nan_to_num(matrix), np.zeros(len(matrix))]).astype(np.float64)


class Shop:
    """The application over local replicas."""

    def __init__(
        self, runner: asyncio.Runner, name: str, features: tuple[FeatureSpec, ...], vocabularies: dict[str, list[str]]
    ) -> None:
        self.name, self.features, self._runner = name, features, runner
        self.meter = MemoryMeter()
        manifest = Manifest(name, "2026-01-01T00:00:00Z", "binary", features)
        encoder = LocalEncoder(FeatureEncoder(features, vocabularies))
        scorer = VersionScorer(1, manifest, encoder, LocalModel(SumModel()), BatchLimits())
        app = create_app(runner.run(make_traffic(scorer)), MemoryAccessLog(), timeout_s=5.0, meter=self.meter)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://shop")

    def post(self, path: str, body: bytes, media: str = JSON, **headers: str) -> httpx.Response:
        named = {"content-type": media, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self._runner.run(self._client.post(path, content=body, headers=named))

    def send(self, form: str, columns: dict[str, list[Any]], query: str = "") -> httpx.Response:
        path, body, media, headers = FORMS[form](columns, self.name)
        return self.post(path + query, body, media, **headers)


def columns_of(row: dict[str, Any], n: int = N_ROWS) -> dict[str, list[Any]]:
    return {name: [value] * n for name, value in row.items()}


def records(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def as_json(key: str, value: Callable[[dict[str, list[Any]]], Any]) -> Callable[..., Any]:
    return lambda columns, _: ("/invocations", orjson.dumps({key: value(columns)}), JSON, {})


def as_large_records(columns: dict[str, list[Any]], _: str) -> tuple[str, bytes, str, dict[str, str]]:
    rows = records(columns) * 600
    body = orjson.dumps({"dataframe_records": rows})
    assert len(body) > MIN_BYTES
    return "/invocations", body, JSON, {}


def as_csv(columns: dict[str, list[Any]], _: str) -> tuple[str, bytes, str, dict[str, str]]:
    sink = io.BytesIO()
    pacsv.write_csv(pa.table(columns), sink)
    return "/invocations", sink.getvalue(), "text/csv", {}


def as_arrow(columns: dict[str, list[Any]], _: str) -> tuple[str, bytes, str, dict[str, str]]:
    table, sink = pa.table(columns), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return "/invocations", sink.getvalue().to_pybytes(), ARROW, {}


def as_parquet(columns: dict[str, list[Any]], _: str) -> tuple[str, bytes, str, dict[str, str]]:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return "/invocations", sink.getvalue(), PARQUET, {}


def tensors(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "datatype": "BYTES" if isinstance(values[0], str) else "FP64",
            "shape": [len(values)],
            "data": values,
        }
        for name, values in columns.items()
    ]


def as_tensors(columns: dict[str, list[Any]], model: str) -> tuple[str, bytes, str, dict[str, str]]:
    return f"/v2/models/{model}/infer", orjson.dumps({"inputs": tensors(columns)}), JSON, {}


def as_binary(columns: dict[str, list[Any]], model: str) -> tuple[str, bytes, str, dict[str, str]]:
    inputs, data = tensors(columns), b""
    for tensor in inputs:
        values = tensor.pop("data")
        if tensor["datatype"] == "FP64":
            part = np.array(values, "<f8").tobytes()
        else:
            part = b"".join(struct.pack("<I", len(v)) + v.encode() for v in values)
        tensor["parameters"] = {"binary_data_size": len(part)}
        data += part
    head = orjson.dumps({"inputs": inputs})
    headers = {"Inference_Header_Content_Length": str(len(head))}
    return f"/v2/models/{model}/infer", head + data, "application/octet-stream", headers


FORMS: dict[str, Callable[[dict[str, list[Any]], str], tuple[str, bytes, str, dict[str, str]]]] = {
    "dataframe_split": as_json(
        "dataframe_split", lambda c: {"columns": list(c), "data": [list(r.values()) for r in records(c)]}
    ),
    "dataframe_records": as_json("dataframe_records", records),
    "many records": as_large_records,
    "instances": as_json("instances", records),
    "inputs, columns": as_json("inputs", lambda c: c),
    "inputs, rows": as_json("inputs", records),
    "csv": as_csv,
    "arrow": as_arrow,
    "parquet": as_parquet,
    "v2": as_tensors,
    "v2, binary": as_binary,
}
TABLES = [form for form in FORMS if not form.startswith("v2")]


def facts(names: tuple[str, ...]) -> ModelFacts:
    return ModelFacts("binary", "Logloss", ("0", "1"), names, True, (), "Probability", False, 9, 1.0)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as found:
        yield found


@pytest.fixture(scope="module")
def shop(runner) -> Shop:
    return Shop(runner, "purchase", PURCHASE_FEATURES, VOCABULARIES)


@pytest.fixture(scope="module")
def bank(runner) -> Shop:
    """An imported model: fills of its categories are derived, that of age is declared by a schema."""
    plan = plan_import(facts(tuple(LOAN)), {"label_encoders": ENCODERS}, parse_schema(SCHEMA))
    return Shop(runner, "loan", plan.features, plan.vocabularies)


def pointers(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 422, answer.text
    return [error["pointer"] for error in answer.json()["errors"]]


@pytest.mark.parametrize("form", FORMS)
def test_the_purchase_model_needs_four_columns_in_every_form(shop, form):
    assert shop.send(form, columns_of(ROW_FEATURES)).status_code == 200
    for name in ROW_FEATURES:
        rest = {k: v for k, v in ROW_FEATURES.items() if k != name}
        assert pointers(shop.send(form, columns_of(rest))) == [f"/{name}"]


@pytest.mark.parametrize("form", FORMS)
def test_an_imported_model_needs_every_column_but_those_with_a_declared_fill(bank, form):
    whole = bank.send(form, columns_of(LOAN))
    assert whole.status_code == 200, whole.text
    assert bank.send(form, columns_of({k: v for k, v in LOAN.items() if k != "age"})).status_code == 200
    for name in ("income", "employer", "region", "purpose"):
        rest = columns_of({k: v for k, v in LOAN.items() if k != name})
        assert pointers(bank.send(form, rest)) == [f"/{name}"]
        lifted = bank.send(form, rest, f"?defaults={name},age")
        if name == "purpose":  # has no class for null, so no table can do without it
            assert pointers(lifted) == ["/purpose"]
        else:
            assert lifted.status_code == 200, lifted.text


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "inputs, columns", "arrow", "parquet", "v2"])
@pytest.mark.parametrize("name", ["income", "employer", "region", "age"])
def test_nulls_are_scored_by_what_an_import_derived_as_the_named_absent_column_is(bank, form, name):
    columns = columns_of(LOAN)
    nulls = {**columns, name: [columns[name][0], None, None]}
    path, body, media, headers = FORMS[form](nulls, "loan")
    scores = bank.post(path, body, media, **headers)
    assert scores.status_code == 200, scores.text
    rest = {k: v for k, v in columns.items() if k != name}
    absent = bank.send(form, rest, f"?defaults={name}")
    assert predictions(scores)[1:] == predictions(absent)[1:]
    assert predictions(scores)[0] != predictions(scores)[1]


def predictions(answer: httpx.Response) -> list[float]:
    body = answer.json()
    if "predictions" in body:
        return body["predictions"]
    return next(o["data"] for o in body["outputs"] if o["name"] == "probability")


@pytest.mark.parametrize("form", TABLES)
def test_a_misspelt_column_is_refused_with_the_name_that_was_meant(shop, form):
    row = {**ROW_FEATURES, "MaxPrice": 3.0, "shoe_size": 42.0}
    answer = shop.send(form, columns_of(row))
    assert pointers(answer) == ["/MaxPrice"]
    assert answer.json()["errors"][0]["detail"] == "is not known here; did you mean max_price?"
    assert "MaxPrice (did you mean max_price?)" in answer.json()["detail"]
    assert "absent on purpose by ?defaults=max_price" in answer.json()["detail"]
    lifted = shop.send(form, columns_of(row), "?defaults=max_price")
    assert lifted.status_code == 200, lifted.text
    assert lifted.headers["x-ignored-columns"].split(",") in (["MaxPrice", "shoe_size"], ["shoe_size", "MaxPrice"])


@pytest.mark.parametrize("form", TABLES)
def test_a_misspelt_required_column_is_named_with_the_one_that_is_missing(shop, form):
    row = {"prise" if name == "price" else name: value for name, value in ROW_FEATURES.items()}
    answer = shop.send(form, columns_of(row))
    assert pointers(answer) == ["/price", "/prise"]
    assert "did you mean price?" in answer.json()["errors"][1]["detail"]


@pytest.mark.parametrize("form", TABLES)
def test_a_column_like_a_feature_that_is_there_is_ignored_and_named(shop, form):
    row = {**ROW_FEATURES, "prise": 1.0, "price/2": 1.0, "ré, x": 1.0}
    answer = shop.send(form, columns_of(row))
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-ignored-columns"].isascii()
    names = [unquote(name) for name in answer.headers["x-ignored-columns"].split(",")]
    assert sorted(names) == ["price/2", "prise", "ré, x"]


@pytest.mark.parametrize("form", TABLES)
def test_columns_of_the_log_and_keys_are_never_taken_for_misspelt_ones(bank, form):
    row = {**LOAN, **dict.fromkeys([*PUBLISHED_COLUMNS, *KEY_NAMES], "x")}
    assert bank.send(form, columns_of(row)).status_code == 200


@pytest.mark.parametrize("form", TABLES)
def test_a_misspelt_key_is_refused_where_there_is_a_history_to_look_up(shop, bank, form):
    row = {**ROW_FEATURES, "userid": "u", "session_id": "s", "product_id": "p"}
    assert pointers(shop.send(form, columns_of(row))) == ["/userid"]
    assert shop.send(form, columns_of(row), "?defaults=user_id").status_code == 200
    assert shop.send(form, columns_of({**row, "user_id": "u"})).status_code == 200
    assert bank.send(form, columns_of({**LOAN, "userid": "u"})).status_code == 200


@pytest.mark.parametrize("form", ["v2", "v2, binary"])
def test_v2_refuses_unknown_inputs_whatever_defaults_says_and_says_what_was_meant(shop, form):
    row = {**ROW_FEATURES, "max_prices": 3.0, "shoe_size": 42.0}
    answer = shop.send(form, columns_of(row), "?defaults=max_price")
    assert pointers(answer) == ["/inputs/4/name", "/inputs/5/name"]
    first, second = answer.json()["errors"]
    assert first["detail"] == "there is no input 'max_prices' (did you mean max_price?)"
    assert second["detail"] == "there is no input 'shoe_size'"
    assert "did you mean max_price?" in answer.json()["error"]


@pytest.mark.parametrize("form", ["dataframe_records", "csv", "arrow"])
def test_a_table_without_rows_lacks_nothing(shop, form):
    path, body, media, _ = FORMS[form](columns_of({"prise": 1.0}), "purchase")
    empty = {
        "dataframe_records": b'{"dataframe_records": []}',
        "csv": b"prise\n",
        "arrow": FORMS["arrow"]({"prise": pa.array([], pa.float64())}, "")[1],  # type: ignore[dict-item]
    }
    assert shop.post(path, empty[form], media).json() == {"predictions": []}
    assert shop.post(path, body, media).status_code == 422


@pytest.mark.parametrize("route", ["/invocations", "/v2/models/purchase/infer"])
def test_there_is_a_limit_to_how_many_names_a_table_may_have(shop, route):
    names = [*ROW_FEATURES, *(f"c{i}" for i in range(MAX_COLUMNS))]
    body = (
        {"inputs": [{"name": name, "datatype": "FP64", "shape": [1], "data": [1]} for name in names]}
        if route.startswith("/v2")
        else {"dataframe_records": [{**ROW_FEATURES, name: 1} for name in names]}
    )
    answer = shop.post(route, orjson.dumps(body))
    assert answer.status_code == 413
    assert "columns" in answer.json()["detail"]


def test_a_member_that_some_records_have_is_there(bank):
    rows = [LOAN, {k: v for k, v in LOAN.items() if k != "employer"}]
    answer = bank.post("/invocations", orjson.dumps({"dataframe_records": rows}))
    assert answer.status_code == 200, answer.text


def test_rows_as_lists_lack_nothing(bank):
    answer = bank.post("/invocations", orjson.dumps({"instances": [list(LOAN.values())]}))
    assert answer.status_code == 200, answer.text


def test_all_that_is_missing_is_named_at_once(bank):
    answer = bank.send("csv", columns_of({"age": 3.0, "Income": 5.0}))
    assert pointers(answer) == ["/income", "/employer", "/region", "/purpose", "/Income"]
    body = answer.json()
    assert body["detail"].startswith("the table lacks required columns: income, employer, region, purpose")
    assert "?defaults=employer" in body["errors"][1]["detail"]
    assert "?defaults" not in body["errors"][3]["detail"]


@pytest.mark.parametrize(
    "query", ["?defaults=employer,income", "?defaults=employer&defaults=income", "?defaults=employer%2C%20income"]
)
def test_defaults_may_be_written_in_any_way_a_client_writes_them(bank, query):
    rest = {k: v for k, v in LOAN.items() if k not in {"employer", "income"}}
    assert bank.send("csv", columns_of(rest), query).status_code == 200


@pytest.mark.parametrize("path", ["/invocations", "/v2/models/purchase/infer", "/predict_purchase"])
def test_defaults_that_name_no_input_are_refused_with_the_one_that_was_meant(shop, path):
    form = "v2" if path.startswith("/v2") else "dataframe_records"
    body = (
        orjson.dumps(EXAMPLE_REQUEST) if path == "/predict_purchase" else FORMS[form](columns_of(ROW_FEATURES), "")[1]
    )
    answer = shop.post(f"{path}?defaults=maxprice", body)
    assert answer.status_code == 400
    assert "'maxprice', which is no input of the model (did you mean max_price?)" in answer.json()["detail"]
    assert shop.post(f"{path}?defaults=max_price", body).status_code == 200


def test_input_names_with_commas_can_be_named(runner):
    specs = (FeatureSpec("a,b", "numeric", "", on_null="nan"), FeatureSpec("c", "numeric", ""))
    odd = Shop(runner, "odd", specs, {})
    assert pointers(odd.send("csv", {"c": [1.0]})) == ["/a,b"]
    assert odd.send("csv", {"c": [1.0]}, "?defaults=a%2Cb").status_code == 200


def test_pointers_to_odd_names_resolve(runner):
    odd = Shop(runner, "odd", (FeatureSpec("a/b~c", "numeric", ""), FeatureSpec("d", "numeric", "")), {})
    assert pointers(odd.send("csv", {"d": [1.0], "A b C": [2.0]})) == ["/a~1b~0c", "/A b C"]


# one row


def predict(shop: Shop, query: str = "", **members: Any) -> httpx.Response:
    return shop.post(f"/predict_purchase{query}", orjson.dumps({**EXAMPLE_REQUEST, **members}))


def test_a_misspelt_member_of_a_row_is_refused_with_the_one_that_was_meant(shop):
    answer = predict(shop, max_prcie=3.0, event_tme=None, shoe_size=1)
    assert pointers(answer) == ["/event_tme", "/max_prcie"]
    assert [e["detail"].partition("?")[0] for e in answer.json()["errors"]] == [
        "is not known here; did you mean event_time",
        "is not known here; did you mean max_price",
    ]
    assert predict(shop, "?defaults=max_price,event_time", max_prcie=3.0, event_tme=None).status_code == 200
    assert predict(shop, max_prcie=3.0, max_price=None).status_code == 200


def test_a_misspelt_required_member_is_named_with_the_one_that_is_missing(shop):
    row = {"prise" if name == "price" else name: value for name, value in EXAMPLE_REQUEST.items()}
    assert pointers(shop.post("/predict_purchase", orjson.dumps(row))) == ["/price", "/prise"]


def test_members_that_no_one_reads_are_named_in_header_and_detail(shop):
    answer = predict(shop, "?detail=true", user_session="s", event_type="view", shoe_size=42, max_price=9.0)
    assert answer.status_code == 200, answer.text
    assert answer.json()["ignored"] == ["event_type", "shoe_size", "user_session"]
    assert answer.headers["x-ignored-columns"] == "event_type,shoe_size,user_session"
    plain = predict(shop, "?detail=true")
    assert plain.json()["ignored"] == []
    assert "x-ignored-columns" not in plain.headers


# the header


def test_the_header_has_twenty_names_and_a_count():
    names = [f"c{i}" for i in range(25)]
    assert describe_ignored(names[:20]) == ",".join(names[:20])
    assert describe_ignored(names) == ",".join(names[:20]) + ";more=5"


@pytest.mark.parametrize("name", ["x" * 100, "é" * 100, "x" * 5000, ",;="])
def test_the_header_is_never_longer_than_a_kilobyte(name):
    value = describe_ignored([f"{name}{i}" for i in range(30)])
    assert len(value.encode("ascii")) <= MAX_HEADER_BYTES
    shown, _, more = value.partition(";more=")
    assert len(shown.split(",") if shown else []) + int(more) == 30


# queries that another route serves


@pytest.mark.parametrize(
    ("route", "query", "said"),
    [
        ("/invocations", "explain=true", "`shap` of POST /v2/models/NAME/infer"),
        ("/invocations", "explain=1", "`shap`"),
        ("/invocations", "detail=true", "X-Ignored-Columns"),
        ("/invocations", "explian=true", "`shap`"),
        ("/invocations", "outptu=raw", "did you mean output?"),
        ("/invocations", "default=max_price", "did you mean defaults?"),
        ("/v2/models/purchase/infer", "explain=true", "`shap` of POST /v2/models/NAME/infer"),
        ("/v2/models/purchase/infer", "detail", "X-Ignored-Columns"),
        ("/v2/models/purchase/infer", "output=raw", "`outputs` in the body"),
        ("/predict_purchase", "details=true", "did you mean detail?"),
        ("/predict_purchase", "Explain=true", "did you mean explain?"),
        ("/predict_purchase", "output=label", "/invocations?output=label"),
    ],
)
def test_a_query_that_another_route_serves_or_none_is_refused_with_what_there_is(shop, route, query, said):
    answer = shop.post(f"{route}?{query}", body_of(route))
    assert answer.status_code == 400
    assert said in answer.json()["detail"]


@pytest.mark.parametrize("route", ["/invocations", "/v2/models/purchase/infer", "/predict_purchase"])
@pytest.mark.parametrize("query", ["", "api_key=x", "t=1", "explain=false", "detail=0", "defaults="])
def test_other_queries_are_left_alone(shop, route, query):
    assert shop.post(f"{route}?{query}", body_of(route)).status_code == 200


def body_of(route: str) -> bytes:
    if route == "/predict_purchase":
        return orjson.dumps(EXAMPLE_REQUEST)
    return FORMS["v2" if route.startswith("/v2") else "dataframe_records"](columns_of(ROW_FEATURES), "")[1]


# what a schema declares, and what older packages say


@pytest.mark.parametrize(
    ("entry", "may_be_absent"),
    [
        ({}, False),
        ({"unit": "name"}, False),
        ({"fill": "nan"}, True),
        ({"fill": "mill"}, True),
        ({"on_null": "fill"}, True),
        ({"on_null": "reject"}, False),
    ],
)
def test_only_a_schema_makes_the_fill_of_an_imported_category_stand_for_its_column(entry, may_be_absent):
    schema = parse_schema({"features": [{"name": "employer", **entry}]}) if entry else Schema()
    plan = plan_import(facts(tuple(LOAN)), {"label_encoders": ENCODERS}, schema)
    spec = plan.features[2]
    assert spec.may_be_absent is may_be_absent
    assert FeatureSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    "rule", [{"fill": 0}, {"fill_from": "income"}, {"on_null": "fill_from", "fill_from": "income"}]
)
def test_a_schema_makes_the_fill_of_a_number_stand_for_its_column(rule):
    plan = plan_import(facts(("income", "age")), {}, parse_schema({"features": [{"name": "age", **rule}]}))
    assert [spec.may_be_absent for spec in plan.features] == [False, True]
    nan = plan_import(facts(("income", "age")), {}, parse_schema({"features": [{"name": "age", "on_null": "nan"}]}))
    assert not nan.features[1].may_be_absent


def test_of_a_package_without_the_mark_only_fills_that_no_import_derives_stand_for_a_column():
    def read(**members: Any) -> FeatureSpec:
        return FeatureSpec.from_json({"name": "x", "unit": "", **members})

    assert not read(kind="categorical", on_null="fill", fill="nan").may_be_absent
    assert not read(kind="categorical", on_null="fill", fill=UNKNOWN_CLASS).may_be_absent
    assert not read(kind="numeric", on_null="nan").may_be_absent
    assert not read(kind="numeric").may_be_absent
    assert read(kind="categorical", on_null="fill", fill="other").may_be_absent
    assert read(kind="numeric", on_null="fill", fill=4.0).may_be_absent
    assert [spec.name for spec in PURCHASE_FEATURES if not spec.may_be_absent] == list(ROW_FEATURES)


def test_a_schema_file_cannot_write_the_mark_itself():
    with pytest.raises(Exception, match="is_declared: is not known here"):
        parse_schema({"features": [{"name": "x", "is_declared": True}]})
