"""Many rows in one request: every form gives the same probabilities, and bad input its protocol's error."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import struct
from functools import partial

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.specs import PURCHASE_FEATURES, PURCHASE_NAMES, FeatureSpec
from serve_app.features.core.typed_columns import MAX_COLUMNS, MAX_ROWS
from serve_app.http.app import create_app
from serve_app.http.tables.table_formats import parse_csv
from tests.testing_kit import MemoryAccessLog, make_scorer, make_traffic, random_rows

pytestmark = pytest.mark.unit

ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
JSON = "application/json"
INFER = "/v2/models/purchase/infer"
N_ROWS = 300
KINDS = {spec.name: spec.kind for spec in PURCHASE_FEATURES}


@pytest.fixture(scope="module")
def rows() -> pa.RecordBatch:
    return random_rows(N_ROWS, seed=5)


@pytest.fixture(scope="module")
def expected(package, rows) -> list[float]:
    encoded = FeatureEncoder(package.manifest.features, package.vocabularies).encode(rows)
    assert not encoded.errors
    return package.model.predict(encoded.matrix).tolist()


def call(package, method: str, path: str, content: bytes = b"", **headers: str) -> httpx.Response:
    async def main() -> httpx.Response:
        scorer, _, _ = make_scorer(package, version=3)
        app = create_app(await make_traffic(scorer), MemoryAccessLog(), timeout_s=5.0)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            answer = await client.request(method, path, content=content, headers=named)
            assert (await client.get("/readyz")).status_code == 200
            return answer

    return asyncio.run(main())


def arrow_stream(table: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=70)
    return sink.getvalue().to_pybytes()


def parquet_file(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=70)
    return sink.getvalue()


def csv_file(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pacsv.write_csv(table, sink)
    return sink.getvalue()


def split(table: pa.Table) -> dict:
    data = [list(r.values()) for r in table.to_pylist()]
    return {"columns": table.column_names, "data": data}


FORMS = {
    "dataframe_split": lambda t: (JSON, orjson.dumps({"dataframe_split": split(t)})),
    "dataframe_records": lambda t: (JSON, orjson.dumps({"dataframe_records": t.to_pylist()})),
    "inputs": lambda t: (JSON, orjson.dumps({"inputs": t.to_pydict()})),
    "instances": lambda t: (JSON, orjson.dumps({"instances": t.to_pylist()})),
    "csv": lambda t: ("text/csv; charset=UTF-8", csv_file(t)),
    "arrow": lambda t: (ARROW, arrow_stream(t)),
    "parquet": lambda t: (PARQUET, parquet_file(t)),
    "parquet with dictionaries": lambda t: (
        PARQUET,
        parquet_file(t.set_column(t.column_names.index("brand"), "brand", t["brand"].dictionary_encode())),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_probabilities_to_the_last_bit(package, rows, expected, form):
    media, body = FORMS[form](pa.Table.from_batches([rows]))
    answer = call(package, "POST", "/invocations", body, content_type=media)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"predictions": expected}
    assert answer.headers["x-model-version"] == "3"


def test_rows_as_lists_are_in_the_models_order(package, rows, expected):
    full = pa.Table.from_batches([rows]).select(list(PURCHASE_NAMES))
    body = orjson.dumps({"instances": split(full)["data"]})
    assert call(package, "POST", "/invocations", body, content_type=JSON).json() == {"predictions": expected}


@pytest.mark.parametrize("form", ["dataframe_records", "csv", "arrow", "parquet"])
def test_columns_that_are_no_feature_are_ignored(package, rows, expected, form):
    table = pa.Table.from_batches([rows]).append_column("shoe_size", pa.array(["x"] * N_ROWS))
    media, body = FORMS[form](table)
    assert call(package, "POST", "/invocations", body, content_type=media).json()["predictions"] == expected


@pytest.mark.parametrize("accept", [ARROW, f"text/html, {ARROW};q=0.5", "text/csv"])
def test_answers_come_in_the_accepted_form(package, rows, expected, accept):
    answer = call(
        package, "POST", "/invocations", arrow_stream(pa.Table.from_batches([rows])), content_type=ARROW, accept=accept
    )
    assert answer.status_code == 200
    if "csv" in accept:
        table = pacsv.read_csv(io.BytesIO(answer.content))
    else:
        table = pa.ipc.open_stream(answer.content).read_all()
    assert table.column_names == ["probability", "recommendation", "version", "error"]
    assert table["probability"].to_pylist() == expected
    assert set(table["recommendation"].to_pylist()) <= {"high", "medium", "low"}
    assert table["version"].to_pylist() == [3] * N_ROWS
    assert table["error"].null_count == N_ROWS


def test_an_answer_nobody_can_write_is_refused(package, rows):
    answer = call(package, "POST", "/invocations", b"", content_type=ARROW, accept="image/png")
    assert answer.status_code == 406
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "inputs", "csv", "arrow", "parquet"])
def test_bad_rows_name_their_index_and_spoil_no_other(package, rows, expected, form):
    prices = rows.column("price").to_pylist()
    prices[7], prices[250] = 0.0, -1.0
    table = pa.Table.from_batches([rows])
    table = table.set_column(table.column_names.index("price"), "price", pa.array(prices))
    media, body = FORMS[form](table)
    answer = call(package, "POST", "/invocations", body, content_type=media).json()
    assert [e["index"] for e in answer["errors"]] == [7, 250]
    assert answer["errors"][0]["pointer"] == "/7/price"
    assert "above 0" in answer["errors"][0]["detail"]
    wanted = [None if i in {7, 250} else p for i, p in enumerate(expected)]
    assert answer["predictions"] == wanted


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "inputs", "instances", "csv"])
def test_a_value_of_another_type_is_a_bad_row_not_a_bad_request(package, rows, expected, form):
    table = pa.Table.from_batches([rows])
    if form == "csv":
        lines = csv_file(table).decode().splitlines()
        cells = lines[4].split(",")
        cells[table.column_names.index("price")] = "cheap"
        lines[4] = ",".join(cells)
        media, body = "text/csv", "\n".join(lines).encode()
    else:
        media, body = FORMS[form](table)
        value = orjson.loads(body)
        if form == "dataframe_split":
            value[form]["data"][3][value[form]["columns"].index("price")] = "cheap"
        elif form == "inputs":
            value[form]["price"][3] = "cheap"
        else:
            value[form][3]["price"] = "cheap"
        body = orjson.dumps(value)
    answer = call(package, "POST", "/invocations", body, content_type=media).json()
    assert [(e["index"], e["pointer"]) for e in answer["errors"]] == [(3, "/3/price")]
    assert "cheap" in answer["errors"][0]["detail"]
    assert answer["predictions"] == [None if i == 3 else p for i, p in enumerate(expected)]


def test_when_no_row_can_be_scored_the_request_is_refused(package):
    body = orjson.dumps({"inputs": {"price": [0, -1], "hour": [1, 2], "day_of_week": [1, 2], "is_weekend": [0, 0]}})
    answer = call(package, "POST", "/invocations", body, content_type=JSON)
    assert answer.status_code == 422
    assert [e["pointer"] for e in answer.json()["errors"]] == ["/0/price", "/1/price"]


def test_an_empty_table_has_an_empty_answer(package):
    body = b'{"dataframe_records": []}'
    assert call(package, "POST", "/invocations", body, content_type=JSON).json() == {"predictions": []}


MINIMAL = {"price": [1.0], "hour": [1], "day_of_week": [1], "is_weekend": [0]}
LONG = "x" * 100_000


def nested(depth: int) -> bytes:
    return b'{"inputs":' + b"[" * depth + b"]" * depth + b"}"


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def small_table(**columns) -> pa.Table:
    return pa.table({**MINIMAL, **columns})


BAD_TABLES = {
    "two of the four keys": (JSON, b'{"inputs":{},"instances":[]}', 400, "exactly one"),
    "none of the four keys": (JSON, b'{"rows":[]}', 400, "exactly one"),
    "not JSON": (JSON, b"{", 400, "JSON"),
    "empty": (JSON, b"", 400, "JSON"),
    "deep JSON": (JSON, nested(100_000), 400, "JSON"),
    "records of two kinds": (JSON, b'{"instances":[{"price":1},[1]]}', 400, "/1"),
    "records that are no list": (JSON, b'{"dataframe_records":{"price":1}}', 400, "list"),
    "columns of two lengths": (JSON, b'{"inputs":{"price":[1],"hour":[1,2]}}', 400, "one length"),
    "split without data": (JSON, b'{"dataframe_split":{"columns":["price"]}}', 400, "data"),
    "split with a short row": (JSON, b'{"dataframe_split":{"columns":["price","hour"],"data":[[1]]}}', 400, "2 values"),
    "split with a column twice": (JSON, b'{"dataframe_split":{"columns":["hour","hour"],"data":[]}}', 400, "twice"),
    "a missing column": (JSON, b'{"inputs":{"price":[1],"hour":[1],"day_of_week":[1]}}', 422, "is_weekend"),
    "another charset": ("application/json; charset=latin-1", b"{}", 415, "utf-8"),
    "another type": ("application/xml", b"<a/>", 415, "application/json"),
    "no type": ("", b"{}", 415, "Content-Type"),
    "ragged CSV": ("text/csv", b"price,hour\n1,2\n1,2,3\n", 400, "CSV"),
    "CSV of another charset": ("text/csv", b"price,brand\n1,\xff\n", 400, "CSV"),
    "truncated Arrow": (ARROW, truncated(arrow_stream(small_table())), 400, "Arrow"),
    "not Arrow": (ARROW, b"hello" * 100, 400, "Arrow"),
    "compressed Arrow": (ARROW, arrow_stream(small_table(), "zstd"), 415, "uncompressed"),
    "Arrow with a column of lists": (ARROW, arrow_stream(small_table(brand=[["a"]])), 422, "brand"),
    "truncated Parquet": (PARQUET, truncated(parquet_file(small_table())), 400, "Parquet"),
    "not Parquet": (PARQUET, b"PAR1" + b"x" * 100 + b"PAR1", 400, "Parquet"),
    "too long a string": (ARROW, arrow_stream(small_table(brand=[LONG])), 422, "512"),
    "too long a string in a dictionary": (
        ARROW,
        arrow_stream(small_table(brand=pa.array([LONG]).dictionary_encode())),
        422,
        "512",
    ),
    "too many rows": (JSON, b'{"instances":[' + b"0," * MAX_ROWS + b"0]}", 413, "rows"),
    "too many columns": (
        ARROW,
        arrow_stream(pa.table({f"c{i}": [1] for i in range(MAX_COLUMNS + 1)})),
        413,
        "columns",
    ),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_bad_table_is_refused_with_what_is_wrong(package, name):
    media, body, status, says = BAD_TABLES[name]
    answer = call(package, "POST", "/invocations", body, content_type=media)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.text


def test_a_parquet_bomb_is_refused_by_its_own_figures(package):
    rows = 5_000_000
    table = pa.table({name: pa.repeat(pa.scalar(1.0), rows) for name in MINIMAL})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    assert len(sink.getvalue()) < 200_000
    answer = call(package, "POST", "/invocations", sink.getvalue(), content_type=PARQUET)
    assert answer.status_code == 413
    assert str(rows) in answer.text


# Open Inference Protocol


def tensors(table: pa.Table, *, binary: bool = False) -> tuple[list[dict], bytes]:
    inputs, data = [], b""
    for name in table.column_names:
        values = table[name].to_pylist()
        is_text = KINDS[name] == "categorical"
        values = [("" if v is None else v) for v in values] if is_text else [np.nan if v is None else v for v in values]
        tensor = {"name": name, "datatype": "BYTES" if is_text else "FP64", "shape": [len(values)]}
        if binary:
            raw = (
                b"".join(struct.pack("<I", len(v.encode())) + v.encode() for v in values)
                if is_text
                else np.array(values, "<f8").tobytes()
            )
            inputs.append({**tensor, "parameters": {"binary_data_size": len(raw)}})
            data += raw
        else:
            inputs.append({**tensor, "data": values})
    return inputs, data


@pytest.fixture(scope="module")
def full(package) -> tuple[pa.Table, list[float]]:
    """Rows without nulls, which tensors cannot express."""
    table = pa.Table.from_batches([random_rows(50, seed=9, null_share=0.0)])
    encoded = FeatureEncoder(package.manifest.features, package.vocabularies).encode(
        table.combine_chunks().to_batches()[0]
    )
    return table, package.model.predict(encoded.matrix).tolist()


def test_json_tensors_are_scored_and_the_id_is_echoed(package, full):
    table, expected = full
    inputs, _ = tensors(table)
    answer = call(package, "POST", INFER, orjson.dumps({"id": "42", "inputs": inputs}), content_type=JSON).json()
    outputs = {o["name"]: o for o in answer["outputs"]}
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("purchase", "3", "42")
    assert outputs["probability"] == {"name": "probability", "datatype": "FP64", "shape": [50], "data": expected}
    assert set(outputs) == {"probability", "recommendation", "version"}
    assert outputs["version"]["data"] == [3] * 50


def test_binary_tensors_are_scored_and_answered_in_binary(package, full):
    table, expected = full
    inputs, data = tensors(table, binary=True)
    head = orjson.dumps({"inputs": inputs, "outputs": [{"name": "probability", "parameters": {"binary_data": True}}]})
    answer = call(package, "POST", INFER, head + data, inference_header_content_length=str(len(head)))
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    (output,) = orjson.loads(answer.content[:length])["outputs"]
    assert output["parameters"] == {"binary_data_size": 400}
    assert np.frombuffer(answer.content[length:], "<f8").tolist() == expected


@pytest.mark.parametrize("datatype", ["FP32", "INT8", "UINT64", "BOOL", "FP16"])
def test_number_tensors_of_any_width_mean_the_same(package, datatype):
    dtype = {"FP32": "<f4", "INT8": "i1", "UINT64": "<u8", "BOOL": "?", "FP16": "<f2"}[datatype]

    def score(kind: str, numpy_kind: str) -> list[float]:
        inputs, data = [], b""
        for name in MINIMAL:
            plain = datatype == "BOOL" and name != "is_weekend"  # a price is no flag
            raw = np.ones(2, "<f8" if plain else numpy_kind).tobytes()
            inputs.append(
                {
                    "name": name,
                    "datatype": "FP64" if plain else kind,
                    "shape": [2, 1],
                    "parameters": {"binary_data_size": len(raw)},
                }
            )
            data += raw
        head = json.dumps({"inputs": inputs, "outputs": [{"name": "probability"}]}).encode()
        answer = call(package, "POST", INFER, head + data, inference_header_content_length=str(len(head)))
        assert answer.status_code == 200, answer.text
        return answer.json()["outputs"][0]["data"]

    assert score(datatype, dtype) == score("FP64", "<f8")


def test_a_bad_row_of_tensors_is_null_and_an_error_output_says_why(package, full):
    table, expected = full
    inputs, _ = tensors(table)
    next(i for i in inputs if i["name"] == "price")["data"][4] = 0.0
    answer = call(package, "POST", INFER, orjson.dumps({"inputs": inputs}), content_type=JSON).json()
    outputs = {o["name"]: o["data"] for o in answer["outputs"]}
    assert outputs["probability"] == [None if i == 4 else p for i, p in enumerate(expected)]
    assert outputs["error"][4].startswith("price must be")
    assert outputs["error"][3] == ""


ONE = {"name": "price", "datatype": "FP64", "shape": [1], "data": [1.0]}


def infer_body(**changes) -> bytes:
    return json.dumps({"inputs": [{**ONE, **changes}]}).encode()


BAD_TENSORS = {
    "shape that does not match": (infer_body(shape=[2]), None, 400, "1 values"),
    "shape of three": (infer_body(shape=[1, 1, 1]), None, 400, "shape"),
    "negative shape": (infer_body(shape=[-1]), None, 400, "shape"),
    "huge shape": (infer_body(shape=[2**40], data=[]), None, 413, "rows"),
    "unknown input": (infer_body(name="colour"), None, 422, "colour"),
    "unknown datatype": (infer_body(datatype="FP8"), None, 422, "FP8"),
    "text for a number": (infer_body(datatype="BYTES", data=["1"]), None, 422, "number"),
    "no inputs": (b'{"inputs":[]}', None, 400, "inputs"),
    "not an object": (b"[1]", None, 400, "inputs"),
    "header beyond the body": (b"{}", 999, 400, "Inference-Header"),
    "header that is no number": (b"{}", "x", 400, "Inference-Header"),
    "unknown output": (
        json.dumps(
            {
                "inputs": [{"name": n, "datatype": "FP64", "shape": [1], "data": v} for n, v in MINIMAL.items()],
                "outputs": [{"name": "colour"}],
            }
        ).encode(),
        None,
        404,
        "colour",
    ),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_bad_tensors_get_the_protocols_error_inside_a_problem(package, name):
    body, length, status, says = BAD_TENSORS[name]
    headers = {} if length is None else {"inference_header_content_length": str(length)}
    answer = call(package, "POST", INFER, body, **headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["error"]


def test_a_negative_binary_size_is_refused(package):
    head = json.dumps({"inputs": [{**ONE, "data": None, "parameters": {"binary_data_size": -8}}]}).encode()
    answer = call(package, "POST", INFER, head + b"12345678", inference_header_content_length=str(len(head)))
    assert answer.status_code == 400
    assert "binary_data_size is -8" in answer.json()["error"]


def test_strings_that_reach_beyond_their_tensor_are_refused(package):
    raw = struct.pack("<I", 2**31) + b"a"
    tensor = {"name": "brand", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    answer = call(package, "POST", INFER, head + raw, inference_header_content_length=str(len(head)))
    assert answer.status_code == 400
    assert "brand" in answer.json()["error"]


def test_metadata_lists_one_input_a_feature(package):
    value = call(package, "GET", "/v2/models/purchase/versions/3").json()
    assert [i["name"] for i in value["inputs"]] == list(PURCHASE_NAMES)
    assert value["versions"] == ["3"]
    assert {i["datatype"] for i in value["inputs"]} == {"FP64", "BYTES"}
    assert [o["name"] for o in value["outputs"]] == [
        "probability", "recommendation", "label", "raw", "shap", "version",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/purchase/ready", {"ready": True}),
        ("/v2/models/purchase/versions/3/ready", {"ready": True}),
        ("/ping", {"status": "ok"}),
        ("/health", {"status": "ok"}),
    ],
)
def test_health_routes_answer(package, path, body):
    answer = call(package, "GET", path)
    assert (answer.status_code, answer.json()) == (200, body)


@pytest.mark.parametrize(
    "path", ["/v2/models/other", "/v2/models/purchase/versions/9/ready", "/v2/models/purchase/versions/-1"]
)
def test_an_unknown_model_or_version_is_not_found(package, path):
    answer = call(package, "GET", path)
    assert answer.status_code == 404
    assert answer.json()["error"] == answer.json()["detail"]


LONG = pa.array(["x" * 20_000])
BOMBS = {
    "dictionary of strings for a number": pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_000, "i4")), LONG),
    "dictionary of binary": pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_000, "i4")), LONG.cast(pa.binary())),
    "list": pa.array([[0] * 10] * 1_000),
    "strings": pa.array(["1"] * 1_000),
}


@pytest.mark.parametrize("media", [ARROW, PARQUET])
@pytest.mark.parametrize("kind", BOMBS)
def test_a_column_whose_type_cannot_mean_its_feature_is_refused_before_it_is_decoded(package, kind, media):
    columns = {name: pa.array(np.ones(1_000)) for name in ("hour", "day_of_week", "is_weekend")}
    table = pa.table({**columns, "price": BOMBS[kind]})
    body = arrow_stream(table) if media == ARROW else parquet_file(table)
    answer = call(package, "POST", "/invocations", body, content_type=media)
    assert answer.status_code == 422
    assert "column price must hold numbers" in answer.json()["detail"]


def test_a_csv_that_names_a_column_twice_is_refused_whatever_it_holds(package):
    body = b"price,price,hour,day_of_week,is_weekend\n1,x,3,4,0\n5,6,3,4,0\n"
    answer = call(package, "POST", "/invocations", body, content_type="text/csv")
    assert answer.status_code == 422
    assert "twice: price" in answer.json()["detail"]


@pytest.mark.parametrize("head", [b"", b"\n\r\n"])
def test_an_empty_line_of_a_csv_of_one_column_is_a_null(head):
    features = (FeatureSpec("a", "numeric", "", on_null="nan"),)
    assert parse_csv(head + b"a\n0.5\n\n1.0\n", features).batch.column("a").to_pylist() == [0.5, None, 1.0]
    assert parse_csv(b'"a,b",a\n1,0.5\n\n2,1.0\n', features).batch.column("a").to_pylist() == [0.5, 1.0]


@pytest.mark.parametrize("rest", [b"junk", None])
def test_bytes_behind_an_arrow_stream_are_refused_not_passed_over(package, rows, rest):
    body = arrow_stream(pa.table(rows))
    for more in (body if rest is None else rest, b""):
        answer = call(package, "POST", "/invocations", body + more, content_type=ARROW)
        assert answer.status_code == (400 if more else 200)
        assert ("bytes follow the Arrow IPC stream" in answer.text) is bool(more)


def test_booleans_in_csv_are_those_of_json(package):
    body = b"price,hour,day_of_week,is_weekend\n5,3,5,True\n5,3,5,1\n5,3,5,false\n5,3,5,0\n"
    predictions = call(package, "POST", "/invocations", body, content_type="text/csv").json()["predictions"]
    assert predictions[0] == predictions[1]
    assert predictions[2] == predictions[3]


def test_a_million_csv_columns_are_refused_by_their_header(package):
    answer = call(package, "POST", "/invocations", b"c," * 1_000_000 + b"c\n", content_type="text/csv")
    assert answer.status_code == 413
    assert "columns" in answer.json()["detail"]


def written(write, *arguments) -> bytes:
    sink = io.BytesIO()
    write(*arguments, sink)
    return sink.getvalue()


def arrow_file(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


SMALL = small_table(brand=["apple"])
CSV_BODY = b"price,hour,day_of_week,is_weekend\n5,3,5,1\n"
CONTENTS = {
    "an Arrow file": (arrow_file(SMALL), "an Arrow IPC file (Feather)", "write_ipc_stream"),
    "Feather 1": (written(partial(feather.write_feather, version=1), SMALL), "a Feather file", "write_ipc_stream"),
    "a stream": (arrow_stream(SMALL), "an Arrow IPC stream", f"as {ARROW}"),
    "Parquet": (parquet_file(SMALL), "a Parquet file", f"as {PARQUET}"),
    "JSON": (b'{"dataframe_records": [{"price": 5}]}', "JSON", f"as {JSON}"),
    "CSV": (CSV_BODY, "text, CSV perhaps", "as text/csv"),
    "gzip": (gzip.compress(CSV_BODY), "compressed with gzip", "uncompressed"),
    "zstd": (pa.compress(CSV_BODY, "zstd", asbytes=True), "compressed with zstd", "uncompressed"),
    "UTF-16": (CSV_BODY.decode().encode("utf-16"), "text in UTF-16", "UTF-8"),
    "a web page": (b"<!DOCTYPE html><html></html>", "a web page", "JSON, CSV, an Arrow IPC stream or Parquet"),
    "nothing": (b"", "empty", "send rows"),
}


@pytest.mark.parametrize("media", [ARROW, PARQUET, "text/csv"])
@pytest.mark.parametrize("name", CONTENTS)
def test_a_body_of_another_kind_is_named_with_what_to_send(package, name, media):
    body, found, advice = CONTENTS[name]
    is_right = (name, media) in {("a stream", ARROW), ("Parquet", PARQUET), ("CSV", "text/csv")}
    answer = call(package, "POST", "/invocations", body, content_type=media)
    if is_right:
        assert answer.status_code == 200
        return
    assert answer.status_code == 400
    if (name, media) == ("nothing", "text/csv"):
        assert "the body is not CSV" in answer.json()["detail"]
        return
    assert f"the body is {found}" in answer.json()["detail"]
    assert advice in answer.json()["detail"]


def test_a_csv_whose_header_begins_like_another_format_is_csv(package):
    for name in ("ORC", "PARENT", "FEA1", "CBM1", "ARROW1"):
        body = name.encode() + b"," + CSV_BODY.replace(b"\n5", b"\n1,5")
        assert call(package, "POST", "/invocations", body, content_type="text/csv").status_code == 200
