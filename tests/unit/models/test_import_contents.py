"""A file is read as what it holds, whatever it is called; what is no model is named, with what to do."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import sqlite3
import zipfile
import zlib
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from catboost import CatBoostClassifier
from sklearn.preprocessing import LabelEncoder

from serve_app.errors import InvalidDataError
from serve_app.models.adapters.file_import import ImportOptions, import_and_publish
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.models.catboost.facts import read_facts
from serve_app.models.core.schema_file import parse_schema
from serve_app.models.service.import_names import MAX_LINES, write_example, write_rules
from serve_app.models.untrusted import model_file
from serve_app.models.untrusted.model_trial import try_model

pytestmark = pytest.mark.unit

N = 60
QUIET = {"iterations": 4, "depth": 2, "verbose": False, "allow_writing_files": False}
ROWS = pd.DataFrame(np.random.default_rng(0).normal(size=(N, 3)), columns=["age", "debt/income", "city"])


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(model_file, "_try_model", lambda model, path, limits: try_model(model) or {"x": "in force"})


@pytest.fixture(scope="module")
def named():
    return CatBoostClassifier(**QUIET).fit(ROWS, (ROWS.age > 0).astype(int))


@pytest.fixture(scope="module")
def nameless():
    return CatBoostClassifier(**QUIET).fit(ROWS.to_numpy(), ROWS.age > 0)


def import_it(folder: Path, data: bytes, name: str, schema: str | None = None):
    path = folder / name
    path.write_bytes(data)
    options = ImportOptions(name="tried")
    if schema is not None:
        (folder / "schema.yaml").write_text(schema, "utf-8")
        options = ImportOptions(name="tried", schema=folder / "schema.yaml")
    _, manifest, report = import_and_publish(path, DirectoryRegistry(folder / "registry"), options)
    return manifest, report


def saved(model, form: str, folder: Path) -> bytes:
    model.save_model(str(folder / "saved"), format=form)
    return (folder / "saved").read_bytes()


PACKERS = {
    "gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zlib": zlib.compress, "nothing": bytes,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
}  # fmt: skip


@pytest.mark.parametrize("form", ["cbm", "json", "pickle"])
@pytest.mark.parametrize("packer", PACKERS)
def test_a_model_packed_in_any_way_of_joblib_is_read(packer, form, named, tmp_path):
    data = pickle.dumps({"model": named}) if form == "pickle" else saved(named, form, tmp_path)
    manifest, _ = import_it(tmp_path, PACKERS[packer](data), "model.bin")
    assert manifest.feature_names == tuple(ROWS)


@pytest.mark.parametrize(
    ("form", "suffix", "said"),
    [
        ("pickle", ".json", "the file is a pickle"), ("pickle", ".cbm", "the file is a pickle"),
        ("cbm", ".pkl", "the file is CatBoost's own file"), ("cbm", ".json", "the file is CatBoost's own file"),
        ("json", ".cbm", "the file is CatBoost's JSON"), ("json", ".PKL", "the file is CatBoost's JSON"),
        ("pickle", ".pkl", ""), ("pickle", ".sav", ""), ("cbm", ".bin", ""), ("json", "", ""), ("cbm", ".CBM", ""),
    ],
)  # fmt: skip
def test_a_model_under_another_suffix_is_read_as_what_it_is_and_it_is_said(form, suffix, said, named, tmp_path):
    data = pickle.dumps(named) if form == "pickle" else saved(named, form, tmp_path)
    manifest, report = import_it(tmp_path, data, f"model{suffix}")
    assert manifest.feature_names == tuple(ROWS)
    notes = [note for note in report["notes"] if note.startswith("the file is")]
    assert notes == ([f"{said}, whatever its name ends in: it was read as such"] if said else [])


def parquet() -> bytes:
    sink = io.BytesIO()
    ROWS.to_parquet(sink)
    return sink.getvalue()


def arrow(stream: bool) -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pandas(ROWS)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def zipped() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("model.cbm", b"CBM1")
    return sink.getvalue()


def array() -> bytes:
    sink = io.BytesIO()
    np.save(sink, ROWS.to_numpy())
    return sink.getvalue()


def database() -> bytes:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("create table a (b)")
        return connection.serialize()


OTHERS = {
    "lz4": (lambda: pa.compress(pickle.dumps([1] * 99), "lz4", asbytes=True), "compressed with lz4, .*`lz4 -d FILE`"),
    "zstd": (lambda: pa.compress(b"x" * 99, "zstd", asbytes=True), "compressed with zstd, .*`zstd -d FILE`"),
    "zip": (zipped, "a zip archive, .*unpack it"),
    "parquet": (parquet, "a Parquet file, which is no model: rows are given with --sample"),
    "arrow file": (lambda: arrow(stream=False), "an Arrow IPC file.*--sample"),
    "arrow stream": (lambda: arrow(stream=True), "an Arrow IPC stream.*--sample"),
    "numpy": (array, "a NumPy array.*--sample"),
    "hdf5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(40), "an HDF5 file.*no CatBoost model: give the file"),
    "sqlite": (database, "an SQLite database.*give the file"),
    "web page": (lambda: b"<!doctype html><html><body>404</body></html>", "a web page.*give the file"),
}


@pytest.mark.parametrize("packer", ["nothing", "gzip"])
@pytest.mark.parametrize("suffix", [".pkl", ".cbm", ".json", ""])
@pytest.mark.parametrize("what", OTHERS)
def test_what_is_no_model_is_named_with_what_to_do(what, suffix, packer, tmp_path):
    if packer == "gzip" and suffix:
        suffix = f"{suffix}.gz"
    make, said = OTHERS[what]
    with pytest.raises(InvalidDataError, match=f"is {said}"):
        import_it(tmp_path, PACKERS[packer](make()), f"model{suffix}")


@pytest.mark.parametrize(
    ("form", "said"),
    [("onnx", "an ONNX model"), ("coreml", "a CoreML model"), ("pmml", "a PMML model"), ("cpp", r"C\+\+ source"),
     ("python", "Python source")],
)  # fmt: skip
def test_every_export_of_catboost_that_it_cannot_read_back_is_named(form, said, named, tmp_path):
    with pytest.raises(InvalidDataError, match=f"{said}, from which CatBoost cannot read a model back: give the model"):
        import_it(tmp_path, saved(named, form, tmp_path), "model.cbm")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"age,city\n1,bonn\n", "neither a pickle nor a CatBoost model; it looks like text"),
        (b"from os import path\nimport sys\n", "it looks like text"),
        (b"[1, 2]", "it looks like JSON"),
        (bytes(range(200, 256)) + b"\0", "is neither a pickle nor a CatBoost model$"),
        (b"\x80\x04\xd0\xd0", "is a pickle that is damaged or cut short"),
        (gzip.compress(b"age,city\n1,bonn\n", mtime=0), "it looks like text"),
        (b"ZF0x1", "joblib older than 0.10: write it again with a newer one"),
    ],
)
def test_what_nobody_knows_is_said_in_plain_words(data, said, tmp_path):
    with pytest.raises(InvalidDataError, match=said) as caught:
        import_it(tmp_path, data, "model.pkl")
    assert "Error" not in caught.value.detail


LISTS = [
    "feature_cols",
    "FEATURE_COLS",
    "featureColumns",
    "features",
    "columns",
    "cols",
    "input_features",
    "feature_list",
]


@pytest.mark.parametrize("key", LISTS)
@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_names_under_another_key_are_taken_and_it_is_said(key, kind, nameless, tmp_path):
    document = {"model": nameless, key: kind(list(ROWS)), "categories": ["a", "b"], "target": ["y"]}
    manifest, report = import_it(tmp_path, pickle.dumps(document), "model.pkl")
    assert manifest.feature_names == tuple(ROWS)
    assert any(note.startswith(f"{key} lists as many names") for note in report["notes"])
    assert report["extra_keys"] == ["categories", "target"]


def test_names_in_the_metadata_are_taken(nameless, tmp_path):
    document = {"model": nameless, "model_metadata": {"features": list(ROWS), "author": "anna"}}
    manifest, report = import_it(tmp_path, pickle.dumps(document), "model.pkl")
    assert manifest.feature_names == tuple(ROWS)
    assert report["notes"][0].startswith("model_metadata.features lists as many names")


def test_two_lists_that_differ_are_not_chosen_between(nameless, tmp_path):
    document = {"model": nameless, "features": ["a", "b", "c"], "columns": ["c", "b", "a"]}
    with pytest.raises(InvalidDataError, match="features and columns could be them: call the right list feature_names"):
        import_it(tmp_path, pickle.dumps(document), "model.pkl")
    document["columns"] = ["a", "b", "c"]
    assert import_it(tmp_path, pickle.dumps(document), "model.pkl")[0].feature_names == ("a", "b", "c")


def test_a_list_that_does_not_fit_is_named_with_its_length(nameless, tmp_path):
    document = {"model": nameless, "columns": ["a", "b", "c", "target"]}
    with pytest.raises(InvalidDataError, match="columns has 4, which does not fit"):
        import_it(tmp_path, pickle.dumps(document), "model.pkl")


def test_a_list_under_a_key_that_says_nothing_is_proposed_not_taken(nameless, tmp_path):
    with pytest.raises(InvalidDataError, match="mine could be them: call the right list feature_names"):
        import_it(tmp_path, pickle.dumps({"model": nameless, "mine": list(ROWS)}), "model.pkl")


def test_a_model_with_names_of_its_own_keeps_them(named, tmp_path):
    document = {"model": named, "columns": ["x", "y", "z"]}
    manifest, report = import_it(tmp_path, pickle.dumps(document), "model.pkl")
    assert manifest.feature_names == tuple(ROWS)
    assert report["extra_keys"] == ["columns"]


@pytest.mark.parametrize("key", ["encoders", "les", "label_encoder"])
def test_the_only_dict_of_label_encoders_is_taken_whatever_its_key(key, tmp_path):
    encoder = LabelEncoder().fit(["bonn", "trier", "__unknown__"])
    rows = ROWS.assign(city=np.arange(N) % 3)
    model = CatBoostClassifier(**QUIET).fit(rows, rows.city == 1)
    document = {"clf": model, key: {"city": encoder}, "meta": {"name": "towns"}, "scores": {"auc": 0.7}}
    manifest, report = import_it(tmp_path, pickle.dumps(document), "model.pkl")
    assert manifest.categorical_names == ("city",)
    assert report["author_metrics"] == {"auc": 0.7}
    assert [note for note in report["notes"] if "was taken for" in note] == [
        "'clf' of the dict was taken for 'model'", f"{key!r} of the dict was taken for 'label_encoders'",
        "'meta' of the dict was taken for 'model_metadata'", "'scores' of the dict was taken for 'metrics'",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "is_missing"),
    [({"metrics": {"auc": 0.7}}, False), ({"model_metadata": {"metrics": {"auc": 0.7}}}, False),
     ({"model_metadata": {"author": "anna"}}, True)],
)  # fmt: skip
def test_metrics_are_missing_only_where_neither_the_dict_nor_its_metadata_has_them(said, is_missing, named, tmp_path):
    _, report = import_it(tmp_path, pickle.dumps({"model": named, **said}), "model.pkl")
    assert any(lack["what"].startswith("metrics") for lack in report["missing"]) is is_missing


def test_two_models_are_not_chosen_between(named, tmp_path):
    with pytest.raises(InvalidDataError, match=r"several CatBoost models: a, b\. Call the right one 'model'"):
        import_it(tmp_path, pickle.dumps({"a": named, "b": named}), "model.pkl")


def test_the_message_about_a_bare_file_without_names_shows_a_schema_that_works(nameless, tmp_path):
    data = saved(nameless, "cbm", tmp_path)
    with pytest.raises(InvalidDataError, match="and none came with it: give a schema") as caught:
        import_it(tmp_path, data, "model.cbm")
    example = caught.value.detail.partition("names:\n")[2]
    manifest, _ = import_it(tmp_path, data, "model.cbm", example)
    assert manifest.feature_names == ("input_1", "input_2", "input_3")


def test_the_report_on_a_bare_file_shows_a_schema_of_its_own_inputs(named, tmp_path):
    data = saved(named, "cbm", tmp_path)
    _, report = import_it(tmp_path, data, "model.cbm")
    (example,) = [item["example"] for item in report["missing"] if "example" in item]
    assert [feature["name"] for feature in yaml.safe_load(example)["features"]] == list(ROWS)
    manifest, _ = import_it(tmp_path, data, "model.cbm", example)
    assert {spec.minimum for spec in manifest.features} == {0}


def test_examples_are_schemas_whatever_the_names(nameless):
    names = ["yes", "null", "1", "a: b", "#x", "{y}", 'quo"te', "tab\t", "имя", "🙂", "nan", "x", " lead", "a,b", "-"]
    for text in (write_rules(names), write_example(read_facts(nameless), names)):
        assert list(parse_schema(yaml.safe_load(text)).features) == names
    many = write_example(read_facts(nameless), [f"f{i}" for i in range(200)])
    assert len(parse_schema(yaml.safe_load(many)).features) == MAX_LINES
    assert many.endswith("# and the other 140 inputs in the same way, in the model's order")


@pytest.mark.parametrize("form", ["code", "text"])
def test_a_category_whose_training_had_nan_gets_the_proposal_to_fill_it(form, tmp_path):
    labels = np.array(["bonn", "nan", "unknown"])[np.arange(N) % 3]
    encoder = LabelEncoder().fit(labels)
    rows = pd.DataFrame({"x": np.arange(N), "brand": labels if form == "text" else encoder.transform(labels)})
    model = CatBoostClassifier(**QUIET).fit(rows, labels == "nan", cat_features=["brand"] if form == "text" else None)
    encoders = {} if form == "text" else {"brand": encoder}
    data = pickle.dumps({"model": model, "label_encoders": encoders})
    _, report = import_it(tmp_path, data, "model.pkl")
    if form == "code":  # null is nan already
        assert report["features"][1]["null"] == "nan"
        return
    (note,) = [note for note in report["notes"] if "fill: nan" in note]
    assert note.startswith("brand: training had nan among the classes")
    schema = note.partition("(--schema FILE): ")[2]
    manifest, report = import_it(tmp_path, data, "model.pkl", schema)
    assert manifest.features[1].fill == "nan"
    assert not [note for note in report["notes"] if "fill: nan" in note]


def test_joblib_files_of_every_compression_are_read(named, tmp_path):
    for compress in (0, 3, ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3), ("zlib", 9)):
        joblib.dump({"model": named}, tmp_path / "m.joblib", compress=compress)
        manifest, _ = import_it(tmp_path, (tmp_path / "m.joblib").read_bytes(), "given.joblib")
        assert manifest.feature_names == tuple(ROWS)
