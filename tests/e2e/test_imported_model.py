"""A ``deployed_model.pkl`` and two commands: what is served is what the original dict gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import joblib
import pandas as pd
import pytest

from serve_app.features.core.specs import PURCHASE_FEATURES, PURCHASE_NAMES
from tests.testing_kit.cluster.service_process import ROW, ServiceProcess, wait_for
from tests.testing_kit.deployments.deployed import Deployed, train_deployed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

HISTORY: dict[str, Any] = {
    "total_events_x": 3, "unique_products": 2, "unique_categories": 1, "avg_price": 17.25, "max_price": 130.76,
    "total_price_viewed": 51.75, "session_duration": 4.5, "avg_events_per_session": 3.5, "total_events_y": 7,
    "avg_products_per_session": 2, "total_products_viewed": 4, "avg_session_duration": 6.25, "total_purchases": 1,
    "total_sessions": 2, "avg_price_viewed": 21.5, "conversion_rate": 0.5,
}  # fmt: skip
ROWS: dict[str, dict[str, Any]] = {
    "all 22 features": {**ROW, **HISTORY},
    "a cheap one at night": {**ROW, **HISTORY, "price": 3.5, "hour": 2, "is_weekend": True, "day_of_week": 6},
    "another brand": {**ROW, **HISTORY, "brand": "apple", "category_code": "appliances.kitchen"},
    "an unseen brand and category": {**ROW, **HISTORY, "brand": "acme", "category_code": "garden.gnome"},
    "no brand": {**ROW, **HISTORY, "brand": None},
    "no category": {k: v for k, v in {**ROW, **HISTORY}.items() if k != "category_code"},
    "no history": ROW,
}


@pytest.fixture(scope="module")
def original() -> Deployed:
    return train_deployed(n_trees=30)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, original: Deployed) -> Iterator[ServiceProcess]:
    """The two commands, on a file that ``joblib.dump`` wrote."""
    path = tmp_path_factory.mktemp("notebook") / "deployed_model.pkl"
    joblib.dump(original.document, path)
    process = ServiceProcess(tmp_path_factory.mktemp("home"))
    report = json.loads(process.run("models", "import", str(path), "--json").stdout)
    assert (report["name"], report["version"], report["aliases"]) == ("purchase", 1, ["champion"])
    path.unlink()  # the package needs nothing of it
    process.up()
    yield process
    process.down()


def by_the_notebook(original: Deployed, row: dict[str, Any]) -> float:
    """What the dict gives for a request, nulls filled as its author fills them."""
    complete = {name: row.get(name) for name in PURCHASE_NAMES}
    for spec in PURCHASE_FEATURES:
        if complete[spec.name] is None and spec.kind == "numeric":
            complete[spec.name] = spec.fill if spec.fill is not None else row[spec.fill_from or ""]
    frame = pd.DataFrame([complete]).astype({f.name: "float64" for f in PURCHASE_FEATURES if f.kind == "numeric"})
    return float(original.scores(frame)[0])


def test_the_dict_is_the_one_that_notebooks_write(original):
    document = original.document
    assert set(document) >= {"model", "label_encoders", "feature_names", "categorical_features", "model_metadata"}
    assert document["feature_names"] == list(PURCHASE_NAMES)
    assert len(document["feature_names"]) == 22
    assert document["model"].get_cat_feature_indices() == [20, 21]
    assert all(e.classes_[-1] == "__unknown__" for e in document["label_encoders"].values())


@pytest.mark.parametrize("name", ROWS)
def test_predict_purchase_answers_the_probability_of_the_original_dict(service, original, name):
    answer = service.predict(ROWS[name])
    assert answer.status_code == 200, answer.text
    assert answer.json()["purchase_probability"] == pytest.approx(by_the_notebook(original, ROWS[name]), abs=1e-9)


def test_the_rows_have_scores_of_their_own(original):
    assert len({by_the_notebook(original, row) for row in ROWS.values()}) >= 4


def test_what_came_is_counted_where_status_says(service):
    """Every metric of ours is exported, with the labels that docs/metrics.md lists."""
    assert service.predict(ROWS["an unseen brand and category"]).status_code == 200
    assert service.predict({**ROW, "price": 0}).status_code == 422
    table = "price,hour,day_of_week,is_weekend,shoe_size\n5,3,5,0,42\n0,3,5,0,42\nx,3,5,0,42\n"
    headers = {"content-type": "text/csv"}
    assert httpx.post(f"{service.url}/invocations", content=table, headers=headers, timeout=30).status_code == 200
    url = json.loads(service.run("status", "--json").stdout)["metrics_url"]
    assert url.startswith("http://127.0.0.1:")

    def exported(*parts: str) -> float:
        lines = [x for x in httpx.get(url, timeout=10).text.splitlines() if all(part in x for part in parts)]
        return sum(float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#"))

    def of_feature(feature: str, kind: str) -> tuple[str, ...]:
        labels = (f'feature="{feature}"', f'kind="{kind}"', 'model="purchase"', 'version="1"')
        return ("ray_scorecat_input_values_total{", *labels)

    wanted = [
        of_feature("brand", "unseen"),
        of_feature("category_code", "unseen"),
        of_feature("avg_price", "defaulted"),
        of_feature("price", "rejected_range"),
        of_feature("price", "rejected_type"),
        ("ray_scorecat_encoded_rows_total{", 'model="purchase"', 'version="1"'),
        ("ray_scorecat_problems_total{", 'route="/predict_purchase"', 'code="invalid-row"'),
        ("ray_scorecat_ignored_columns_total{", 'route="/invocations"'),
    ]
    wait_for(lambda: all(exported(*parts) >= 1 for parts in wanted), 60, f"all of {wanted} at {url}")


def test_the_package_verifies_as_it_is_served(service):
    found = json.loads(service.run("models", "verify", "purchase", "--json").stdout)
    assert found["verified"] is True
    registry = Path(service.home) / "registry" / "purchase" / "versions" / "1"
    assert not list(registry.rglob("*.pkl"))
