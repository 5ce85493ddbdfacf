"""Models of every task and kind of category, served: predictions, labels, raw scores, explanations."""

from __future__ import annotations

import asyncio
import json

import httpx
import numpy as np
import pyarrow as pa
import pytest

from serve_app.http.app import create_app
from serve_app.models.adapters.package_dir import load_package
from serve_app.models.catboost.scorer import CatBoostScorer
from serve_app.models.core.outputs import MAX_EXPLAINED_ROWS
from tests.testing_kit import MemoryAccessLog, make_scorer, make_traffic
from tests.testing_kit.models.kinds import TASKS, make_kind_package, raw_rows, to_batch, train_original

pytestmark = pytest.mark.unit

ARROW = "application/vnd.apache.arrow.stream"
N_ROWS = 40
BAD_ROW = 7
CASES = [(task, form) for task in TASKS for form in ("code", "native_string")]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def served(request, tmp_path_factory):
    """A model, its package, rows to score, and what the model's author gets for them."""
    task, form = request.param
    original = train_original(task, form)
    directory = tmp_path_factory.mktemp("kind") / "package"
    make_kind_package(directory, original)
    rows = raw_rows(N_ROWS, seed=11)
    return original, load_package(directory, CatBoostScorer.load), rows, original.scores(rows)


def call(package, path: str, body: dict | bytes, method: str = "POST", **headers: str) -> httpx.Response:
    async def main() -> httpx.Response:
        scorer, _, _ = make_scorer(package)
        app = create_app(await make_traffic(scorer), MemoryAccessLog(), timeout_s=20.0)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        headers.setdefault("Content_Type", "application/json")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            return await client.request(method, path, content=content, headers=named)

    return asyncio.run(main())


def records(rows, *, bad: bool = False) -> dict:
    found = to_batch(rows).to_pylist()
    for record in found:
        record["weight"] = None if record["weight"] is None or np.isnan(record["weight"]) else record["weight"]
    if bad:
        found[BAD_ROW]["height"] = "tall"
    return {"dataframe_records": found}


def infer(rows, *outputs: str) -> dict:
    batch = to_batch(rows)
    inputs = []
    for name in batch.schema.names:
        is_text = name in {"city", "colour"}
        values = [None if isinstance(v, float) and np.isnan(v) else v for v in batch.column(name).to_pylist()]
        inputs.append(
            {"name": name, "datatype": "BYTES" if is_text else "FP64", "shape": [len(values)], "data": values}
        )
    return {"inputs": inputs, **({"outputs": [{"name": name} for name in outputs]} if outputs else {})}


def tensors(answer: httpx.Response) -> dict[str, np.ndarray]:
    assert answer.status_code == 200, answer.text
    return {t["name"]: np.array(t["data"]).reshape(t["shape"]) for t in answer.json()["outputs"]}


def test_invocations_answer_what_the_authors_own_code_gets(served):
    _, package, rows, expected = served
    answer = call(package, "/invocations", records(rows), Content_Type="application/json")
    assert answer.status_code == 200, answer.text
    np.testing.assert_allclose(np.array(answer.json()["predictions"]), expected, rtol=0, atol=1e-12)


def test_a_bad_row_is_null_and_named_whatever_the_model(served):
    _, package, rows, expected = served
    for output in ("prediction", "raw"):
        body = call(package, f"/invocations?output={output}", records(rows, bad=True)).json()
        assert [k for k, p in enumerate(body["predictions"]) if p is None] == [BAD_ROW]
        assert body["errors"][0]["index"] == BAD_ROW
        if output == "prediction":
            rest = [p for p in body["predictions"] if p is not None]
            np.testing.assert_allclose(rest, np.delete(expected, BAD_ROW, axis=0), rtol=0, atol=1e-12)


def test_labels_are_the_classifiers_own_and_a_regression_has_none(served):
    original, package, rows, _ = served
    answer = call(package, "/invocations?output=label", records(rows))
    if not original.is_classifier:
        assert answer.status_code == 400
        assert "no labels" in answer.json()["detail"]
        return
    own = original.model.predict(original.frame(rows)).ravel().tolist()
    assert answer.json()["predictions"] == own


def test_an_unknown_output_is_refused_by_name(served):
    answer = call(served[1], "/invocations?output=logits", records(served[2]))
    assert answer.status_code == 422
    assert "/query/output" in answer.json()["errors"][0]["pointer"]


