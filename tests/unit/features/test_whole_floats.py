"""A whole number is one label however it is stored; text is text where labels are."""

from __future__ import annotations

import asyncio
import io
import json
import struct
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catboost import CatBoostClassifier
from sklearn.preprocessing import LabelEncoder

from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.sources import FROM_DEFAULT, FROM_REQUEST, UNSEEN
from serve_app.features.core.specs import UNKNOWN_CLASS, FeatureSpec
from serve_app.features.core.whole_numbers import read_whole
from serve_app.http.app import create_app
from serve_app.models.adapters.file_import import ImportOptions, import_and_publish
from serve_app.models.adapters.package_dir import load_package
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.models.catboost.scorer import CatBoostScorer
from serve_app.models.untrusted import model_file
from serve_app.models.untrusted.model_trial import try_model
from tests.testing_kit import MemoryAccessLog, make_scorer, make_traffic
from tests.testing_kit.batch.batch_jobs import LocalJob, read_output, read_rejected

pytestmark = pytest.mark.unit

ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
X = 0.1


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def original() -> tuple[CatBoostClassifier, LabelEncoder]:
    """A model whose category was whole numbers, and became floats for want of some."""
    rng = np.random.default_rng(3)
    values = rng.choice([1.0, 2.0, 5.0, np.nan], 400)
    encoder = LabelEncoder().fit(values)
    rows = pd.DataFrame({"x": rng.normal(size=400), "cat": encoder.transform(values)})
    model = CatBoostClassifier(iterations=20, depth=3, verbose=0, allow_writing_files=False, thread_count=1)
    return model.fit(rows, rows.x + rows.cat > 1.5), encoder


@pytest.fixture(scope="module")
def served(original, place):
    model, encoder = original
    joblib.dump({"model": model, "label_encoders": {"cat": encoder}, "feature_names": ["x", "cat"]}, place / "m.pkl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_file, "_try_model", lambda model, path, limits: try_model(model) or {"x": "in force"})
        registry = DirectoryRegistry(place / "registry")
        version, _, _ = import_and_publish(place / "m.pkl", registry, ImportOptions(name="whole"))
    return load_package(registry.locate("whole", version), CatBoostScorer.load)


def score(original, value: float | None) -> float:
    """What the model's author gets."""
    model, encoder = original
    (code,) = encoder.transform([np.nan if value is None else value])
    return float(model.predict_proba(pd.DataFrame({"x": [X], "cat": [code]}))[0, 1])


def call(package, path: str, body: bytes, media: str, **headers: str) -> httpx.Response:
    async def main() -> httpx.Response:
        scorer, _, _ = make_scorer(package)
        app = create_app(await make_traffic(scorer), MemoryAccessLog(), timeout_s=20.0)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            return await client.post(path, content=body, headers={"content-type": media, **headers})

    return asyncio.run(main())


def records(*values: Any) -> bytes:
    return json.dumps({"dataframe_records": [{"x": X, "cat": value} for value in values]}).encode()


def csv(*texts: str) -> bytes:
    return ("x,cat\n" + "".join(f"{X},{text}\n" for text in texts)).encode()


def table(column: pa.Array) -> pa.Table:
    return pa.table({"x": pa.repeat(X, len(column)), "cat": column})


def stream(column: pa.Array) -> bytes:
    sink = pa.BufferOutputStream()
    rows = table(column)
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return sink.getvalue().to_pybytes()


def parquet(column: pa.Array) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table(column), sink)
    return sink.getvalue()


FIVES = [5.0, 1.0, None]
COLUMNS = {
    **{str(k): pa.array(np.array([5, 1, 0], k.to_pandas_dtype()), mask=np.array([False, False, True])) for k in (
        pa.float16(), pa.float32(), pa.float64(), pa.int8(), pa.uint64(),
    )},
    "double with NaN": pa.array([5.0, 1.0, float("nan")]),
    **{str(k): pa.array([Decimal(5), Decimal(1), None], k) for k in (pa.decimal64(9, 2), pa.decimal128(38, 0))},
    "dictionary of doubles": pa.array(FIVES).dictionary_encode(),
    "runs of doubles": pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 3], pa.int32()), pa.array(FIVES)),
    **{str(k): pa.array(["5.0", "1", None]).cast(k) for k in (pa.string(), pa.large_string(), pa.string_view())},
}  # fmt: skip
TABLES = {
    "JSON": (records(5.0, 1.0, None), "application/json"),
    "JSON integers": (records(5, 1, None), "application/json"),
    "JSON text": (records("5.0", "1", None), "application/json"),
    "CSV": (csv("5.0", "1.0", ""), "text/csv"),
    "CSV integers": (csv("5", "1", ""), "text/csv"),
    **{f"Arrow {name}": (stream(column), ARROW) for name, column in COLUMNS.items()},
    **{f"Parquet {name}": (parquet(column), PARQUET) for name, column in COLUMNS.items() if "runs" not in name},
}


