"""Any tabular CatBoost model scores here exactly as it does in its author's notebook."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from catboost import CatBoost, CatBoostClassifier, CatBoostRegressor, Pool

from serve_app.errors import GoldenMismatchError, InvalidDataError, InvariantError, PackageError
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.models.adapters.package_dir import MODEL, load_package, load_parts
from serve_app.models.catboost import scorer as catboost_model
from serve_app.models.catboost.importance import load_facts
from serve_app.models.catboost.scorer import EAGER_ROWS, OBJECT_ROWS, CatBoostScorer
from serve_app.models.catboost.trees import build_shap_tables
from serve_app.models.core import shap_tables
from serve_app.models.service.packaging import prove_encoder, prove_model
from tests.testing_kit.models.kinds import (
    FORMS,
    ORDERS,
    TASKS,
    make_kind_package,
    raw_rows,
    reordered,
    to_batch,
    train_original,
)

pytestmark = pytest.mark.unit

CASES = [(task, form, order) for task in TASKS for form in FORMS for order in ORDERS]
QUIET = {"iterations": 5, "verbose": 0, "allow_writing_files": False}


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def original(request):
    return train_original(*request.param)


@pytest.fixture(scope="module")
def scorer(original):
    return CatBoostScorer(original.model, original.features)


def encode(original, rows: pd.DataFrame):
    encoded = FeatureEncoder(original.features, original.vocabularies).encode(to_batch(rows))
    assert encoded.errors == ()
    return encoded.matrix, encoded.strings


def test_scores_are_the_authors_on_ten_thousand_rows(original, scorer):
    rows = raw_rows(10_000, seed=5)
    found = scorer.predict(*encode(original, rows))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, original.scores(rows), rtol=0, atol=1e-12)


def test_scores_do_not_depend_on_the_size_of_the_batch(original, scorer):
    rows = raw_rows(OBJECT_ROWS + 50, seed=6)
    whole = scorer.predict(*encode(original, rows))
    parts = [scorer.predict(*encode(original, rows[at : at + 100])) for at in range(0, len(rows), 100)]
    one = scorer.predict(*encode(original, rows[:1]))
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert one.tobytes() == whole[:1].tobytes()


def test_no_rows_give_scores_of_the_same_form(original, scorer):
    rows = raw_rows(3)
    for call in (scorer.predict, scorer.predict_raw, scorer.explain):
        some, none = call(*encode(original, rows)), call(*encode(original, rows[:0]))
        assert some.shape[0] == 3
        assert none.shape == (0, *some.shape[1:])


@pytest.mark.parametrize("n", [1, EAGER_ROWS - 1, EAGER_ROWS, 200])
def test_an_explanation_adds_up_to_the_raw_score(original, n):
    scorer = CatBoostScorer(original.model, original.features)
    rows = encode(original, raw_rows(n, seed=7))
    values, raw = scorer.explain(*rows), scorer.predict_raw(*rows)
    assert values.shape == (*raw.shape, scorer.n_features + 1)
    np.testing.assert_allclose(values.sum(axis=-1), raw, rtol=0, atol=1e-9)
    fresh = CatBoostScorer(original.model, original.features)
    one = fresh.explain(rows[0][:1], rows[1].slice(0, 1) if rows[1] else None)
    np.testing.assert_allclose(values[:1], one, rtol=0, atol=1e-12)


def test_explanations_are_catboosts_own(original, scorer):
    rows = raw_rows(300, seed=12)
    native = [spec.name for spec in original.features if spec.is_native]
    expected = original.model.get_feature_importance(
        Pool(original.frame(rows), cat_features=native or None), type="ShapValues"
    )
    np.testing.assert_allclose(scorer.explain(*encode(original, rows)), expected, rtol=0, atol=1e-12)


def test_importance_and_interactions_name_the_features(original, tmp_path):
    manifest = make_kind_package(tmp_path / "p", original)
    figures = load_facts(tmp_path / "p" / MODEL, manifest.feature_names, n_interactions=3)
    importance = dict(figures.importance)
    assert set(importance) == set(manifest.feature_names)
    assert sum(importance.values()) == pytest.approx(100)
    assert figures.importance[0][0] == "weight"
    assert 1 <= len(figures.interactions) <= 3
    assert all({one, other} <= set(importance) and share > 0 for one, other, share in figures.interactions)


def test_a_package_of_any_kind_proves_its_golden_rows_after_it_was_read_from_disk(original, tmp_path):
    manifest = make_kind_package(tmp_path / "p", original)
    parts = load_parts(tmp_path / "p")
    assert parts.manifest == manifest
    prove_encoder(parts, FeatureEncoder(manifest.features, parts.vocabularies))
    package = load_package(tmp_path / "p", CatBoostScorer.load)
    prove_model(package)
    outputs = [name for name in package.golden.column_names if name == "probability" or name.startswith("output.")]
    expected = {"binary": ["probability"], "regression": ["output.0"]}
    assert outputs == expected.get(manifest.task, ["output.0", "output.1", "output.2"])
    shifted = package.golden.column(outputs[-1]).to_numpy() + 1e-6
    golden = package.golden.set_column(package.golden.column_names.index(outputs[-1]), outputs[-1], pa.array(shifted))
    with pytest.raises(GoldenMismatchError, match="differs from its golden scores"):
        prove_model(dataclasses.replace(package, golden=golden))


def test_an_encoder_that_hands_on_other_strings_may_not_serve(tmp_path):
    original = train_original("binary", "native_string")
    make_kind_package(tmp_path / "p", original)
    parts = load_parts(tmp_path / "p")
    other = pa.array(["bonn"] * parts.golden.num_rows)
    golden = parts.golden.set_column(parts.golden.column_names.index("string.city"), "string.city", other)
    with pytest.raises(GoldenMismatchError, match="other strings"):
        prove_encoder(
            dataclasses.replace(parts, golden=golden), FeatureEncoder(original.features, original.vocabularies)
        )


def test_a_string_that_no_vocabulary_lists_scores_as_in_the_original():
    original = train_original("binary", "native_string")
    scorer = CatBoostScorer(original.model, original.features)
    rows = raw_rows(500, seed=8)
    rows["city"] = np.where(np.arange(500) % 2, "ulm", "atlantis")
    found = scorer.predict(*encode(original, rows))
    np.testing.assert_allclose(found, original.scores(rows), rtol=0, atol=1e-12)
    matrix, _ = encode(original, rows)
    assert set(matrix[:, 2]) == {original.vocabularies["city"].index("__unknown__")}


@pytest.mark.parametrize("order", ORDERS)
def test_a_model_that_takes_strings_does_not_score_without_them(order):
    original = train_original("binary", "native_string", order)
    scorer = CatBoostScorer(original.model, original.features)
    matrix, _ = encode(original, raw_rows(5))
    with pytest.raises(InvariantError, match="takes city as strings and got none"):
        scorer.predict(matrix)


@pytest.mark.parametrize("loss", ["Poisson", "Tweedie:variance_power=1.5", "MAE", "Quantile:alpha=0.9"])
def test_the_value_of_a_regression_is_what_its_author_gets(loss):
    original = train_original("regression", "native_code", loss=loss)
    scorer = CatBoostScorer(original.model, original.features)
    rows = raw_rows(1_000, seed=9)
    np.testing.assert_allclose(scorer.predict(*encode(original, rows)), original.scores(rows), rtol=0, atol=1e-12)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_classifier_of_one_raw_score_a_class_gives_its_authors_probabilities(task):
    loss = {"binary": "MultiClass", "multiclass": "MultiClassOneVsAll"}[task]
    original = train_original(task, "native_code", loss=loss)
    scorer = CatBoostScorer(original.model, original.features)
    assert scorer.facts.task == task
    rows = raw_rows(500, seed=10)
    found = scorer.predict(*encode(original, rows))
    np.testing.assert_allclose(found, original.scores(rows), rtol=0, atol=1e-12)
    if task == "binary":
        raw, values = scorer.predict_raw(*encode(original, rows)), scorer.explain(*encode(original, rows))
        np.testing.assert_allclose(found, 1 / (1 + np.exp(-raw)), rtol=0, atol=1e-12)
        np.testing.assert_allclose(values.sum(axis=1), raw, rtol=0, atol=1e-9)


@pytest.mark.parametrize("n", [5, 100])
@pytest.mark.parametrize("policy", ["Lossguide", "Depthwise"])
def test_explanations_that_do_not_add_up_are_refused(policy, n):
    x = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    model = CatBoostClassifier(grow_policy=policy, **QUIET).fit(x, x[:, 0] * x[:, 1] > 0)
    with pytest.raises(InvalidDataError, match="do not add up to the score"):
        CatBoostScorer(model).explain(x[:n])


def test_a_scaled_model_is_explained_too():
    x = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    model = CatBoostClassifier(**QUIET).fit(x, x[:, 0] * x[:, 1] > 0)
    model.set_scale_and_bias(2.0, 0.5)
    scorer = CatBoostScorer(model)
    np.testing.assert_allclose(scorer.explain(x[:1]).sum(), scorer.predict_raw(x[:1]), rtol=0, atol=1e-9)
    np.testing.assert_allclose(scorer.explain(x).sum(axis=1), scorer.predict_raw(x), rtol=0, atol=1e-9)


def test_a_model_with_constant_trees_starts_and_is_explained(tmp_path):
    """CatBoost adds a tree without splits when nothing is left to split, and writes its splits as null."""
    x = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    model = CatBoostClassifier(**QUIET).fit(x, x[:, 0] * x[:, 1] > 0)
    model.save_model(str(tmp_path / "m.json"), format="json")
    content = json.loads((tmp_path / "m.json").read_bytes())
    for at in (1, 4):
        content["oblivious_trees"].insert(at, {"leaf_values": [0.25], "leaf_weights": [300.0], "splits": None})
    (tmp_path / "m.json").write_text(json.dumps(content))
    scorer = CatBoostScorer.load(tmp_path / "m.json")
    assert scorer.facts.n_trees == 7
    expected = scorer.model.get_feature_importance(Pool(x), type="ShapValues")
    scorer.prepare_explanations()
    np.testing.assert_allclose(scorer.explain(x), expected, rtol=0, atol=1e-12)


def test_deep_trees_have_tables_as_far_as_these_are_cheap_and_are_refused_when_too_large(monkeypatch):
    x = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    model = CatBoostClassifier(**{**QUIET, "iterations": 2, "depth": 10}).fit(x, x[:, 0] * x[:, 1] > 0)
    expected = model.get_feature_importance(Pool(x[:40]), type="ShapValues")
    tables = build_shap_tables(model)
    np.testing.assert_allclose(tables.explain(model.calc_leaf_indexes(x[:40]))[:, 0], expected, rtol=0, atol=1e-12)
    monkeypatch.setattr(shap_tables, "MAX_VALUES", 2_000_000)
    assert build_shap_tables(model) is None
    scorer = CatBoostScorer(model)
    asked = []

    def answer(**question):
        asked.append(question["shap_mode"])
        return expected[: question["data"].num_row()]

    monkeypatch.setattr(scorer, "_ask_catboost", answer)
    for _ in range(2):  # pre-calculation would take minutes for many trees, in every call
        np.testing.assert_array_equal(scorer.explain(x[:40]), expected)
    assert asked == ["NoPreCalc", "NoPreCalc"]
    assert CatBoostScorer(train_original("binary", "code").model).max_explained_rows is None
    monkeypatch.setattr(catboost_model, "MAX_CALL_LEAVES", 10 * 2_048)
    assert scorer.max_explained_rows == 10
    assert scorer.explain(x[:10]) is not None
    with pytest.raises(InvalidDataError, match="at most 10 rows at once, got 11"):
        scorer.explain(x[:11])
    monkeypatch.setattr(catboost_model, "MAX_EXPLAINED_LEAVES", 2_000)
    with pytest.raises(InvalidDataError, match="its 2 trees have 2,048 leaf values, explained are up to 2,000"):
        scorer.explain(x[:1])


def test_combinations_and_single_categories_share_what_they_add_as_in_catboost():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({
        "a": rng.choice(["x", "y"], 800), "n": rng.normal(size=800), "b": rng.choice(list("pqrstu"), 800),
        "c": rng.choice(list("klm"), 800),
    })  # fmt: skip
    target = (frame.a == "x") ^ frame.b.isin(["p", "q", "r"]) ^ (frame.c == "k")
    model = CatBoostClassifier(iterations=40, depth=6, one_hot_max_size=2, max_ctr_complexity=4, verbose=0,
                               allow_writing_files=False).fit(frame, target, cat_features=["a", "b", "c"])  # fmt: skip
    tables = build_shap_tables(model)
    pool = Pool(frame, cat_features=["a", "b", "c"])
    expected = model.get_feature_importance(pool, type="ShapValues")
    np.testing.assert_allclose(tables.explain(model.calc_leaf_indexes(pool))[:, 0], expected, rtol=0, atol=1e-12)


def test_a_wrong_order_of_features_is_refused():
    with pytest.raises(InvalidDataError, match=r"input 1 of the model is weight, declared is colour"):
        CatBoostScorer(train_original("binary", "code").model, reordered(train_original("binary", "code")).features)


def test_a_native_category_that_was_not_declared_is_refused():
    original = train_original("binary", "native_code")
    with pytest.raises(InvalidDataError, match="city, colour as native categories, which has to be declared"):
        CatBoostScorer(original.model)
    features = [dataclasses.replace(spec, form="code") for spec in original.features]
    with pytest.raises(InvalidDataError, match="city is a native category to the model and declared to reach it as a"):
        CatBoostScorer(original.model, features)
    numbers = train_original("binary", "code")
    with pytest.raises(InvalidDataError, match="city is a number to the model"):
        CatBoostScorer(numbers.model, original.features)
    with pytest.raises(InvalidDataError, match="has 4 inputs, 3 are declared"):
        CatBoostScorer(numbers.model, numbers.features[:3])


def test_text_and_embedding_features_are_refused_by_name():
    n = 60
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=n), "review": [f"good thing {i % 7}" for i in range(n)]})
    model = CatBoostClassifier(**QUIET).fit(frame, np.arange(n) % 2, text_features=["review"])
    with pytest.raises(
        InvalidDataError, match="review: text features cannot be served, only numeric and categorical ones"
    ):
        CatBoostScorer(model)
    frame = pd.DataFrame({"x": rng.normal(size=n), "face": [list(rng.normal(size=4)) for _ in range(n)]})
    model = CatBoostClassifier(**QUIET).fit(frame, np.arange(n) % 2, embedding_features=["face"])
    with pytest.raises(InvalidDataError, match="face: embedding features cannot be served"):
        CatBoostScorer(model)


@pytest.mark.parametrize("loss", ["MultiRMSE", "RMSEWithUncertainty", "MultiQuantile:alpha=0.1,0.9"])
def test_a_model_with_several_numbers_a_row_is_refused(loss):
    x = np.random.default_rng(0).normal(size=(80, 2))
    target = x if loss == "MultiRMSE" else x[:, 0]
    with pytest.raises(InvalidDataError, match=r"answers 2 numbers for each row \(loss (Multi|RMSE)"):
        CatBoostScorer(CatBoostRegressor(loss_function=loss, **QUIET).fit(x, target))


def test_a_package_whose_model_has_other_classes_than_its_manifest_is_refused(tmp_path):
    original = train_original("multiclass", "code")
    manifest = make_kind_package(tmp_path / "p", original)
    path = tmp_path / "p" / "model.cbm"
    for other in (
        dataclasses.replace(manifest, classes=("low", "top", "mid")),
        dataclasses.replace(manifest, task="regression", classes=()),
    ):
        with pytest.raises(PackageError, match=r"model of the classes \['low', 'mid', 'top'\], its manifest says"):
            CatBoostScorer.load(path, other)
    with pytest.raises(PackageError, match="cannot be served: the model has 4 inputs, 2 are declared"):
        CatBoostScorer.load(path, dataclasses.replace(manifest, features=manifest.features[:2]))


def test_a_model_that_was_never_trained_is_refused():
    with pytest.raises(InvalidDataError, match="never trained"):
        CatBoostScorer(CatBoost())