def test_the_arrow_answer_has_one_column_a_class(served):
    original, package, rows, expected = served
    answer = call(package, "/invocations", records(rows, bad=True), Accept=ARROW)
    table = pa.ipc.open_stream(answer.content).read_all()
    if expected.ndim == 2:
        names = [f"probability_{label}" for label in package.manifest.class_labels]
        found = np.column_stack([table.column(name).to_numpy() for name in names])
        assert table.column("label").null_count == 1
    else:
        found = table.column("probability" if original.is_classifier else "prediction").to_numpy()
    assert np.isnan(found[BAD_ROW]).all()
    rest = np.delete(found, BAD_ROW, axis=0)
    np.testing.assert_allclose(rest, np.delete(expected, BAD_ROW, axis=0), rtol=0, atol=1e-12)
    assert table.column("error")[BAD_ROW].as_py().startswith("height ")


def test_metadata_tells_the_shape_of_every_output_and_infer_keeps_to_it(served):
    _, package, rows, expected = served
    metadata = call(package, "/v2/models/kind", b"", "GET").json()
    shapes = {o["name"]: o["shape"][1:] for o in metadata["outputs"]}
    found = tensors(call(package, "/v2/models/kind/infer", infer(rows, *shapes)))
    assert {name: list(values.shape[1:]) for name, values in found.items()} == shapes
    first = metadata["outputs"][0]["name"]
    np.testing.assert_allclose(found[first], expected, rtol=0, atol=1e-12)


def test_explanations_add_up_to_the_raw_score_the_model_itself_gives(served):
    original, package, rows, _ = served
    found = tensors(call(package, "/v2/models/kind/infer", infer(rows, "raw", "shap")))
    own = original.model.predict(original.frame(rows), prediction_type="RawFormulaVal")
    np.testing.assert_allclose(found["raw"], own, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found["shap"].sum(axis=-1), found["raw"], rtol=0, atol=1e-8)


def test_binary_tensors_carry_several_values_a_row(served):
    _, package, rows, _ = served
    asked = infer(rows, "shap")
    plain = tensors(call(package, "/v2/models/kind/infer", asked))["shap"]
    asked["outputs"][0]["parameters"] = {"binary_data": True}
    answer = call(package, "/v2/models/kind/infer", asked)
    length = int(answer.headers["Inference-Header-Content-Length"])
    (output,) = json.loads(answer.content[:length])["outputs"]
    np.testing.assert_array_equal(np.frombuffer(answer.content[length:], "<f8").reshape(output["shape"]), plain)
    assert output["parameters"]["binary_data_size"] == plain.nbytes


@pytest.mark.parametrize("binary", [False, True])
def test_explanations_carry_the_names_of_what_they_are_of(served, binary):
    original, package, rows, _ = served
    asked = infer(rows, "raw", "shap")
    for output in asked["outputs"]:
        output["parameters"] = {"binary_data": binary}
    answer = call(package, "/v2/models/kind/infer", asked)
    head = answer.content[: int(answer.headers["Inference-Header-Content-Length"])] if binary else answer.content
    raw, shap = json.loads(head)["outputs"]
    assert shap["parameters"]["features"] == [*(spec.name for spec in original.features), "bias"]
    assert len(shap["parameters"]["features"]) == shap["shape"][-1]
    assert "features" not in raw.get("parameters", {})


def test_only_so_many_rows_are_explained(served):
    _, package, _, _ = served
    answer = call(package, "/v2/models/kind/infer", infer(raw_rows(MAX_EXPLAINED_ROWS + 1), "shap"))
    assert answer.status_code == 413
    assert str(MAX_EXPLAINED_ROWS) in answer.json()["error"]


def test_the_purchase_route_refuses_a_model_of_other_inputs(served):
    row = {"user_id": "u", "session_id": "s", "product_id": "p", "price": 5.0, "hour": 1, "day_of_week": 1}
    answer = call(served[1], "/predict_purchase", {**row, "is_weekend": 0}, Content_Type="application/json")
    assert answer.status_code == 404
    assert "inputs of /predict_purchase" in answer.json()["detail"]


def test_a_purchase_is_explained_by_the_features_that_moved_it_most(package):
    row = {"user_id": "u", "session_id": "s", "product_id": "p", "price": 50.0, "hour": 1, "day_of_week": 1}
    body = call(package, "/predict_purchase?explain=true", {**row, "is_weekend": 0}).json()
    told = body["explanation"]
    assert 1 / (1 + np.exp(-told["raw_score"])) == pytest.approx(body["purchase_probability"], abs=1e-12)
    sizes = [abs(reason["contribution"]) for reason in told["reasons"]]
    assert len(sizes) == 5
    assert sizes == sorted(sizes, reverse=True)
    assert all(r["value"] == body["features"][r["feature"]]["value"] for r in told["reasons"])
    assert "explanation" not in call(package, "/predict_purchase?detail=true", {**row, "is_weekend": 0}).json()
