"""Retraining: what a parent gives, what it refuses, and what becomes of a worse candidate."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import joblib
import numpy as np
import pyarrow as pa
import pytest

from serve_app.cli import main
from serve_app.errors import BadRequestError, InvalidDataError
from serve_app.events.adapters.log_writer import LogWriter
from serve_app.events.adapters.spill import EventSpill
from serve_app.events.service.synthetic import GeneratedLog
from serve_app.features.core.specs import PURCHASE_FEATURES
from serve_app.models.adapters.package_dir import MODEL, load_package, save_package
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.models.catboost.importance import load_facts
from serve_app.models.catboost.scorer import CatBoostScorer, train_classifier
from serve_app.models.core.recommendation import Thresholds
from serve_app.models.service.model_page import render_model_page
from serve_app.stats.classification import compute_metrics, rank_rows
from serve_app.stats.profile import PROFILE_SCHEMA
from serve_app.training.core.bands import BandRule, Capacity, Worth
from serve_app.training.core.target import TEST
from serve_app.training.service.options import DEFAULT_PARAMS, TrainingOptions
from serve_app.training.service.retraining import (
    Parent,
    check_parent,
    compare_with_parent,
    inherit_rule,
    overlap_notes,
    report_drift,
    score_by_parent,
)
from serve_app.training.service.rows import collect_rows, encode_rows
from serve_app.training.service.train import slice_rows, train_rows
from tests.testing_kit.deployments.deployed import train_deployed

pytestmark = pytest.mark.unit

FAST = {"iterations": 40, "learning_rate": 0.15, "depth": 4, "early_stopping_rounds": 20, "thread_count": 1}


class Log:
    def __init__(self, table):
        self.table = table

    def batches(self):
        return iter(self.table.to_batches())


@pytest.fixture(scope="module")
def events():
    return pa.Table.from_batches(GeneratedLog(60_000, 0).batches())


def collect(table):
    with EventSpill() as spill:
        return collect_rows(Log(table), spill, max_rows=10**6)


@pytest.fixture(scope="module")
def rows(events):
    return collect(events)


@pytest.fixture(scope="module")
def parent(events, tmp_path_factory):
    """A model of the first half of the log."""
    directory = tmp_path_factory.mktemp("parent") / "p"
    times = events.column("event_time").to_numpy()
    early = events.filter(pa.array(times < (times.min() + times.max()) / 2))
    options = TrainingOptions(params=FAST, bands=BandRule(Thresholds(0.1, 0.3)))
    save_package(directory, train_rows(collect(early), train_classifier, options).package)
    return Parent(1, load_package(directory, CatBoostScorer.load), directory / MODEL)


def retrain(rows, directory, parent, **options):
    params = {**FAST, **options.pop("params", {})}
    result = train_rows(rows, train_classifier, TrainingOptions(params=params, **options), parent=parent)
    save_package(directory, result.package)
    return result


@pytest.fixture(scope="module")
def fresh(rows, parent, tmp_path_factory):
    directory = tmp_path_factory.mktemp("fresh") / "p"
    return retrain(rows, directory, parent), directory


@pytest.fixture(scope="module")
def continued(rows, parent, tmp_path_factory):
    directory = tmp_path_factory.mktemp("continued") / "p"
    return retrain(rows, directory, dataclasses.replace(parent, is_continued=True)), directory


@pytest.fixture(scope="module")
def later_slice(rows, fresh):
    """The later rows under the candidate from scratch."""
    package = load_package(fresh[1], CatBoostScorer.load)
    return slice_rows(rows, encode_rows(rows, package.vocabularies), package.model, TEST)


def test_a_candidate_from_scratch_has_vocabularies_of_its_own_and_names_its_parent(fresh, parent):
    result, directory = fresh
    assert result.manifest.parent_version == 1
    assert result.manifest.metrics["comparison"]["way"] == "from scratch"
    vocabularies = load_package(directory, CatBoostScorer.load).vocabularies
    assert len(vocabularies["brand"]) > len(parent.package.vocabularies["brand"])


def test_continuing_adds_trees_on_top_of_the_parents_and_keeps_its_categories(continued, parent):
    result, directory = continued
    package = load_package(directory, CatBoostScorer.load)
    n_parent = load_facts(parent.model_file, parent.manifest.feature_names).n_trees
    assert load_facts(directory / MODEL, parent.manifest.feature_names).n_trees > n_parent
    assert package.vocabularies == parent.package.vocabularies
    assert result.manifest.training["category_codes"] == "the parent's"
    matrix = np.random.default_rng(0).random((200, 22)).astype(np.float32)
    before = parent.package.model.classifier.predict(matrix, prediction_type="RawFormulaVal")
    first = package.model.classifier.predict(matrix, prediction_type="RawFormulaVal", ntree_end=n_parent)
    np.testing.assert_array_equal(first, before)


def test_continuing_again_gives_the_same_digest(continued, rows, parent, tmp_path):
    again = retrain(rows, tmp_path / "p", dataclasses.replace(parent, is_continued=True))
    assert again.manifest.digest == continued[0].manifest.digest


def test_both_are_measured_on_the_same_rows_the_parent_by_its_own_encoder(fresh, rows, parent):
    manifest = fresh[0].manifest
    comparison = manifest.metrics["comparison"]
    at = rows.split.slices == TEST
    scores = score_by_parent(rows, parent)
    expected = compute_metrics(rank_rows(rows.target[at], scores.probability), ())["log_loss"]
    log_loss = comparison["differences"]["log_loss"]
    assert comparison["n_rows"] == at.sum() == manifest.metrics["overall"]["n_rows"]
    assert log_loss["parent"] == pytest.approx(expected, abs=1e-6)
    assert log_loss["candidate"] == manifest.metrics["overall"]["log_loss"]["value"]
    assert log_loss["low"] <= log_loss["difference"] <= log_loss["high"]


def test_a_comparison_on_rows_the_parent_may_have_learned_from_says_so(rows, parent, fresh):
    assert fresh[0].manifest.metrics["comparison"]["notes"] == []
    training = {**parent.manifest.training, "test_from_s": rows.summary.last_s}
    knowing = dataclasses.replace(parent.manifest, training=training)
    assert "100% of these rows" in overlap_notes(rows, knowing)[0]
    unknown = dataclasses.replace(parent.manifest, training={})
    assert "not known" in overlap_notes(rows, unknown)[0]


def with_manifest(parent, manifest):
    return dataclasses.replace(parent.package, manifest=manifest)


def test_drift_is_reported_the_score_first_and_growing_totals_are_seen(fresh):
    drift = fresh[0].manifest.metrics["drift"]
    assert drift["features"][0]["feature"] == "score"
    assert len(drift["features"]) == 23
    verdicts = {one["feature"]: one["verdict"] for one in drift["features"]}
    assert verdicts["total_sessions"] in {"moderate", "large"}
    assert verdicts["price"] in {"none", "too few rows"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: dataclasses.replace(p, reference=PROFILE_SCHEMA.empty_table()), "no reference profile"),
        (
            lambda p: dataclasses.replace(
                p, manifest=dataclasses.replace(p.manifest, training={"reference": "absent"})
            ),
            "imported without training statistics; import it again with --sample FILE",
        ),
    ],
)
def test_a_parent_without_a_real_reference_is_said_to_have_none(fresh, rows, parent, later_slice, change, says):
    bare = dataclasses.replace(parent, package=change(parent.package))
    drift = report_drift(later_slice, bare, score_by_parent(rows, bare))
    assert says in drift["skipped"]
    manifest = fresh[0].manifest
    assert says in render_model_page(dataclasses.replace(manifest, metrics={**manifest.metrics, "drift": drift}))


def test_thresholds_are_set_by_the_parents_rule_again_unless_told(fresh, parent):
    assert fresh[0].manifest.thresholds == Thresholds(0.1, 0.3)
    rule = BandRule(Thresholds(0.05, 0.2), capacity=Capacity(0.02, 0.1))
    manifest = dataclasses.replace(parent.manifest, thresholds=rule.thresholds, training={"bands": rule.to_json()})
    assert inherit_rule(dataclasses.replace(parent, package=with_manifest(parent, manifest))) == rule
    imported = dataclasses.replace(manifest, training={})
    assert inherit_rule(dataclasses.replace(parent, package=with_manifest(parent, imported))) == BandRule(
        rule.thresholds
    )


def test_bands_chosen_on_one_slice_are_measured_on_the_later_one(rows):
    rule = BandRule(capacity=Capacity(0.02, 0.1), worth=Worth(100, 5))
    manifest = train_rows(rows, train_classifier, TrainingOptions(params=FAST, bands=rule)).manifest
    high, medium, low = manifest.metrics["bands"]["rows"]
    assert sum(row["n_rows"] for row in (high, medium, low)) == manifest.metrics["overall"]["n_rows"]
    assert high["share"]["value"] == pytest.approx(0.02, abs=0.008)
    assert medium["share"]["value"] == pytest.approx(0.1, abs=0.03)
    assert high["precision"]["value"] > medium["precision"]["value"] > low["precision"]["value"]
    assert high["expected_value"]["value"] == pytest.approx(100 * high["precision"]["value"] - 5, abs=1e-3)
    page = render_model_page(manifest)
    assert "2.00% (high)" in page
    assert "value of acting" in page


def test_a_capacity_below_one_row_is_refused_before_training(rows):
    def fit(*_args, **_params):
        raise AssertionError("trained for nothing")

    rule = BandRule(capacity=Capacity(1e-6, 0.1))
    with pytest.raises(InvalidDataError, match="less than one of the"):
        train_rows(rows, fit, TrainingOptions(bands=rule))


def with_features(parent, features, **changes):
    manifest = dataclasses.replace(parent.manifest, features=tuple(features), **changes)
    return dataclasses.replace(parent, package=with_manifest(parent, manifest))


def test_a_parent_of_other_inputs_or_another_task_is_refused(parent):
    strange = dataclasses.replace(PURCHASE_FEATURES[0], name="weight")
    with pytest.raises(BadRequestError, match="reads weight"):
        check_parent(with_features(parent, [strange, *PURCHASE_FEATURES[1:]]))
    with pytest.raises(BadRequestError, match="made for regression"):
        check_parent(with_features(parent, PURCHASE_FEATURES, task="regression"))


def test_continuing_needs_the_same_features_in_the_same_order_with_the_same_rules(parent):
    check = [
        ([*PURCHASE_FEATURES[::-1]], "order"),
        (PURCHASE_FEATURES[:-1], "order"),
        ([dataclasses.replace(PURCHASE_FEATURES[0], on_null="nan"), *PURCHASE_FEATURES[1:]], r"price .*on_null"),
    ]
    for features, says in check:
        other = with_features(parent, features)
        check_parent(other)
        with pytest.raises(BadRequestError, match=says):
            check_parent(dataclasses.replace(other, is_continued=True))
    described = [dataclasses.replace(spec, description="in other words") for spec in PURCHASE_FEATURES]
    check_parent(dataclasses.replace(with_features(parent, described), is_continued=True))


def test_a_model_file_that_cannot_be_added_to_is_refused_with_what_to_do(parent, rows, tmp_path):
    matrix = np.random.default_rng(0).random((100, 2)).astype(np.float32)
    target = (matrix[:, 0] > 0.5).astype(np.int8)
    train_classifier((matrix, target), (matrix, target), ("a", "b"), iterations=2).save(tmp_path / "other.cbm")
    other = dataclasses.replace(parent, model_file=tmp_path / "other.cbm", is_continued=True)
    with pytest.raises(BadRequestError, match="leave --continue out"):
        retrain(rows, tmp_path / "p", other)


def test_a_parent_that_accepts_no_row_is_refused(rows, parent):
    cheap = dataclasses.replace(PURCHASE_FEATURES[0], maximum=0.001)
    with pytest.raises(InvalidDataError, match="accepts none of the"):
        score_by_parent(rows, with_features(parent, [cheap, *PURCHASE_FEATURES[1:]]))


def test_rows_the_parent_rejects_are_left_out_and_counted(rows, parent, later_slice):
    cheap = dataclasses.replace(PURCHASE_FEATURES[0], maximum=300.0)
    picky = with_features(parent, [cheap, *PURCHASE_FEATURES[1:]])
    scores = score_by_parent(rows, picky)
    _, comparison = compare_with_parent(rows, later_slice, picky, scores, np.random.default_rng(0))
    assert comparison["n_rejected_by_parent"] > 0
    assert comparison["n_rows"] + comparison["n_rejected_by_parent"] == len(later_slice.target)


@pytest.fixture(scope="module")
def log_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "events.parquet"
    with LogWriter(path) as writer:
        for batch in GeneratedLog(30_000, 0).batches():
            writer.write(batch)
    return path


@pytest.fixture
def shop(log_file, tmp_path, monkeypatch, capsys):
    """The command, with a home of its own and a log."""
    monkeypatch.setenv("SCORECAT_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(
        DEFAULT_PARAMS, "thread_count", 1
    )  # threads that wait for one another are slow on a busy machine

    def run(*options):
        arguments = [str(log_file), "--learning-rate", "0.15", "--depth", "4", *options, "--json"]
        monkeypatch.setattr(sys, "argv", ["scorecat", "train", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        code = stopped.value.code or 0
        printed = capsys.readouterr().out
        return code, json.loads(printed) if printed else {}

    return run, DirectoryRegistry(tmp_path / "home" / "registry")


def test_a_worse_candidate_is_kept_out_unless_told_and_one_that_is_not_becomes_the_challenger(shop):
    run, registry = shop
    code, first = run("--iterations", "40")
    assert (code, first["version"], first["champion"], first["challenger"]) == (0, 1, 1, None)

    code, worse = run("--iterations", "1", "--parent", "champion", "--allow", "calibration")
    assert code == 1
    assert (worse["registered"], worse["version"], worse["challenger"]) == (False, None, None)
    assert worse["metrics"]["comparison"]["outcome"] == "worse"
    assert registry.versions("purchase") == [1]
    assert dict(registry.aliases("purchase").versions) == {"champion": 1}
    assert "**worse**" in Path(worse["page"]).read_text("utf-8")

    code, forced = run("--iterations", "1", "--parent", "1", "--allow", "calibration", "--register", "always")
    assert (code, forced["version"], forced["challenger"], forced["champion"]) == (0, 2, 2, 1)

    code, good = run("--iterations", "40", "--parent", "champion", "--seed", "1", "--continue")
    assert (code, good["version"], good["parent"]) == (0, 3, 1)
    assert good["metrics"]["comparison"]["outcome"] in {"better", "not worse"}
    assert dict(registry.aliases("purchase").versions) == {"champion": 1, "challenger": 3}


def test_beside_an_imported_parent_drift_is_said_to_be_unknown_and_not_measured(shop, tmp_path, monkeypatch, capsys):
    run, _ = shop
    joblib.dump(train_deployed(n_trees=3).document, tmp_path / "deployed_model.pkl")
    monkeypatch.setattr(sys, "argv", ["scorecat", "models", "import", str(tmp_path / "deployed_model.pkl")])
    with pytest.raises(SystemExit):
        main()
    assert "reference profile: absent" in capsys.readouterr().out
    code, trained = run("--iterations", "20", "--parent", "champion")
    assert (code, trained["version"], trained["parent"], trained["challenger"]) == (0, 2, 1, 2)
    assert trained["metrics"]["comparison"]["outcome"] == "better"
    says = "the parent was imported without training statistics; import it again with --sample FILE"
    assert trained["metrics"]["drift"] == {"skipped": says}
    assert f"Not measured: {says}." in Path(trained["page"]).read_text("utf-8")


def test_wrong_use_ends_with_2_before_anything_is_read(shop):
    run, registry = shop
    for options in (
        ("--continue",),
        ("--register", "always"),
        ("--register", "perhaps"),
        ("--parent", "champion"),
        ("--parent", "7"),
        ("--band-capacity", "high=0.1"),
        ("--threshold-medium", "0.9"),
        ("--cost-of-action", "3"),
    ):
        code, _ = run(*options)
        assert code == 2, options
    assert registry.names() == []