@pytest.mark.parametrize("name", TABLES)
def test_a_whole_number_is_its_class_in_every_table(served, original, name):
    answer = call(served, "/invocations", *TABLES[name])
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"predictions": [score(original, value) for value in FIVES]}


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "INT8", "INT64", "UINT16", "BYTES"])
@pytest.mark.parametrize("binary", [False, True], ids=["JSON", "binary"])
def test_a_whole_number_is_its_class_in_tensors(served, original, datatype, binary):
    data: list[Any] = [b"5.0", b"1"] if datatype == "BYTES" else [5, 1]
    tensor = {"name": "cat", "datatype": datatype, "shape": [2]}
    raw = b""
    if binary:
        code = {"FP": "f", "IN": "i", "UI": "u", "BY": ""}[datatype[:2]]
        raw = (
            np.array(data, f"<{code}{int(datatype.strip('FPUINT')) // 8}").tobytes()
            if code
            else b"".join(struct.pack("<I", len(text)) + text for text in data)
        )
        tensor["parameters"] = {"binary_data_size": len(raw)}
    else:
        tensor["data"] = [v.decode() if isinstance(v, bytes) else float(v) for v in data]
    header = json.dumps({"inputs": [{"name": "x", "datatype": "FP64", "shape": [2], "data": [X, X]}, tensor]}).encode()
    sizes = {"Inference-Header-Content-Length": str(len(header))} if binary else {}
    answer = call(served, "/v2/models/whole/infer", header + raw, "application/json", **sizes)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["data"] == [score(original, 5.0), score(original, 1.0)]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("rows.csv", csv("5.0", "1.0", "")),
        ("rows.jsonl", b"".join(json.dumps({"x": X, "cat": v}).encode() + b"\n" for v in FIVES)),
        *[(f"{kind}.parquet", parquet(column)) for kind, column in COLUMNS.items() if "runs" not in kind],
    ],
)
def test_a_whole_number_is_its_class_in_a_job(served, original, tmp_path, name, body):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(body)
    LocalJob(served, tmp_path / "in", tmp_path / "out").run()
    found = read_output(tmp_path / "out").column("probability").to_pylist()
    assert found == [score(original, value) for value in FIVES]


def test_a_fraction_rejects_its_row_alone_with_the_value(served, original, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "rows.parquet").write_bytes(parquet(pa.array([1.5, 1.0, 2.0**53])))
    LocalJob(served, tmp_path / "in", tmp_path / "out").run()
    assert read_output(tmp_path / "out").column("probability").to_pylist() == [score(original, 1.0)]
    assert [row["column"] for row in read_rejected(tmp_path / "out")] == ["cat", "cat"]
    for body, media in ((stream(pa.array([1.5, 1.0])), ARROW), (records(1.5, 1.0), "application/json")):
        answer = call(served, "/invocations", body, media).json()
        assert answer["predictions"] == [None, score(original, 1.0)]
        assert "got 1.5" in answer["errors"][0]["detail"]


@pytest.mark.parametrize("value", [True, [1.0], {}])
def test_a_boolean_is_no_label(served, value):
    assert call(served, "/invocations", records(value), "application/json").status_code == 422
    bits = stream(pa.array([True]))
    assert "must hold text or whole numbers, not bool" in call(served, "/invocations", bits, ARROW).text


def encode(classes: list[str], values: pa.Array, **rules: Any):
    spec = FeatureSpec("c", "categorical", "", **{"on_null": "fill", "fill": "nan", **rules})
    return FeatureEncoder([spec], {"c": classes}).encode(pa.record_batch([values], ["c"]))


