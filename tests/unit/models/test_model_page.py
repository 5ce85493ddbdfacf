"""`models show` and `models list`: lineage, features, importance; plain values in, text out."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest
from catboost import CatBoostClassifier

from serve_app.cli import main
from serve_app.errors import PackageError
from serve_app.features.core.specs import PURCHASE_FEATURES, PURCHASE_NAMES, FeatureSpec
from serve_app.models.adapters.package_dir import MODEL
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.models.catboost.importance import load_facts
from serve_app.models.core.manifest import Manifest
from serve_app.models.service.model_page import render_model_page
from serve_app.models.service.model_sections import GlobalFigures, bar, describe_null

pytestmark = pytest.mark.unit

FACTS = GlobalFigures(12, (("price", 60.0), ("hour", 39.99), ("brand", 0.01)), (("price", "brand", 7.5),))


def test_importance_is_the_models_own_and_adds_up(package_dir):
    facts = load_facts(package_dir / MODEL, PURCHASE_NAMES)
    assert {name for name, _ in facts.importance} == set(PURCHASE_NAMES)
    assert sum(value for _, value in facts.importance) == pytest.approx(100)
    values = [value for _, value in facts.importance]
    assert values == sorted(values, reverse=True)
    assert {"price", "hour", "brand"} == {name for name, _ in facts.importance[:3]}  # what its target is made of
    strengths = [strength for *_, strength in facts.interactions]
    assert strengths == sorted(strengths, reverse=True)
    assert len(strengths) == 10
    assert facts.n_trees > 1
    assert facts.missing == ()


def test_a_scaled_model_has_importance_and_says_why_it_has_no_interactions(tmp_path):
    matrix = np.random.default_rng(0).random((200, 2))
    model = CatBoostClassifier(iterations=5, allow_writing_files=False, verbose=False)
    model.fit(matrix, matrix[:, 0] > matrix[:, 1])
    model.set_scale_and_bias(2.0, [0.0])
    model.save_model(str(tmp_path / "m.cbm"))
    facts = load_facts(tmp_path / "m.cbm", ("a", "b"))
    assert len(facts.importance) == 2
    assert facts.interactions == ()
    assert facts.missing[0].startswith("interactions: ")


def test_a_file_that_is_no_model_or_has_other_features_is_refused(package_dir, tmp_path):
    (tmp_path / "m.cbm").write_bytes(b"nonsense")
    with pytest.raises(PackageError, match="not a readable"):
        load_facts(tmp_path / "m.cbm", PURCHASE_NAMES)
    with pytest.raises(PackageError, match="has 22 features"):
        load_facts(package_dir / MODEL, PURCHASE_NAMES[:3])


def test_bars_are_as_long_as_their_share_and_never_empty_above_zero():
    assert bar(1.0, 4) == "████"
    assert bar(0.5, 4) == "██"
    assert bar(5 / 32, 4) == "▋"
    assert bar(0.0, 4) == ""
    assert bar(1e-9, 4) == "▏"


def test_the_page_of_a_model_without_measurements_says_what_it_is(package):
    page = render_model_page(package.manifest, FACTS)
    assert "no measurement made here" in page
    assert "| price | 60.0 | ████████████████████████ |" in page
    assert "| price x brand | 7.5 |" in page
    assert "| brand | categorical | name | becomes unknown | string |" in page
    assert "| hour | numeric | hour of day, UTC | is refused | whole number from 0 to 23 |" in page
    assert "high above 0.7, medium from 0.5" in page
    assert "| trees | 12 |" in page
    assert "| parent | none |" in page


def test_lineage_names_parent_and_import(package):
    manifest = dataclasses.replace(
        package.manifest,
        parent_version=4,
        training={"imported_from": {"file": "deployed_model.pkl", "kind": "pickle", "sha256": "ab" * 32}},
        libraries={"catboost": "1.2"},
    )
    page = render_model_page(manifest)
    assert "| parent | version 4 |" in page
    assert "| imported from | deployed_model.pkl |" in page
    assert "imported 2026" in page
    assert "catboost 1.2" in page


def test_every_null_rule_has_words():
    assert {describe_null(spec) for spec in PURCHASE_FEATURES} == {
        "is refused", "becomes 1", "becomes 0", "becomes price", "becomes unknown", "becomes other",
    }  # fmt: skip
    assert describe_null(FeatureSpec("x", "numeric", "1", on_null="nan")) == "stays missing"


@pytest.fixture
def command(package_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SCORECAT_HOME", str(tmp_path))
    registry = DirectoryRegistry(tmp_path / "registry")
    registry.move_alias("purchase", "champion", registry.publish("purchase", package_dir))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["scorecat", "models", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code
        return capsys.readouterr().out

    return run


def test_show_prints_the_page_and_the_same_numbers_as_json(command):
    printed = command("show", "purchase")
    assert "Importance" in printed
    assert "█" in printed
    assert set(PURCHASE_NAMES) <= set(printed.replace("|", " ").split())  # none cut where no terminal is
    value = json.loads(command("show", "purchase", "--json"))
    top, share = next(iter(value["importance"].items()))
    assert f"{share:.1f}" in printed
    assert top in printed
    assert value["n_trees"] > 1
    assert len(value["interactions"]) == 10
    assert value["manifest"]["name"] == "purchase"


def test_list_fits_eighty_columns_and_names_version_and_alias(command):
    printed = command("list")
    assert "purchase@1" in printed
    assert "champion" in printed
    assert max(map(len, printed.splitlines())) <= 80
    listed = json.loads(command("list", "--json"))["models"]["purchase"]
    assert listed["versions"][0]["version"] == 1
    assert listed["aliases"] == {"champion": 1}


def test_what_the_author_said_is_shown_as_not_measured_here():
    manifest = Manifest(
        "credit", "2026-01-01T00:00:00Z", "binary", (FeatureSpec("age", "numeric", ""),),
        metrics={"reported_by_author": {"roc_auc": 0.991, "folds": [0.99, 0.992]}},
        training={"author_says": {"metadata": {"author": "anna|b", "metrics": {"test": {"f1": 0.7}}, "gone": None}}},
    )  # fmt: skip
    page = render_model_page(manifest)
    section = page.partition("## Said by its author (not measured here)")[2].partition("##")[0]
    assert "| roc_auc | 0.991 |" in section
    assert "| folds | 0.99, 0.992 |" in section
    assert "| metrics.test.f1 | 0.7 |" in section
    assert "anna\\|b" in section
    assert "gone" not in section
    assert "carries no measurement made here" in page
    silent = dataclasses.replace(manifest, metrics={}, training={})
    assert "Said by its author" not in render_model_page(silent)
