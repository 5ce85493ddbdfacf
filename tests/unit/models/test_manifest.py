"""A manifest says the same after it was written and read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from serve_app.errors import PackageError
from serve_app.features.core.specs import PURCHASE_FEATURES, FeatureSpec
from serve_app.models.core.manifest import FORMAT_VERSION, Manifest, parse_manifest
from serve_app.models.core.recommendation import Thresholds

pytestmark = pytest.mark.unit

FULL = Manifest(
    name="purchase",
    created_at="2026-01-01T00:00:00Z",
    task="binary",
    features=PURCHASE_FEATURES,
    thresholds=Thresholds(0.4, 0.9),
    metrics={"roc_auc": 0.75, "note": "später"},
    training={"seed": 7, "n_rows": 100},
    libraries={"catboost": "1.2.10"},
    model_digest="ab" * 32,
    parent_version=3,
    files={"model.cbm": "cd" * 32},
)


def changed(**members) -> bytes:
    return json.dumps({**json.loads(FULL.dump()), **members}).encode()


def without(name: str) -> bytes:
    return json.dumps({k: v for k, v in json.loads(FULL.dump()).items() if k != name}).encode()


def test_a_manifest_survives_being_written_and_read():
    assert parse_manifest(FULL.dump()) == FULL


def test_the_smallest_manifest_survives_too():
    small = Manifest("m", "2026-01-01T00:00:00Z", "regression", (FeatureSpec("x", "numeric", "kg"),))
    assert parse_manifest(small.dump()) == small


def test_classes_are_written_only_when_there_are_some_so_older_manifests_keep_their_checksum():
    assert b"classes" not in FULL.dump()
    assert FULL.class_labels == ("0", "1")
    named = dataclasses.replace(FULL, task="multiclass", classes=("a", "ü", "c"))
    assert parse_manifest(named.dump()) == named
    assert named.class_labels == ("a", "ü", "c")
    assert dataclasses.replace(FULL, task="regression").class_labels == ()


def test_a_manifest_written_before_classes_existed_is_read():
    data = (Path(__file__).parents[1] / "data" / "manifest-v1.json").read_bytes()
    assert parse_manifest(data).classes == ()
    assert parse_manifest(data).is_purchase


def test_writing_is_stable():
    assert parse_manifest(FULL.dump()).dump() == FULL.dump()


def test_a_manifest_is_json_without_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        dataclasses.replace(FULL, metrics={"roc_auc": float("nan")}).dump()


@pytest.mark.parametrize(
    "other",
    [
        {"created_at": "2027-01-01T00:00:00Z"},
        {"parent_version": None},
        {"files": {"model.cbm": "00"}},
        {"libraries": {"catboost": "9"}},
    ],
)
def test_the_digest_ignores_times_ids_and_file_hashes(other):
    assert dataclasses.replace(FULL, **other).digest == FULL.digest


@pytest.mark.parametrize(
    "other",
    [
        {"name": "other"},
        {"thresholds": Thresholds()},
        {"features": PURCHASE_FEATURES[:-1]},
        {"metrics": {}},
        {"training": {"seed": 8, "n_rows": 100}},
        {"model_digest": "ef" * 32},
        {"task": "multiclass"},
        {"classes": ("a", "b")},
    ],
)
def test_the_digest_sees_everything_else(other):
    assert dataclasses.replace(FULL, **other).digest != FULL.digest


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 0, "1", None])
def test_another_format_is_refused_and_says_what_to_do(version):
    with pytest.raises(PackageError, match="upgrade scorecat"):
        parse_manifest(changed(format_version=version))


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"7", b'"x"', b"\xff\xfe", b"{}", FULL.dump()[:-20], b"[" * 100_000]
)
def test_bytes_that_are_no_manifest_are_refused(data):
    with pytest.raises(PackageError, match=r"manifest\.json is not a scorecat manifest"):
        parse_manifest(data)


@pytest.mark.parametrize(
    "data",
    [
        without("name"),
        without("features"),
        without("thresholds"),
        changed(surprise=1),
        changed(classes=7),
        changed(classes=None),
        changed(features=None),
        changed(features=[1]),
        changed(features=[{"name": "x"}]),
        changed(features=[{"name": "x", "kind": "numeric", "unit": "", "colour": 1}]),
        changed(thresholds={"medium": 0.5, "low": 1}),
        changed(thresholds={"medium": "a", "high": 1}),
        changed(thresholds={"medium": 0.9, "high": 0.1}),
    ],
)
def test_a_manifest_with_wrong_members_is_refused(data):
    with pytest.raises(PackageError, match=r"manifest\.json"):
        parse_manifest(data)


def test_the_purchase_inputs_are_recognised_by_names_and_order():
    assert FULL.is_purchase
    assert not dataclasses.replace(FULL, features=PURCHASE_FEATURES[::-1]).is_purchase
    assert not dataclasses.replace(FULL, task="regression").is_purchase
    assert FULL.categorical_names == ("brand", "category_code")
