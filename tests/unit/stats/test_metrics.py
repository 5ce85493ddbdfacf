"""Metrics agree with scikit-learn, and intervals respect users."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as oracle

from serve_app.stats.classification import (
    best_f1_threshold,
    bootstrap_intervals,
    compute_metrics,
    precision_recall_points,
    rank_rows,
    reliability_table,
)

pytestmark = pytest.mark.unit


@pytest.fixture(params=[0, 1, 2], ids=["plain", "ties", "weights"])
def case(request):
    rng = np.random.default_rng(request.param)
    p = rng.beta(0.5, 5, 3000)
    if request.param == 1:
        p = np.round(p, 1)
    y = rng.random(3000) < p
    weight = rng.poisson(1.0, 3000).astype(float) if request.param == 2 else np.ones(3000)
    return y, p, weight


def test_metrics_equal_scikit_learn(case):
    y, p, weight = case
    rows = rank_rows(y, p)
    order = np.argsort(-p, kind="stable")
    found = compute_metrics(rows, (0.3,), weight[order])
    w = {"sample_weight": weight}
    clipped = np.clip(p, 1e-15, 1 - 1e-15)
    assert found["roc_auc"] == pytest.approx(oracle.roc_auc_score(y, p, **w), abs=1e-12)
    assert found["pr_auc"] == pytest.approx(oracle.average_precision_score(y, p, **w), abs=1e-12)
    assert found["log_loss"] == pytest.approx(oracle.log_loss(y, clipped, **w), abs=1e-12)
    assert found["brier"] == pytest.approx(oracle.brier_score_loss(y, p, **w), abs=1e-12)
    precision, recall, f1, _ = oracle.precision_recall_fscore_support(y, p >= 0.3, average="binary", **w)
    assert found["precision@0.3"] == pytest.approx(precision)
    assert found["recall@0.3"] == pytest.approx(recall)
    assert found["f1@0.3"] == pytest.approx(f1)


def test_one_class_has_no_ranking():
    found = compute_metrics(rank_rows(np.zeros(5), np.linspace(0.1, 0.5, 5)), (0.9,))
    assert math.isnan(found["roc_auc"])
    assert math.isnan(found["pr_auc"])
    assert math.isnan(found["precision@0.9"])
    assert found["base_rate"] == 0.0


def test_calibration_error_is_small_for_true_probabilities_and_large_for_inflated_ones():
    rng = np.random.default_rng(0)
    p = rng.beta(1, 20, 50_000)
    y = rng.random(len(p)) < p
    assert compute_metrics(rank_rows(y, p), ())["ece"] < 0.003
    assert compute_metrics(rank_rows(y, 3 * p), ())["ece"] > 0.08


def test_reliability_table_holds_every_row_once():
    rng = np.random.default_rng(0)
    p = np.round(rng.random(1000), 1)
    y = rng.random(1000) < p
    table = reliability_table(rank_rows(y, p))
    assert sum(r["n"] for r in table) == 1000
    assert sum(r["n_positive"] for r in table) == y.sum()
    assert [r["mean_probability"] for r in table] == sorted(r["mean_probability"] for r in table)


def test_intervals_are_wider_when_rows_come_in_users():
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(100), 20)
    p = np.repeat(rng.random(100), 20)
    y = np.repeat(rng.random(100) < 0.3, 20)
    width = {}
    for name, cluster in (("rows", None), ("users", user)):
        low, high = bootstrap_intervals(rank_rows(y, p, cluster), (), np.random.default_rng(1))["base_rate"]
        width[name] = high - low
    assert width["users"] > 3 * width["rows"]


def test_equal_seeds_give_equal_intervals():
    rng = np.random.default_rng(0)
    rows = rank_rows(rng.random(200) < 0.2, rng.random(200))
    first, second = (bootstrap_intervals(rows, (0.5,), np.random.default_rng(3), n_rounds=20) for _ in range(2))
    assert first == second


def test_best_threshold_has_the_highest_f1():
    rng = np.random.default_rng(0)
    p = rng.random(500)
    y = rng.random(500) < p**2
    best = best_f1_threshold(rank_rows(y, p))
    scores = [oracle.f1_score(y, p >= t) for t in p]
    assert oracle.f1_score(y, p >= best) == pytest.approx(max(scores))


def test_precision_recall_points_end_at_full_recall():
    rng = np.random.default_rng(0)
    p = rng.random(500)
    points = precision_recall_points(rank_rows(rng.random(500) < p, p))
    assert points[-1][0] == 1.0
    assert len(points) <= 100
