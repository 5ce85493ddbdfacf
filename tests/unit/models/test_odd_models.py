"""Models that are odd, and files that lie: served exactly, or refused with a reason before they cost anything."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from catboost import CatBoost, CatBoostClassifier, CatBoostRanker, CatBoostRegressor
from sklearn.preprocessing import LabelEncoder

from serve_app.errors import InvalidDataError, PackageError
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.row_errors import UNREADABLE
from serve_app.features.core.specs import FeatureSpec
from serve_app.models.adapters.file_import import ImportOptions, import_and_publish
from serve_app.models.adapters.model_export import export_model
from serve_app.models.adapters.package_dir import load_package
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.models.catboost.facts import read_facts
from serve_app.models.catboost.scorer import CatBoostScorer
from serve_app.models.core.golden_rows import MAX_NULL_ROWS, design_rows
from serve_app.models.untrusted import model_file
from serve_app.models.untrusted.model_trial import try_model
from tests.testing_kit.models.kinds import train_original

pytestmark = pytest.mark.unit

QUIET = {"iterations": 12, "depth": 4, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
N = 600
ZIPS = [10_115, 20_095, 50_667, 80_331]


class LogLossByHand:
    """A loss in Python, as CatBoost's documentation has it."""

    def calc_ders_range(self, approxes, targets, weights):
        p = 1 / (1 + np.exp(-np.asarray(approxes)))
        return list(zip(np.asarray(targets) - p, -p * (1 - p), strict=True))


class SquaresByHand:
    def calc_ders_range(self, approxes, targets, weights):
        return [(target - approx, -1.0) for approx, target in zip(approxes, targets, strict=True)]


@pytest.fixture(autouse=True)
def quickly(monkeypatch, request):
    """Try models in this process, except where a damaged one may end it."""
    if request.function is not test_leaves_that_no_row_of_the_trial_reaches_are_counted_too:
        monkeypatch.setattr(model_file, "_try_model", lambda model, path, limits: try_model(model) or {"x": "in force"})


@pytest.fixture
def place(tmp_path):
    return tmp_path


def import_it(place: Path, value, suffix: str = "pkl") -> Path:
    """Import a dict, a model or the bytes of a file; return the package's folder."""
    path = place / f"given.{suffix}"
    if isinstance(value, bytes):
        path.write_bytes(value)
    elif suffix == "pkl":
        joblib.dump(value, path)
    else:
        value.save_model(str(path), format=suffix)
    registry = DirectoryRegistry(place / "registry")
    version, manifest, _ = import_and_publish(path, registry, ImportOptions(name="odd"))
    return registry.locate(manifest.name, version)


def score(folder: Path, rows: pa.RecordBatch) -> np.ndarray:
    package = load_package(folder, CatBoostScorer.load)
    encoded = FeatureEncoder(package.manifest.features, package.vocabularies).encode(rows)
    assert encoded.errors == ()
    return package.model.predict(*encoded.for_model)


def export_it(place: Path, folder: Path) -> dict:
    export_model(folder, place / "out.pkl", 1)
    return joblib.load(place / "out.pkl")


def numbers(n: int = N, names: str = "abc") -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(3).normal(size=(n, len(names))), columns=list(names))


def encode_as_documented(document: dict, rows: pd.DataFrame) -> pd.DataFrame:
    """docs/models.md, "Out again"."""
    rows = rows.copy()
    for name, encoder in document["label_encoders"].items():
        rows[name] = encoder.transform(rows[name].where(rows[name].isin(encoder.classes_), "__unknown__"))
    return rows[document["feature_names"]]


