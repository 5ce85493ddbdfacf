"""Training: an honest package from a log, the same again, and what stops one."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from serve_app.errors import GuardError, InvalidDataError
from serve_app.events.adapters.log_files import EventLog
from serve_app.events.adapters.spill import EventSpill
from serve_app.events.service.synthetic import GeneratedLog
from serve_app.features.core.specs import PURCHASE_NAMES, UNKNOWN_CLASS
from serve_app.models.adapters.model_report import save_plot
from serve_app.models.adapters.package_dir import load_package, save_package
from serve_app.models.catboost.scorer import CatBoostScorer, train_classifier
from serve_app.models.core.manifest import parse_manifest
from serve_app.models.service.model_page import render_model_page
from serve_app.models.service.packaging import prove_model
from serve_app.stats.profile import PROFILE_SCHEMA
from serve_app.training.core.guards import check_calibration
from serve_app.training.service.options import TrainingOptions
from serve_app.training.service.rows import collect_rows
from serve_app.training.service.train import train, train_rows

pytestmark = pytest.mark.unit

REAL = Path(__file__).parents[4] / "shared" / "data" / "rees46" / "events_head.csv"
FAST = {"iterations": 40, "learning_rate": 0.15, "depth": 4, "early_stopping_rounds": 20, "thread_count": 1}


class Log:
    """A log in memory."""

    def __init__(self, table):
        self.table = table

    def batches(self):
        return iter(self.table.to_batches())


@cache
def generated(n_events=60_000, seed=0):
    return pa.Table.from_batches(GeneratedLog(n_events, seed).batches())


def train_log(table, directory, **options):
    with EventSpill() as spill:
        result = train(Log(table), spill, train_classifier, TrainingOptions(params=FAST, **options))
    return dataclasses.replace(result, package=dataclasses.replace(
        result.package, manifest=save_package(directory, result.package)))  # fmt: skip


@cache
def collected():
    with EventSpill() as spill:
        return collect_rows(Log(generated()), spill, max_rows=10**6)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("package") / "p"
    return train_log(generated(), directory), directory


def test_a_model_beats_both_baselines_and_is_not_too_good_to_be_true(trained):
    metrics = trained[0].manifest.metrics
    model, baselines = metrics["overall"], metrics["baselines"]
    assert 0.70 < model["roc_auc"]["value"] < 0.90
    assert model["roc_auc"]["low"] > baselines["best_single_feature"]["roc_auc"]["high"]
    assert model["log_loss"]["value"] < baselines["best_single_feature"]["log_loss"]["value"]
    assert model["log_loss"]["value"] < baselines["base_rate"]["log_loss"]["value"]
    assert model["pr_auc"]["value"] > 2 * baselines["base_rate"]["pr_auc"]["value"]


def test_every_figure_has_an_interval_and_every_slice_is_there(trained):
    metrics = trained[0].manifest.metrics
    for name, cell in metrics["overall"].items():
        if isinstance(cell, dict) and cell["value"] is not None:
            assert cell["low"] <= cell["high"], name
    assert set(metrics["by_event_type"]) == {"view", "cart"}
    assert len(metrics["by_day"]) > 5
    assert metrics["purchase_given_cart"]["roc_auc"]["value"] is not None
    assert len(metrics["single_features"]) == len(PURCHASE_NAMES)


def test_the_package_is_whole_and_proves_itself(trained):
    result, directory = trained
    package = load_package(directory, CatBoostScorer.load)
    prove_model(package)
    assert parse_manifest(result.manifest.dump()) == result.manifest
    assert package.reference.schema.equals(PROFILE_SCHEMA)
    assert set(package.reference.column("feature").to_pylist()) == {*PURCHASE_NAMES, "score"}
    assert all(classes[-1] == UNKNOWN_CLASS for classes in package.vocabularies.values())
    assert "unknown" in package.vocabularies["brand"]
    assert "other" in package.vocabularies["category_code"]


def test_the_profile_adds_up(trained):
    table = load_package(trained[1], CatBoostScorer.load).reference
    shares = table.group_by("feature").aggregate([("share", "sum")])
    np.testing.assert_allclose(shares.column("share_sum").to_numpy(), 1.0)


def test_the_page_and_the_plot_show_the_measurement(trained, tmp_path):
    manifest = trained[0].manifest
    page = render_model_page(manifest, plot="model.png")
    assert f"{manifest.metrics['overall']['roc_auc']['value']:.4f}" in page
    assert "best F1" in page
    save_plot(manifest.metrics, tmp_path / "model.png")
    assert (tmp_path / "model.png").read_bytes().startswith(b"\x89PNG")
    assert "no measurement" in render_model_page(dataclasses.replace(manifest, metrics={}))


def test_equal_data_and_seed_give_an_equal_digest(trained, tmp_path):
    again = train_log(generated(), tmp_path / "p")
    assert again.manifest.digest == trained[0].manifest.digest


def test_the_order_of_lines_does_not_matter_to_the_model(trained, tmp_path):
    order = np.argsort(generated().column("user_id").to_numpy(), kind="stable")
    shuffled = train_log(generated().take(pa.array(order)), tmp_path / "p")
    # Lines of one second keep their order within a session, so features and target are the same rows.
    assert shuffled.manifest.training["slices"] == trained[0].manifest.training["slices"]


def test_a_log_with_more_rows_than_allowed_is_cut_by_user(tmp_path):
    result = train_log(generated(), tmp_path / "p", max_rows=30_000)
    assert result.manifest.training["user_share"] == 0.5
    assert sum(part["n_rows"] for part in result.manifest.training["slices"].values()) < 37_500


def with_totals_of_the_whole_log(rows):
    """Aggregate the old way: a user's purchases over the whole log, the scored one included."""
    events = generated()
    bought = events.filter(pc.equal(events.column("event_type"), "purchase"))
    bought = bought.group_by(["user_id"]).aggregate([("user_session", "count_distinct")])
    n_by_user = dict(
        zip(*(bought.column(name).to_pylist() for name in ("user_id", "user_session_count_distinct")), strict=True)
    )
    visits = events.group_by(["user_id"]).aggregate([("user_session", "count_distinct")])
    sessions = dict(
        zip(*(visits.column(name).to_pylist() for name in ("user_id", "user_session_count_distinct")), strict=True)
    )
    users = rows.table.column("user_id").to_pylist()
    purchases = np.array([n_by_user.get(user, 0) for user in users], dtype=np.float32)
    leaky = {
        "total_purchases": purchases,
        "conversion_rate": purchases / np.array([sessions[user] for user in users], dtype=np.float32),
    }
    table = rows.table
    for name, values in leaky.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    return dataclasses.replace(rows, table=table)


