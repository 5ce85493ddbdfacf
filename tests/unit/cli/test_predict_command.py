"""``scorecat predict`` beside a model of any kind: the served model's route, and what has no answer there."""

from __future__ import annotations

import asyncio
import json

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from serve_app.cli import app
from serve_app.errors import BadRequestError, InvalidRowError, NotFoundError
from serve_app.http.app import create_app
from serve_app.models.adapters.package_dir import load_package
from serve_app.models.catboost.scorer import CatBoostScorer
from tests.testing_kit import MemoryAccessLog, make_scorer, make_traffic
from tests.testing_kit.models.kinds import TASKS, make_kind_package, raw_rows, train_original
from tests.testing_kit.rollouts.control import AppTransport

pytestmark = pytest.mark.unit

PURCHASE = {"user_id": "u", "session_id": "s", "product_id": "p", "price": 5.0, "hour": 1, "day_of_week": 1,
            "is_weekend": 0}  # fmt: skip
ROW = {"weight": 71.5, "height": 180, "city": "köln", "colour": "red"}


@pytest.fixture
def serve(monkeypatch):
    """Answer every HTTP request of a command with an app that serves a package."""

    def start(package) -> None:
        class Lazy:
            async def __call__(self, scope, receive, send):
                scorer, _, _ = make_scorer(package)
                found = create_app(await make_traffic(scorer), MemoryAccessLog(), timeout_s=20.0)
                await found(scope, receive, send)

        client = httpx.Client

        def make_client(**options):
            return client(**{**options, "transport": AppTransport(Lazy)})

        monkeypatch.setattr(httpx, "Client", make_client)

    return start


def predict(row, *words: str):
    text = row if isinstance(row, str) else json.dumps(row)
    return CliRunner().invoke(app, ["predict", "-", "--url", "http://shop", *words], input=text)


@pytest.fixture(params=TASKS)
def other(request, serve, tmp_path):
    original = train_original(request.param, "code", n_trees=5)
    make_kind_package(tmp_path / "package", original, name="credit")
    package = load_package(tmp_path / "package", CatBoostScorer.load)
    serve(package)
    rows = raw_rows(1).assign(**{name: [value] for name, value in ROW.items()})
    return package, original.scores(rows)[0]


def test_a_row_of_another_model_is_scored_by_its_route(other):
    package, expected = other
    done = predict(ROW, "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert (answer["model"], answer["version"]) == ("credit", 1)
    if package.manifest.task == "multiclass":
        found = [answer[f"probability_{label}"] for label in package.manifest.class_labels]
        assert answer["label"] == package.manifest.class_labels[int(np.argmax(expected))]
    else:
        found = answer["prediction" if package.manifest.task == "regression" else "probability"]
    np.testing.assert_allclose(found, expected)


def test_the_answer_is_printed_in_the_same_spirit(other):
    package, expected = other
    lines = predict(ROW).stdout.splitlines()
    if package.manifest.task == "binary":
        assert lines == [f"{expected:.6f}  {package.manifest.thresholds.recommend(expected)}"]
    elif package.manifest.task == "regression":
        assert lines == [f"{expected:.6g}"]
    else:
        labels = package.manifest.class_labels
        assert lines[0] == labels[int(np.argmax(expected))]
        assert lines[1:] == [f"  {label}  {p:.6f}" for label, p in zip(labels, expected, strict=True)]


def test_detail_is_refused_kindly_where_it_is_not_served(other):
    done = predict(ROW, "--detail")
    assert isinstance(done.exception, BadRequestError)
    assert "--detail is told of the purchase model only, and credit is served: leave it out" in str(done.exception)


@pytest.mark.parametrize("row", ["not JSON", "[1]", '"text"'])
def test_what_is_no_row_is_said(other, row):
    assert isinstance(predict(row).exception, BadRequestError)


def test_a_row_that_breaks_a_rule_is_said_by_field(other):
    done = predict({**ROW, "height": "tall"})
    assert isinstance(done.exception, InvalidRowError)
    assert "height" in str(done.exception)


def test_a_purchase_is_scored_by_its_own_route(package, serve):
    serve(package)
    done = predict(PURCHASE, "--json")
    assert done.exit_code == 0, done.output
    assert set(json.loads(done.stdout)) == {"user_id", "purchase_probability", "recommendation"}
    assert "price" in predict(PURCHASE, "--detail").stdout
    assert isinstance(predict({**PURCHASE, "price": 0}).exception, InvalidRowError)
    assert isinstance(predict({**PURCHASE, "more": "x" * 2_000_000}).exception, BadRequestError)


def test_an_address_where_no_model_is_served_keeps_its_own_answer(monkeypatch):
    client = httpx.Client
    nothing = httpx.MockTransport(lambda request: httpx.Response(404, text="nothing here"))
    monkeypatch.setattr(httpx, "Client", lambda **options: client(**{**options, "transport": nothing}))
    assert isinstance(predict(ROW).exception, NotFoundError)


@pytest.mark.parametrize("body", [PURCHASE, ROW, {}, [], "text"])
def test_the_purchase_route_beside_another_model_names_it_and_its_routes(body, tmp_path):
    make_kind_package(tmp_path / "package", train_original("binary", "code", n_trees=3), name="credit")

    async def main() -> httpx.Response:
        scorer, _, _ = make_scorer(load_package(tmp_path / "package", CatBoostScorer.load))
        served = create_app(await make_traffic(scorer), MemoryAccessLog(), timeout_s=20.0)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://shop") as client:
            return await client.post("/predict_purchase", json=body)

    answer = asyncio.run(main())
    assert answer.status_code == 404
    detail = answer.json()["detail"]
    assert "the served model is credit" in detail
    assert "POST /invocations" in detail
    assert "GET /v2/models/credit" in detail
