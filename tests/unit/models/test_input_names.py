"""Any input name works: imported, proved, scored by every route and format, in jobs, on pages."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catboost import CatBoostClassifier, CatBoostRegressor

from serve_app.errors import InvalidDataError
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.http.app import create_app
from serve_app.models.adapters.file_import import ImportOptions, import_and_publish
from serve_app.models.adapters.package_dir import load_package
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.models.catboost.scorer import CatBoostScorer
from serve_app.models.service.model_page import render_model_page
from serve_app.models.service.packaging import golden_inputs, prove_encoder, prove_model
from tests.testing_kit import MemoryAccessLog, make_scorer, make_traffic
from tests.testing_kit.batch.batch_jobs import LocalJob, read_output, read_rejected

pytestmark = pytest.mark.unit

N = 60
ARROW = "application/vnd.apache.arrow.stream"
CATEGORIES = ["label", "string.a", "my city", "__content__"]
NUMBERS = [
    "probability", "prediction", "predictions", "raw", "error", "version", "recommendation", "score", "score.high",
    "probability_a", "raw_a", "reasons", "_", "__unreadable__", "__index_level_0__", "source", "user_id", "event_time",
    "session_id", "x", "matrix.x", "input.x", "matrix.input.x", "output.0", "string.label", "a", "a.b", "a/b", "a~b",
    "two words", " led by a space", 'quo"te', "o'clock", "comma,name", "semi;colon", "tab\there", "[bold]x[/bold]",
    "a|b", "*star*", "`tick`", "back\\slash", "$HOME", "{brace}", "%s", "🙂", "имя", "\u00e9", "e\u0301", "ns" * 100,
    "0", "1.5",
    "null", "nan", "True", "inputs", "columns", "data", "dataframe_records", "file", "row", "column", "reason",
    "content", "index", "name", "id", "__proto__", "A", "PROBABILITY",
]  # fmt: skip
NAMES = [*NUMBERS[:20], *CATEGORIES, *NUMBERS[20:]]


def make_rows(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({
        name: rng.choice(["red", "blue", "green"], N) if name in CATEGORIES else rng.normal(size=N).round(3)
        for name in NAMES
    })  # fmt: skip


@pytest.fixture(scope="module", params=["binary", "multiclass", "regression"])
def imported(request, tmp_path_factory):
    """A package of a model with all these names, rows, and what the model itself says of them."""
    place = tmp_path_factory.mktemp("names")
    rows = make_rows()
    signal = rows[NUMBERS].sum(axis=1) + 8 * (rows.label == "red")
    settings = {"iterations": 60, "depth": 3, "verbose": False, "allow_writing_files": False, "rsm": 0.5}
    if request.param == "regression":
        model = CatBoostRegressor(**settings).fit(rows, signal, cat_features=CATEGORIES)
    else:
        target = np.digitize(signal, [0] if request.param == "binary" else [-3, 3])
        model = CatBoostClassifier(**settings).fit(rows, target, cat_features=CATEGORIES)
    model.save_model(str(place / "odd.cbm"))
    rows.to_parquet(place / "sample.parquet")
    registry = DirectoryRegistry(place / "registry")
    version, _, report = import_and_publish(
        place / "odd.cbm", registry, ImportOptions(name="odd", sample=place / "sample.parquet")
    )
    assert report["sample"]["columns_not_there"] == []
    package = load_package(registry.locate("odd", version), CatBoostScorer.load)
    fresh = make_rows(seed=5)
    expected = model.predict(fresh) if request.param == "regression" else model.predict_proba(fresh)
    return package, fresh, expected[:, 1] if request.param == "binary" else expected


def test_the_package_proves_itself_and_profiles_inputs_and_scores_apart(imported):
    package, _, _ = imported
    prove_encoder(package, FeatureEncoder(package.manifest.features, package.vocabularies))
    prove_model(package)
    assert golden_inputs(package).schema.names == NAMES
    reference = package.reference.to_pandas()
    kinds = reference[reference.feature == "score"].kind.unique().tolist()
    assert kinds == (["numeric"] if package.manifest.task == "multiclass" else ["numeric", "score"])


def test_the_page_names_each_input_in_a_row_of_its_own(imported):
    page = render_model_page(imported[0].manifest)
    table = page.partition("## Features")[2].partition("##")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(NAMES)
    assert {line.replace("\\|", "").count("|") for line in lines} == {6}


def test_explanations_carry_as_many_values_as_inputs(imported):
    package, rows, _ = imported
    encoded = FeatureEncoder(package.manifest.features, package.vocabularies).encode(pa.RecordBatch.from_pandas(rows))
    assert package.model.explain(*encoded.for_model).shape[-1] == len(NAMES) + 1


def write(rows: pd.DataFrame, form: str) -> tuple[str, bytes]:
    table = pa.Table.from_pandas(rows, preserve_index=False)
    sink = io.BytesIO()
    if form == "csv":
        return "text/csv", rows.to_csv(index=False).encode()
    if form == "arrow":
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return ARROW, sink.getvalue()
    if form == "parquet":
        pq.write_table(table, sink)
        return "application/vnd.apache.parquet", sink.getvalue()
    value = {
        "dataframe_split": {"columns": list(rows), "data": rows.to_numpy().tolist()},
        "dataframe_records": rows.to_dict("records"),
        "instances": rows.to_dict("records"),
        "inputs": rows.to_dict("list"),
    }[form]
    return "application/json", json.dumps({form: value}).encode()


def post(package, path: str, body: bytes, media: str, accept: str = "application/json") -> httpx.Response:
    async def main() -> httpx.Response:
        scorer, _, _ = make_scorer(package)
        app = create_app(await make_traffic(scorer), MemoryAccessLog(), timeout_s=20.0)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return await client.post(path, content=body, headers={"Content-Type": media, "Accept": accept})

    answer = asyncio.run(main())
    assert answer.status_code == 200, answer.text
    return answer


FORMS = ["dataframe_split", "dataframe_records", "instances", "inputs", "csv", "arrow", "parquet"]


@pytest.mark.parametrize("form", FORMS)
def test_a_table_of_every_form_is_scored_as_the_model_does(form, imported):
    package, rows, expected = imported
    media, body = write(rows, form)
    answer = post(package, "/invocations", body, media).json()
    np.testing.assert_array_equal(answer["predictions"], expected)


@pytest.mark.parametrize("accept", ["text/csv", ARROW])
def test_answers_as_tables_hold_the_models_values_only(accept, imported):
    package, rows, expected = imported
    media, body = write(rows, "arrow")
    answer = post(package, "/invocations", body, media, accept).content
    found = pd.read_csv(io.BytesIO(answer)) if accept == "text/csv" else pa.ipc.open_stream(answer).read_pandas()
    name = "prediction" if package.manifest.task == "regression" else "probability"
    several = [column for column in found if column.startswith(f"{name}_")]
    np.testing.assert_allclose(found[several or name].to_numpy(), expected, rtol=1e-15)
    assert len(found.columns) == len(set(found.columns)) <= 7


def test_tensors_are_found_by_any_name(imported):
    package, rows, expected = imported
    inputs = [
        {"name": n, "datatype": "BYTES" if n in CATEGORIES else "FP64", "shape": [N], "data": rows[n].tolist()}
        for n in NAMES
    ]
    body = json.dumps({"inputs": inputs, "outputs": [{"name": "raw"}, {"name": "shap"}, {"name": "version"}]}).encode()
    outputs = {t["name"]: t for t in post(package, "/v2/models/odd/infer", body, "application/json").json()["outputs"]}
    assert outputs["shap"]["shape"][-1] == len(NAMES) + 1
    body = json.dumps({"inputs": inputs}).encode()
    first = post(package, "/v2/models/odd/infer", body, "application/json").json()["outputs"][0]
    np.testing.assert_array_equal(np.reshape(first["data"], first["shape"]), expected)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "ndjson"])
def test_a_batch_job_scores_them_and_puts_bad_rows_aside_whole(suffix, imported, tmp_path):
    package, rows, expected = imported
    rows = rows.assign(order=range(N))
    rows.loc[7, "probability"] = np.inf
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        rows.to_parquet(path, index=False)
    elif suffix == "csv":
        rows.to_csv(path, index=False)
    else:
        texts = [json.dumps(row).replace("Infinity", '"inf"') for row in rows.to_dict("records")]
        path.write_text("\n".join(texts) + "\n", "utf-8")
    LocalJob(package, path, tmp_path / "out", explain=3).run()
    found = read_output(tmp_path / "out")
    kept = np.array([k for k in range(N) if k != 7])
    assert [int(k) for k in found.column("order").to_pylist()] == kept.tolist()
    name = "prediction" if package.manifest.task == "regression" else "probability"
    np.testing.assert_array_equal(found.column(name).to_pylist(), expected[kept])
    (bad,) = read_rejected(tmp_path / "out")
    assert bad["column"] == "probability"
    assert "two words" in json.loads(bad["content"])


def test_a_column_that_is_kept_and_named_like_a_result_is_refused_by_name(imported, tmp_path):
    package, rows, _ = imported
    rows.to_parquet(tmp_path / "rows.parquet", index=False)
    with pytest.raises(InvalidDataError, match="also the name of a result: leave it out of --keep"):
        LocalJob(package, tmp_path / "rows.parquet", tmp_path / "out", keep=["*"])


def test_packages_without_such_names_are_written_as_before(package):
    assert package.golden.column_names[:4] == list(package.manifest.feature_names)[:4]
    assert package.golden.schema.metadata is None


def test_an_input_without_a_name_is_called_by_its_position_as_catboost_does(tmp_path):
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(N, 2)), columns=["", "b"])
    model = CatBoostClassifier(iterations=3, verbose=False, allow_writing_files=False).fit(rows, rows.b > 0)
    path = Path(tmp_path / "m.cbm")
    model.save_model(str(path))
    _, manifest, _ = import_and_publish(path, DirectoryRegistry(tmp_path / "r"), ImportOptions(name="odd"))
    assert manifest.feature_names == ("0", "b")
