"""A backtest: the scores of a log as of every row, and how good they were by what happened next."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from batch.backfill import FEATURES, KEPT, write_features
from batch.evaluate import OTHERS, assess, find_outcomes, find_scores, read_log, read_scores
from batch.transforms.metrics_table import METRICS, lay_out
from batch.transforms.outcomes import join_scores
from serve_app.errors import ConflictError, InvalidDataError
from serve_app.events.adapters.log_files import EventLog
from serve_app.events.adapters.log_writer import LogWriter
from serve_app.events.adapters.spill import EventSpill
from serve_app.events.service.synthetic import generate_events
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.jobs.adapters.output_folder import SUMMARY, OutputFolder
from serve_app.training.service.assessment import measure, round_metrics
from serve_app.training.service.rows import collect_rows
from tests.testing_kit.batch.batch_jobs import LocalJob

pytestmark = pytest.mark.unit

THRESHOLDS = (0.5, 0.7)


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> EventLog:
    path = tmp_path_factory.mktemp("events") / "events.parquet"
    with LogWriter(path) as writer:
        for batch in generate_events(6_000, seed=3):
            writer.write(batch)
    return EventLog(path)


@pytest.fixture(scope="module")
def scores(log, package, tmp_path_factory) -> OutputFolder:
    root = tmp_path_factory.mktemp("backfill")
    write_features(log, root / FEATURES)
    job = LocalJob(package, root / FEATURES, root / "scores", keep=KEPT)
    job.output.write_json(SUMMARY, job.run())
    return job.output


def test_metrics_are_those_of_training_on_the_same_rows(log, scores, package):
    """The training path computes features, targets and closed sessions by itself; both must agree to the last bit."""
    outcomes = find_outcomes(read_scores(scores), read_log(log))
    with EventSpill() as spill:
        rows = collect_rows(log, spill, max_rows=10**6)
    features = rows.table.select(list(package.manifest.feature_names)).combine_chunks().to_batches()[0]
    order = np.argsort(rows.table.column("position").to_numpy())
    assert np.array_equal(outcomes.rows.target, rows.target[order])
    assert np.array_equal(outcomes.rows.probability, package.model.predict(package_matrix(package, features))[order])
    assert outcomes.counts == {
        "scores": rows.table.num_rows + rows.n_open, "not_in_log": 0, "in_open_sessions": rows.n_open,
    }  # fmt: skip
    report = assess(outcomes, THRESHOLDS, np.random.default_rng(0), top=3, n_rounds=5)
    expected = measure(outcomes.rows, outcomes.rows.probability, THRESHOLDS, np.random.default_rng(0), 5)
    assert report["overall"] == round_metrics(expected)
    assert report["overall"]["roc_auc"]["low"] < report["overall"]["roc_auc"]["high"]


def package_matrix(package, features):
    return FeatureEncoder(package.manifest.features, package.vocabularies).encode(features).matrix


def test_every_row_is_in_one_group_of_each_kind(log, scores):
    outcomes = find_outcomes(read_scores(scores), read_log(log))
    report = assess(outcomes, THRESHOLDS, np.random.default_rng(0), top=3, n_rounds=0)
    overall = report["overall"]
    for name in ("day", "version", "brand", "category_code"):
        groups = report[f"by_{name}"]
        assert sum(g["n_rows"] for g in groups.values()) == overall["n_rows"]
        assert sum(g["n_positive"] for g in groups.values()) == overall["n_positive"]
    assert set(report["by_version"]) == {"1"}
    assert len(report["by_brand"]) == 4
    assert list(report["by_brand"])[-1] == OTHERS
    assert overall["roc_auc"]["low"] is None  # no rounds, no interval


def test_a_group_of_one_user_has_no_interval(log, scores):
    outcomes = find_outcomes(read_scores(scores), read_log(log))
    users = outcomes.rows.user
    is_first = pa.array(np.where(users == users[0], "one", "many"))
    grouped = dataclasses.replace(outcomes, groups={"brand": is_first})
    report = assess(grouped, THRESHOLDS, np.random.default_rng(0), top=3, n_rounds=5)
    one, many = report["by_brand"]["one"], report["by_brand"]["many"]
    assert (one["n_users"], one["mean_probability"]["low"], one["mean_probability"]["high"]) == (1, None, None)
    assert many["mean_probability"]["low"] < many["mean_probability"]["high"]
    rows, _ = lay_out(report, None)
    assert next(row for row in rows if row[0] == "brand one")[-1].endswith(" (-)")
    assert "(-)" not in str(next(row for row in rows if row[0] == "brand many"))
    without = assess(grouped, THRESHOLDS, np.random.default_rng(0), top=3, n_rounds=0)
    assert "(-)" not in str(lay_out(without, None)[0])


def test_the_scores_of_a_backtest_are_found_by_its_folder(scores, tmp_path):
    assert find_scores(scores.root).root == scores.root
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scores").symlink_to(scores.root)
    assert find_scores(str(tmp_path / "out")).root == str(tmp_path / "out" / "scores")


def test_the_table_is_as_wide_as_it_needs_or_has_less_in_it_but_never_cut_names():
    name = "electronics.audio.headphone"
    metrics = {key: {"value": 0.5, "low": 0.25, "high": 0.75} for key in METRICS}
    found = {"n_rows": 1_234_567, "n_positive": 12_345, **metrics}
    report = {"counts": {}, "overall": found, "by_category_code": {name: found}}
    wide, nothing = lay_out(report, None)
    assert nothing == []
    assert wide[0] == ["", "rows", "purchases", *(m.replace("_", " ") for m in METRICS)]
    assert wide[1:3] == [["overall", "1,234,567", "12,345", *["0.5000 (0.2500-0.7500)"] * 6], [""] * 9]
    rows, left_out = lay_out(report, 80)
    assert left_out == ["intervals", "mean probability", "base rate", "ece", "log loss"]
    assert rows[-1] == [f"category {name}", "1,234,567", "12,345", *["0.5000"] * 2]
    narrow, _ = lay_out(report, 20)
    assert [len(row) for row in narrow] == [5] * 4


def test_scores_without_a_position_are_joined_by_what_identifies_them(log, scores):
    found, rows = read_scores(scores), read_log(log)
    twice = pa.concat_tables([rows, rows.slice(0, 5)])  # identical events are events of their own
    again = pa.concat_tables([found.drop_columns(["position"])] * 2)
    by_position, by_identity = join_scores(found, rows), join_scores(again, twice)
    assert by_position.scores.tolist() == list(range(found.num_rows))
    for name in ("user_id", "user_session", "product_id"):
        asked = pc.cast(again.column(name).take(pa.array(by_identity.scores)), pa.string())
        there = pc.cast(twice.column(name).take(pa.array(by_identity.rows)), pa.string())
        assert asked.equals(there)
    assert len(set(by_identity.rows.tolist())) == len(by_identity.rows) == twice.num_rows


def test_scores_of_another_log_are_not_judged(log, scores, tmp_path):
    path = tmp_path / "other.parquet"
    with LogWriter(path) as writer:
        for batch in generate_events(6_000, seed=4):
            writer.write(batch)
    with pytest.raises(InvalidDataError, match="another log"):
        find_outcomes(read_scores(scores), read_log(EventLog(path)))
    with pytest.raises(InvalidDataError, match="no column user_session"):
        join_scores(read_scores(scores).drop_columns(["position", "user_session"]), read_log(log))


def test_features_are_made_once_and_never_of_two_logs(log, tmp_path):
    folder = tmp_path / FEATURES
    write_features(log, folder)
    (part,) = folder.glob("*.parquet")
    before = part.stat().st_mtime_ns
    write_features(log, folder)
    assert part.stat().st_mtime_ns == before
    (folder / "_features.json").unlink()
    (folder / "part-000009.parquet").touch()  # a run that was killed before it had written all
    write_features(log, folder)
    assert [pq.read_metadata(p).num_rows for p in folder.glob("*.parquet")] == [pq.read_metadata(part).num_rows]
    log.path.touch()
    with pytest.raises(ConflictError, match="another log, or it has changed"):
        write_features(log, folder)