@pytest.mark.parametrize("kind", ["int", "float", "bool", "int and __unknown__", "text and NaN"])
def test_an_exported_encoder_knows_its_classes_by_their_own_type(kind, place):
    rng = np.random.default_rng(0)
    values = {
        "int": rng.choice(ZIPS, N), "int and __unknown__": rng.choice(ZIPS, N), "bool": rng.random(N) > 0.5,
        "float": rng.choice([1.0, 2.0, np.nan], N), "text and NaN": rng.choice(np.array(["x", "y", np.nan], object), N),
    }[kind]  # fmt: skip
    encoder = LabelEncoder().fit(values)
    if kind.endswith("__unknown__"):
        encoder.classes_ = np.array([*ZIPS, "__unknown__"], dtype=object)
    rows = pd.DataFrame({"zip": values, "w": rng.normal(size=N)})
    codes = encoder.transform(rows.zip)
    model = CatBoostClassifier(**QUIET).fit(rows.assign(zip=codes), codes + rows.w > 1)
    folder = import_it(place, {"model": model, "label_encoders": {"zip": encoder}, "feature_names": ["zip", "w"]})
    if kind.endswith("__unknown__"):
        rows.loc[:9, "zip"], codes[:10] = 99_999, 4
    document = export_it(place, folder)
    assert list(map(type, document["label_encoders"]["zip"].classes_.tolist())) == list(
        map(type, encoder.classes_.tolist())
    )
    expected = model.predict_proba(rows.assign(zip=codes))[:, 1]
    np.testing.assert_array_equal(document["model"].predict_proba(encode_as_documented(document, rows))[:, 1], expected)
    joblib.dump(document, place / "again.pkl")
    again = import_it(place, document)
    assert export_it(place, again)["label_encoders"]["zip"].classes_.tolist()[:2] == encoder.classes_.tolist()[:2]


def test_inputs_that_really_are_called_0_1_2_keep_the_models_order(place):
    rows = numbers(names="012")
    model = CatBoostClassifier(**QUIET).fit(rows, rows["0"] - rows["2"] > 0)
    folder = import_it(place, {"model": model, "feature_names": ["2", "1", "0"]})
    expected = model.predict_proba(rows)[:, 1]
    np.testing.assert_array_equal(score(folder, pa.RecordBatch.from_pandas(rows)), expected)


@pytest.mark.filterwarnings("ignore:Failed to import numba")
def test_a_classifier_with_a_loss_in_python_is_a_classifier_in_and_out(place):
    rows = numbers()
    model = CatBoostClassifier(loss_function=LogLossByHand(), eval_metric="Logloss", **QUIET)
    model.fit(rows, (rows.a > rows.b).astype(int))
    expected = model.predict_proba(rows)[:, 1]
    folder = import_it(place, model, "cbm")
    assert load_package(folder, CatBoostScorer.load).manifest.task == "binary"
    np.testing.assert_array_equal(score(folder, pa.RecordBatch.from_pandas(rows)), expected)
    np.testing.assert_array_equal(export_it(place, folder)["model"].predict_proba(rows)[:, 1], expected)


@pytest.mark.parametrize("loss", ["YetiRank", "QueryRMSE", "by hand"])
@pytest.mark.filterwarnings("ignore:Failed to import numba")
def test_rankers_and_regressions_with_a_loss_in_python_are_exported(loss, place):
    rows = numbers()
    if loss == "by hand":
        model = CatBoostRegressor(loss_function=SquaresByHand(), eval_metric="RMSE", **QUIET).fit(rows, rows.a)
    else:
        model = CatBoostRanker(loss_function=loss, **QUIET)
        model.fit(rows, np.digitize(rows.a, [0, 1]), group_id=np.arange(N) // 10)
    folder = import_it(place, model, "cbm" if loss == "by hand" else "pkl")
    np.testing.assert_array_equal(score(folder, pa.RecordBatch.from_pandas(rows)), model.predict(rows))
    np.testing.assert_array_equal(export_it(place, folder)["model"].predict(rows), model.predict(rows))


def as_json(place: Path, model: CatBoost) -> dict:
    model.save_model(str(place / "m.json"), format="json")
    return json.loads((place / "m.json").read_bytes())


def cut_values(content):
    del content["oblivious_trees"][0]["leaf_values"][3:]


def cut_weights(content):
    del content["oblivious_trees"][-1]["leaf_weights"][3:]


def make_infinite(content):
    content["oblivious_trees"][0]["leaf_values"][:] = [1e308] * 16


def drop_trees(content):
    content["oblivious_trees"].clear()


def name_too_long(content):
    content["features_info"]["float_features"][0]["feature_id"] = "a" * 10_000_000


def name_three_classes(content):
    content["model_info"]["class_params"]["class_names"] = ["x", "y", "z"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut_values, "damaged: its last tree has 3 leaves and splits for 16"),
        (cut_weights, "other numbers of leaf weights and of leaves"),
        (make_infinite, "not finite"),
        (drop_trees, "it has no trees"),
        (name_too_long, "has 10,000,000 characters, more than 512"),
        (name_three_classes, "names 3 classes"),
    ],
)
def test_a_damaged_model_is_refused_when_it_is_tried(damage, words, place):
    rows = numbers()
    content = as_json(place, CatBoostClassifier(**QUIET).fit(rows, rows.a > 0))
    damage(content)
    with pytest.raises(InvalidDataError, match=words) as refused:
        import_it(place, json.dumps(content).encode(), "json")
    assert len(str(refused.value)) < 500


