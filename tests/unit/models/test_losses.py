"""Every loss of CatBoost: served with what CatBoost itself says, or refused with what to do."""

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from catboost import CatBoost, CatBoostClassifier, Pool, sum_models

from serve_app.errors import InvalidDataError
from serve_app.features.core.specs import FeatureSpec
from serve_app.models.adapters.file_import import ImportOptions, import_and_publish
from serve_app.models.adapters.model_export import export_model
from serve_app.models.adapters.package_dir import load_package
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.models.catboost.files import load_catboost
from serve_app.models.catboost.scorer import CatBoostScorer

N = 120
QUIET: dict[str, Any] = {
    "iterations": 5, "depth": 2, "verbose": False, "allow_writing_files": False, "thread_count": 1,
    "learning_rate": 0.3,
}  # fmt: skip
RNG = np.random.default_rng(0)
ROWS = pd.DataFrame(RNG.normal(size=(N, 3)), columns=["a", "b", "c"])
YES = (ROWS.a > 0).astype(int).to_numpy()
THREE = np.digitize(ROWS.a, [-0.5, 0.5])
VALUE = np.abs(ROWS.a.to_numpy()) + 0.1
PAIR = np.column_stack([VALUE, ROWS.b])
GROUPS = np.repeat(np.arange(N // 10), 10)

pytestmark = pytest.mark.filterwarnings("ignore:Failed to import numba", "ignore:Can't optimze method")


class SoftmaxByHand:
    """A multiclass loss in Python."""

    def calc_ders_multi(self, approx, target, weight):
        odds = np.exp(np.array(approx) - max(approx))
        p = odds / odds.sum()
        second = [[-p[i] * ((i == j) - p[j]) for j in range(len(p))] for i in range(len(p))]
        return [float(j == int(target)) - p[j] for j in range(len(p))], second


class AlwaysOne:
    """A metric in Python."""

    def is_max_optimal(self):
        return True

    def evaluate(self, approxes, target, weight):
        return 1.0, 1.0

    def get_final_error(self, error, weight):
        return error


def train(loss: Any, target: Any, seed: int = 0, group_id: Any = None, **params: Any) -> CatBoost:
    model = CatBoost({**QUIET, "loss_function": loss, "random_seed": seed, **params})
    return model.fit(Pool(ROWS, target, group_id=group_id))


def reload(place: Path, model: CatBoost, suffix: str = "cbm") -> CatBoostScorer:
    """Return the model as a replica has it, from its file."""
    path = place / f"given.{suffix}"
    model.save_model(str(path), format=suffix)
    loaded = load_catboost(path)
    at = loaded.get_cat_feature_indices()
    features = [
        FeatureSpec(name, "categorical", "", form="native_string") if j in at else FeatureSpec(name, "numeric", "")
        for j, name in enumerate(loaded.feature_names_)
    ]
    return CatBoostScorer(loaded, features)


def score(scorer: CatBoostScorer) -> np.ndarray:
    """Return predictions, after explanations were held against raw scores."""
    matrix = ROWS.to_numpy(np.float32)
    shap, raw = scorer.explain(matrix), scorer.predict_raw(matrix)
    np.testing.assert_allclose(shap.sum(axis=-1), raw, atol=1e-6)
    return scorer.predict(matrix)


CLASSES = [("Logloss", YES), ("CrossEntropy", YES), ("CrossEntropy", np.linspace(0, 1, N)), ("MultiClass", YES),
           ("Focal:focal_alpha=0.5;focal_gamma=1", YES), ("MultiClassOneVsAll", YES), ("MultiClass", THREE),
           ("MultiClassOneVsAll", THREE)]  # fmt: skip
NUMBERS = ["RMSE", "MAE", "Quantile:alpha=0.3", "LogLinQuantile", "MAPE", "Lq:q=2", "Expectile:alpha=0.3",
           "Huber:delta=1", "LogCosh", "Poisson", "Tweedie:variance_power=1.5"]  # fmt: skip
RANKS = ["PairLogit", "PairLogitPairwise", "YetiRank", "YetiRankPairwise", "QueryRMSE", "QuerySoftMax",
         "StochasticFilter", "StochasticRank:metric=DCG", "LambdaMart", "GroupQuantile:alpha=0.3"]  # fmt: skip


@pytest.mark.parametrize("n_summed", [1, 2])
@pytest.mark.parametrize(("loss", "target"), CLASSES)
def test_classifiers_and_their_sums_answer_catboosts_own_probabilities(loss, target, n_summed, tmp_path):
    models = [train(loss, target, seed) for seed in range(n_summed)]
    model = models[0] if n_summed == 1 else sum_models(models, weights=[0.5, 0.5])
    scorer = reload(tmp_path, model)
    expected = model.predict(ROWS, "Probability")
    is_binary = scorer.facts.task == "binary"
    assert scorer.facts.classes == tuple(str(c) for c in model.classes_)
    assert is_binary == (len(model.classes_) == 2 and loss != "MultiClassOneVsAll")
    np.testing.assert_array_equal(score(scorer), expected[:, 1] if is_binary else expected)


@pytest.mark.parametrize("n_summed", [1, 2])
@pytest.mark.parametrize("loss", [*NUMBERS, *RANKS])
def test_models_of_one_number_and_their_sums_answer_it(loss, n_summed, tmp_path):
    target, groups = (YES.astype(float), GROUPS) if loss in RANKS else (VALUE, None)
    models = [train(loss, target, seed, groups) for seed in range(n_summed)]
    model = models[0] if n_summed == 1 else sum_models(models)
    scorer = reload(tmp_path, model)
    assert scorer.facts.task == "regression"
    kind = "Exponent" if loss.startswith(("Poisson", "Tweedie")) else "RawFormulaVal"
    np.testing.assert_array_equal(score(scorer), model.predict(ROWS, kind))
    np.testing.assert_array_equal(scorer.predict_raw(ROWS.to_numpy(np.float32)), model.predict(ROWS, "RawFormulaVal"))


@pytest.mark.parametrize(
    ("loss", "target"),
    [
        ("SurvivalAft:dist=Normal;scale=1", np.column_stack([VALUE, np.where(YES, VALUE + 1, -1)])),
        ("Cox", np.where(YES, VALUE, -VALUE)),
        ("MultiRMSE", VALUE.reshape(-1, 1)),
    ],
)
def test_other_models_of_one_number_answer_it(loss, target, tmp_path):
    model = train(loss, target)
    np.testing.assert_array_equal(score(reload(tmp_path, model)), np.ravel(model.predict(ROWS, "RawFormulaVal")))


@pytest.mark.parametrize("n_summed", [1, 2])
@pytest.mark.parametrize(
    ("loss", "target", "what"),
    [
        ("RMSEWithUncertainty", VALUE, "2 numbers"),
        ("MultiRMSE", PAIR, "2 numbers"),
        ("MultiRMSEWithMissingValues", PAIR, "2 numbers"),
        ("MultiQuantile:alpha=0.1,0.5,0.9", VALUE, "3 numbers"),
        ("MultiLogloss", np.column_stack([YES, 1 - YES]), "do not exclude one another"),
        ("MultiCrossEntropy", np.column_stack([YES, 1 - YES]) * 0.5, "do not exclude one another"),
        ("MultiLogloss", YES.reshape(-1, 1), "do not exclude one another"),
    ],
)
def test_several_answers_a_row_are_refused_and_told_apart_from_classes(loss, target, what, n_summed, tmp_path):
    models = [train(loss, target, seed) for seed in range(n_summed)]
    model = models[0] if n_summed == 1 else sum_models(models)
    with pytest.raises(InvalidDataError, match="train a model for each") as caught:
        reload(tmp_path, model)
    assert what in caught.value.detail
    assert loss.partition(":")[0] in caught.value.detail


@pytest.mark.parametrize(
    "labels",
    [["high", "low", "mid"], [3, 20, 100], [0.5, 1.5, 2.5], ["нет", "да", "🙂"], [False, True]],
    ids=["text", "int", "float", "unicode", "bool"],
)
def test_a_sum_of_classifiers_keeps_its_labels_whatever_their_type(labels, tmp_path):
    codes = THREE if len(labels) == 3 else YES
    loss = "MultiClass" if len(labels) == 3 else "Logloss"
    models = [
        CatBoostClassifier(**QUIET, loss_function=loss, random_seed=seed).fit(ROWS, np.array(labels)[codes])
        for seed in range(2)
    ]
    model = sum_models([sum_models(models), models[0]])
    scorer = reload(tmp_path, model)
    assert scorer.facts.classes == tuple(str(label) for label in model.classes_)
    expected = model.predict(ROWS, "Probability")
    np.testing.assert_array_equal(score(scorer), expected if len(labels) == 3 else expected[:, 1])


@pytest.mark.parametrize("suffix", ["cbm", "json", "pkl"])
def test_a_sum_is_imported_from_every_kind_of_file_and_exported_again(suffix, tmp_path):
    labels = np.array(["high", "low", "mid"])[THREE]
    model = sum_models([CatBoostClassifier(**QUIET, random_seed=seed).fit(ROWS, labels) for seed in range(2)])
    path = tmp_path / f"given.{suffix}"
    if suffix == "pkl":
        joblib.dump(model, path)
    else:
        model.save_model(str(path), format=suffix)
    registry = DirectoryRegistry(tmp_path / "registry")
    version, manifest, _ = import_and_publish(path, registry, ImportOptions(name="tried"))
    assert (manifest.task, manifest.classes) == ("multiclass", ("high", "low", "mid"))
    folder = registry.locate("tried", version)
    found = load_package(folder, CatBoostScorer.load).model.predict(ROWS.to_numpy(np.float32))
    np.testing.assert_allclose(found, model.predict(ROWS, "Probability"), atol=1e-12)  # JSON rounds leaves
    export_model(folder, tmp_path / "out.pkl", version)
    again = joblib.load(tmp_path / "out.pkl")["model"]
    np.testing.assert_array_equal(again.predict_proba(ROWS), found)


@pytest.mark.parametrize("params", [{}, {"class_names": ["x", "y", "z"]}])
def test_a_multiclass_loss_in_python_is_served_when_its_file_names_the_classes(params, tmp_path):
    target = THREE if not params else np.array(["x", "y", "z"])[THREE]
    model = CatBoostClassifier(loss_function=SoftmaxByHand(), eval_metric="MultiClass", **params, **QUIET)
    model.fit(ROWS, target)
    scorer = reload(tmp_path, model)
    assert scorer.facts.classes == tuple(str(c) for c in model.classes_)
    np.testing.assert_array_equal(score(scorer), model.predict_proba(ROWS))


def test_a_multiclass_loss_in_python_without_labels_is_refused_and_the_page_says_so(tmp_path):
    model = CatBoostClassifier(loss_function=SoftmaxByHand(), eval_metric="MultiClass", classes_count=3, **QUIET)
    with pytest.raises(InvalidDataError, match=r"names no classes: train it as CatBoostClassifier\(class_names="):
        reload(tmp_path, model.fit(ROWS, THREE))
    page = (Path(__file__).parents[3] / "docs" / "models.md").read_text("utf-8")
    assert "when its file names the classes" in " ".join(page.split())


@pytest.mark.parametrize(("loss", "target"), [("Logloss", YES), ("MultiClass", THREE), ("RMSE", VALUE)])
def test_a_metric_in_python_changes_nothing(loss, target, tmp_path):
    model = train(loss, target, eval_metric=AlwaysOne())
    expected = model.predict(ROWS, "RawFormulaVal" if loss == "RMSE" else "Probability")
    np.testing.assert_array_equal(score(reload(tmp_path, model)), expected[:, 1] if loss == "Logloss" else expected)


def test_classes_in_another_order_keep_it(tmp_path):
    model = train("Logloss", YES, class_names=[1, 0])
    scorer = reload(tmp_path, model)
    assert scorer.facts.classes == ("1", "0")
    np.testing.assert_array_equal(score(scorer), model.predict(ROWS, "Probability")[:, 1])


def test_classes_that_no_row_had_are_told_from_those_of_training(tmp_path):
    with pytest.raises(InvalidDataError, match=r"names 5 classes and has outputs for 3.* Train it with the classes"):
        reload(tmp_path, train("MultiClass", THREE, classes_count=5))


def test_a_sum_of_models_with_different_losses_says_which_and_what_to_sum(tmp_path):
    mixed = sum_models([train("MultiClass", THREE), train("MultiClassOneVsAll", THREE)])
    with pytest.raises(InvalidDataError, match=r"MultiClass and MultiClassOneVsAll.*sum models of one loss"):
        reload(tmp_path, mixed)


def test_a_sum_of_one_number_each_is_read_as_catboost_reads_it(tmp_path):
    mixed = sum_models([train("Logloss", YES), train("RMSE", VALUE)])
    scorer = reload(tmp_path, mixed)
    assert scorer.facts.loss == "Logloss and RMSE"
    np.testing.assert_array_equal(score(scorer), mixed.predict(ROWS, "Probability")[:, 1])


def test_a_sum_with_categories_answers_catboosts_own_probabilities(tmp_path):
    rows = ROWS.assign(city=np.array(["bonn", "trier", "köln"])[THREE])
    models = [
        CatBoostClassifier(**QUIET, random_seed=seed).fit(rows, THREE, cat_features=["city"]) for seed in range(2)
    ]
    model = sum_models(models, ctr_merge_policy="LeaveMostDiversifiedTable")
    found = reload(tmp_path, model).predict(
        rows.drop(columns="city").assign(city=0).to_numpy(np.float32), pa.RecordBatch.from_pandas(rows[["city"]])
    )
    np.testing.assert_array_equal(found, model.predict(rows, "Probability"))