def test_totals_that_include_the_scored_purchase_are_refused_by_name():
    leaky = with_totals_of_the_whole_log(collected())
    with pytest.raises(GuardError) as caught:
        train_rows(leaky, train_classifier, TrainingOptions(params=FAST))
    assert {error.pointer for error in caught.value.errors} == {"/leak:total_purchases", "/leak:conversion_rate"}
    assert "--allow leak:total_purchases" in str(caught.value)


def test_an_overridden_guard_is_written_into_the_manifest():
    leaky = with_totals_of_the_whole_log(collected())
    allow = ("leak:total_purchases", "leak:conversion_rate", "calibration")
    result = train_rows(leaky, train_classifier, TrainingOptions(params=FAST, allow=allow))
    guards = {finding["guard"] for finding in result.manifest.training["overridden_guards"]}
    assert guards >= {"leak:total_purchases", "leak:conversion_rate"}
    assert "overridden" in render_model_page(result.manifest)


def test_a_badly_calibrated_model_is_refused():
    class Doubled:
        def __init__(self, model):
            self.model = model
            self.digest = model.digest

        def predict(self, matrix):
            return np.minimum(3 * self.model.predict(matrix), 1.0)

    def fit(*args, **params):
        return Doubled(train_classifier(*args, **params))

    with pytest.raises(GuardError, match="allow calibration"):
        train_rows(collected(), fit, TrainingOptions(params=FAST))


def test_calibration_is_judged_against_the_base_rate():
    assert check_calibration(0.02, 0.2) is None
    assert check_calibration(0.02, 0.02) is not None
    assert check_calibration(float("nan"), 0.02) is None


def only(table, mask):
    return table.filter(pa.array(mask))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: only(t, np.array(t.column("event_type").to_pylist()) != "purchase"),
        lambda t: only(t, np.array(t.column("event_type").to_pylist()) == "purchase"),
        lambda t: only(t, t.column("user_id").to_numpy() == t.column("user_id")[0].as_py()),
        lambda t: t.slice(0, 10),
    ],
    ids=["no purchases", "only purchases", "one user", "ten rows"],
)
def test_a_log_nothing_can_be_learned_from_is_refused(change, tmp_path):
    with pytest.raises(InvalidDataError, match=r"slice|no rows to train on"):
        train_log(change(generated(20_000)), tmp_path / "p")


def test_the_real_head_of_the_log_trains_and_is_called_too_small():
    if not REAL.exists():
        pytest.skip("the real events are not beside this checkout")
    with EventSpill() as spill:
        result = train(EventLog(REAL), spill, train_classifier, TrainingOptions(params=FAST))
    metrics = result.manifest.metrics
    assert metrics["enough_data"] is False
    assert "too little data" in render_model_page(result.manifest)
    assert metrics["overall"]["roc_auc"]["high"] - metrics["overall"]["roc_auc"]["low"] > 0.1
    assert result.manifest.training["dropped"] == {"price not above 0": 19}