def test_leaves_that_no_row_of_the_trial_reaches_are_counted_too(place):
    """Without their number being checked, a row far outside would read beyond the model's memory."""
    rows = numbers()
    model = CatBoostClassifier(**QUIET).fit(rows, rows.a > 0)
    model.save_model(str(place / "m.cbm"))
    data = bytearray((place / "m.cbm").read_bytes())
    values = model.get_leaf_values()
    at = data.find(struct.pack("<I", len(values)) + values[:2].tobytes())
    data[at : at + 4] = struct.pack("<I", len(values) - 13)
    with pytest.raises(InvalidDataError, match=r"is no usable CatBoost model: .*damaged"):
        import_it(place, bytes(data), "cbm")


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("policy", ["SymmetricTree", "Lossguide", "Depthwise"])
def test_the_structure_of_a_sound_model_passes(task, policy, place):
    rows = numbers().assign(c=np.random.default_rng(1).choice(list("pqr"), N))
    target = rows.a > 0 if task == "binary" else np.digitize(rows.a, [0, 1])
    model = CatBoostClassifier(grow_policy=policy, **QUIET).fit(rows, target, cat_features=["c"])
    model.save_model(str(place / "m.cbm"))
    try_model(place / "m.cbm")
    facts = read_facts(model)
    assert (facts.task, facts.feature_names) == (task, tuple(rows.columns))


def test_a_small_file_that_unfolds_to_much_text_is_refused(place):
    model = train_original("binary", "code", n_trees=2).model
    text = "a" * 50_000
    for extra in ({"model_metadata": [text] * 100}, {"metrics": {"m": [10**4_000] * 1_000}}):
        with pytest.raises(InvalidDataError, match="unfolds to more than 1,048,576 characters: leave out"):
            import_it(place, pickle.dumps({"model": model, **extra}))


@pytest.mark.parametrize(
    "extra", [{"model_metadata": {"note": "\ud800"}}, {"metrics": {"auc\ud800": 1}}, {"x\ud800": 1},
              {"feature_names": ["\ud800", "b"]}, {"label_encoders": {"a\ud800": 1}}]
)  # fmt: skip
def test_half_characters_are_refused(extra, place):
    model = train_original("binary", "code", n_trees=2).model
    with pytest.raises(InvalidDataError, match=r"ud800") as refused:
        import_it(place, pickle.dumps({"model": model, **extra}))
    refused.value.detail.encode()


def test_an_input_whose_name_is_no_text_is_refused(place):
    rows = numbers().rename(columns={"a": UNREADABLE})
    with pytest.raises(InvalidDataError, match=r"holds the code point .*fdd0.*give it another name"):
        import_it(place, CatBoostClassifier(**QUIET).fit(rows, rows.b > 0))
    model = CatBoostClassifier(**QUIET).fit(rows.to_numpy(), rows.b > 0)
    with pytest.raises(InvalidDataError, match="holds the code point"):
        import_it(place, {"model": model, "feature_names": list(rows)})


def test_wide_models_share_their_rows_of_nulls():
    features = tuple(FeatureSpec(f"f{j}", "numeric", "", on_null="nan") for j in range(3 * MAX_NULL_ROWS))
    rows = design_rows(features, {}, {}, 64)
    assert rows.num_rows == 64 + MAX_NULL_ROWS + 1
    assert all(column.null_count == 2 for column in rows.columns)


def test_a_manifest_with_types_for_another_vocabulary_is_not_exported(place):
    from serve_app.models.adapters.model_export import _make_encoder

    with pytest.raises(PackageError, match="types of 3 classes, the vocabulary has 2"):
        _make_encoder(["1", "2"], [["int", 3]])
