"""A package proves what it says before it may serve."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pyarrow as pa
import pytest

from serve_app.errors import GoldenMismatchError, InvalidDataError
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.specs import PURCHASE_FEATURES, UNKNOWN_CLASS, FeatureSpec
from serve_app.models.adapters.package_dir import load_package, load_parts
from serve_app.models.catboost.scorer import CatBoostScorer
from serve_app.models.core.manifest import Manifest
from serve_app.models.service.packaging import (
    GOLDEN_TOLERANCE,
    MIN_GOLDEN_ROWS,
    build_package,
    golden_inputs,
    golden_matrix,
    make_golden,
    prove_encoder,
    prove_model,
)
from serve_app.models.service.ports import PackageParts
from tests.testing_kit import VOCABULARIES, make_package, random_rows

pytestmark = pytest.mark.unit

ENCODER = FeatureEncoder(PURCHASE_FEATURES, VOCABULARIES)


def test_a_package_proves_its_golden_rows(package):
    assert package.golden.num_rows >= MIN_GOLDEN_ROWS
    prove_encoder(package, ENCODER)
    prove_model(package)


def test_a_package_proves_its_golden_rows_after_it_was_read_from_disk(package_dir):
    parts = load_parts(package_dir)
    prove_encoder(parts, FeatureEncoder(parts.manifest.features, parts.vocabularies))
    loaded = load_package(package_dir, partial(CatBoostScorer.load, thread_count=2))
    prove_model(loaded)
    assert loaded.golden.num_rows >= 64


def test_golden_probabilities_are_those_of_the_classifier_to_the_last_bit(package):
    expected = package.model.classifier.predict_proba(golden_matrix(package))[:, 1]
    assert package.golden.column("probability").to_numpy().tobytes() == np.ascontiguousarray(expected).tobytes()
    assert package.manifest.model_digest == package.model.digest


def test_equal_training_gives_equal_digests_and_other_training_others(tmp_path, package):
    assert make_package(tmp_path / "same").digest == package.manifest.digest
    assert make_package(tmp_path / "other", seed=1).digest != package.manifest.digest


@pytest.mark.parametrize("name", ["brand", "category_code"])
def test_an_encoder_with_another_vocabulary_may_not_serve(package, name):
    other = {**VOCABULARIES, name: list(reversed(VOCABULARIES[name]))}
    with pytest.raises(GoldenMismatchError, match=rf"golden row \d+ encodes {name} to"):
        prove_encoder(package, FeatureEncoder(PURCHASE_FEATURES, other))


def test_an_encoder_with_another_default_may_not_serve(package):
    features = [dataclasses.replace(f, fill=2.0) if f.name == "total_sessions" else f for f in PURCHASE_FEATURES]
    with pytest.raises(GoldenMismatchError, match=r"encodes total_sessions to .*2\.0.*, the package says .*1\.0"):
        prove_encoder(package, FeatureEncoder(features, VOCABULARIES))


def test_an_encoder_that_rejects_a_golden_row_may_not_serve(package):
    features = [dataclasses.replace(f, maximum=5) if f.name == "hour" else f for f in PURCHASE_FEATURES]
    with pytest.raises(GoldenMismatchError, match=r"rejects golden row \d+: hour must be .* from 0 to 5"):
        prove_encoder(package, FeatureEncoder(features, VOCABULARIES))


@pytest.mark.parametrize("shift", [2 * GOLDEN_TOLERANCE, 0.1, np.nan])
def test_a_model_that_differs_from_its_golden_probabilities_may_not_serve(package, shift):
    probabilities = package.golden.column("probability").to_numpy().copy()
    probabilities[-1] += shift
    at = package.golden.column_names.index("probability")
    golden = package.golden.set_column(at, "probability", pa.array(probabilities))
    with pytest.raises(GoldenMismatchError, match="differs from its golden scores"):
        prove_model(dataclasses.replace(package, golden=golden))


def test_a_mismatch_names_the_cell_that_differs_not_one_that_is_nan_in_both():
    features = (
        FeatureSpec("gap", "numeric", "s", on_null="nan"),
        FeatureSpec("c", "categorical", "name", on_null="fill", fill="a"),
    )
    rows = pa.record_batch([pa.nulls(64, pa.float64()), pa.array(["a", "b"] * 32)], ["gap", "c"])

    class Constant:
        digest = ""

        def predict(self, matrix, strings=None):
            return np.full(len(matrix), 0.5)

    encoder = FeatureEncoder(features, {"c": ["a", "b", UNKNOWN_CLASS]})
    golden = make_golden(encoder, Constant(), rows)
    manifest = Manifest("m", "2026-01-01T00:00:00Z", "binary", features)
    parts = PackageParts(manifest, {}, golden, pa.table({}))
    prove_encoder(parts, encoder)
    with pytest.raises(GoldenMismatchError, match=r"golden row 1 encodes c to .*2\.0.*, the package says .*1\.0"):
        prove_encoder(parts, FeatureEncoder(features, {"c": ["a", UNKNOWN_CLASS, "b"]}))


def test_a_package_needs_enough_golden_rows_and_good_ones(package):
    def build(rows):
        return build_package(
            manifest=package.manifest, model=package.model, vocabularies=VOCABULARIES,
            golden_rows=rows, reference=package.reference,
        )  # fmt: skip

    with pytest.raises(InvalidDataError, match="needs 64 golden rows, got 63"):
        build(random_rows(63))
    rows = random_rows(64)
    bad = rows.set_column(0, "price", pa.array([*[1.0] * 63, -1.0]))
    with pytest.raises(InvalidDataError, match="golden row 63 is not acceptable: price must be"):
        build(bad)


def test_golden_inputs_hold_no_answers(package):
    assert golden_inputs(package).schema.names == list(package.manifest.feature_names)