def codes(classes: list[str], values: pa.Array, **rules: Any) -> list[float]:
    return encode(classes, values, **rules).matrix.ravel().tolist()


TEXTS = ["1", "1.0", "1.00", "1e0", "01", " 1", "1.5", "5.0", "one", "-0.0"]


@pytest.mark.parametrize("kind", [pa.string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())], ids=str)
@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        # whole numbers, written as such or as pandas writes floats: one number, one class
        (["1", "5", "0", "nan", UNKNOWN_CLASS], [0, 0, 0, 0, 4, 4, 4, 1, 4, 2]),
        (["1.0", "5.0", "0.0", "nan", UNKNOWN_CLASS], [0, 0, 0, 0, 4, 4, 4, 1, 4, 2]),
        # text among them, numbers written two ways, leading zeros: then every text is a class of its own
        (["1", "one", "nan", UNKNOWN_CLASS], [0, 3, 3, 3, 3, 3, 3, 3, 1, 3]),
        (["1", "1.0", "nan", UNKNOWN_CLASS], [0, 1, 3, 3, 3, 3, 3, 3, 3, 3]),
        (["01", "1", "nan", UNKNOWN_CLASS], [1, 3, 3, 3, 0, 3, 3, 3, 3, 3]),
        (["1.5", "1", "nan", UNKNOWN_CLASS], [1, 3, 3, 3, 3, 3, 0, 3, 3, 3]),
        (["nan", UNKNOWN_CLASS], [1] * 10),
    ],
)
def test_text_is_a_number_where_the_vocabulary_has_whole_numbers_only(classes, expected, kind):
    assert codes(classes, pa.array(TEXTS).cast(kind)) == expected


def test_numbers_are_whole_labels_in_every_vocabulary():
    values = pa.array([1.0, 5.0, None, float("nan")])
    assert codes(["1", "one", "nan", UNKNOWN_CLASS], values) == [0, 3, 2, 2]
    assert codes(["1.0", "5.0", "nan", UNKNOWN_CLASS], values) == [0, 1, 2, 2]
    encoded = encode(["1", "one", "nan", UNKNOWN_CLASS], values)
    assert encoded.sources.ravel().tolist() == [FROM_REQUEST, UNSEEN, FROM_DEFAULT, FROM_DEFAULT]


def test_a_number_reaches_a_model_of_strings_as_its_vocabulary_writes_it():
    rules = {"form": "native_string"}
    for classes in (["1.0", "5.0", "nan", UNKNOWN_CLASS], ["1", "5", "nan", UNKNOWN_CLASS]):
        for values in (pa.array([1.0, 5.0, None]), pa.array(["1", "5.0", None]), pa.array([1, 5, None])):
            found = encode(classes, values, **rules)
            assert found.strings.column("c").to_pylist() == [*classes[:2], "nan"]
    unlisted = encode(["1", "5", "nan", UNKNOWN_CLASS], pa.array(["7.0", "x"]), **rules)
    assert unlisted.strings.column("c").to_pylist() == ["7.0", "x"]
    text = encode(["a", "nan", UNKNOWN_CLASS], pa.array(["5.0", "5"]), **rules)
    assert text.strings.column("c").to_pylist() == ["5.0", "5"]
    assert encode(["a", "nan", UNKNOWN_CLASS], pa.array([5.0]), **rules).strings.column("c").to_pylist() == ["5"]


def test_the_class_for_null_and_the_unseen_may_be_numbers_or_words():
    assert codes(["-1", "1", "other"], pa.array(["-1.0", "1.0", None, "x"]), fill="-1", unseen_class="other") == [
        0, 1, 0, 2,
    ]  # fmt: skip
    assert codes(["1", "2", "none"], pa.array(["2.0", None]), fill="none", on_unseen="reject") == [1, 2]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5", "5"), ("5.", "5"), ("5.000", "5"), ("-0.0", "0"), ("1e3", "1000"), ("1e+16", "10000000000000000"),
        ("12345678901234567890.0", "12345678901234567890"), ("5.5", None), ("", None), ("05", None), ("+5", None),
        ("1_0", None), ("\u0665", None), ("1e999", None), ("nan", None), ("inf", None), ("0x10", None), ("5 ", None),
    ],
)  # fmt: skip
def test_a_text_is_a_whole_number_when_it_is_written_like_one(text, number):
    assert read_whole(text) == number
