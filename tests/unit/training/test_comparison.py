"""The rule that decides whether a candidate may follow its parent, and the paired intervals it rests on."""

from __future__ import annotations

import numpy as np
import pytest

from serve_app.stats.classification import bootstrap_intervals, paired_intervals, rank_rows
from serve_app.training.core.comparison import MARGINS, Difference, decide_verdict, measure_differences

pytestmark = pytest.mark.unit


def rows_of(n_users=400, per_user=10, seed=0):
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(n_users), per_user)
    logit = np.repeat(rng.normal(-2.5, 1, n_users), per_user) + rng.normal(0, 0.7, len(user))
    probability = 1 / (1 + np.exp(-logit))
    return rng.random(len(user)) < probability, probability, user


def compare(candidate, parent, target, user):
    return measure_differences(
        rank_rows(target, candidate, user), rank_rows(target, parent, user), np.random.default_rng(1)
    )


def test_identical_models_differ_by_nothing_and_are_not_worse():
    target, probability, user = rows_of()
    differences = compare(probability, probability.copy(), target, user)
    assert {one.metric for one in differences} == set(MARGINS)
    assert all((one.difference, one.low, one.high) == (0, 0, 0) for one in differences)
    assert decide_verdict(differences).outcome == "not worse"


def test_intervals_of_models_that_differ_by_noise_alone_cover_zero():
    target, probability, user = rows_of()
    rng = np.random.default_rng(2)
    logit = np.log(probability / (1 - probability))
    first, second = (1 / (1 + np.exp(-logit - rng.normal(0, 0.1, len(logit)))) for _ in range(2))
    for one in compare(first, second, target, user):
        assert one.low <= 0 <= one.high, one.metric


def test_pairing_makes_the_interval_narrower_than_two_models_apart():
    target, probability, user = rows_of()
    better, worse = rank_rows(target, probability, user), rank_rows(target, probability**0.7, user)
    low, high = paired_intervals(better, worse, np.random.default_rng(0))["log_loss"]
    alone = bootstrap_intervals(better, (), np.random.default_rng(0))["log_loss"]
    assert high - low < 0.5 * (alone[1] - alone[0])
    assert high < 0


def test_the_better_model_is_better_and_the_other_way_round_worse():
    target, probability, user = rows_of(2_000)
    noisy = 1 / (
        1 + np.exp(-np.log(probability / (1 - probability)) - np.random.default_rng(3).normal(0, 1, len(user)))
    )
    better = decide_verdict(compare(probability, noisy, target, user))
    assert (better.outcome, better.is_accepted) == ("better", True)
    worse = decide_verdict(compare(noisy, probability, target, user))
    assert (worse.outcome, worse.is_accepted) == ("worse", False)
    assert any("log loss is worse by more than its margin" in reason for reason in worse.reasons)


def difference(metric, parent, worst, measured, best):
    """Write a difference by how much worse the candidate is, whatever direction the metric has."""
    margin = MARGINS[metric]
    low, middle, high = (best, measured, worst) if margin.is_loss else (-worst, -measured, -best)
    allowed = max(margin.absolute, margin.relative * parent)
    return Difference(metric, parent + middle, parent, low, high, allowed, margin.is_loss)


def verdict(**changes):
    base = {"log_loss": 0.1, "brier": 0.03, "roc_auc": 0.85, "pr_auc": 0.2, "ece": 0.004}
    found = [
        difference(name, parent, *changes.get(name, (0.0001, 0.0, -0.0001))) for name, parent in base.items()
    ]  # fmt: skip
    return decide_verdict(found)


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"log_loss": (-0.0001, -0.001, -0.002)}, "better"),
        ({"log_loss": (0.0009, 0.0005, 0.0001)}, "not worse"),
        ({"log_loss": (0.0300, -0.0001, -0.03)}, "not worse"),
        ({"log_loss": (0.0300, 0.0001, -0.03)}, "undecided"),
        ({"log_loss": (0.0020, 0.0009, 0.0005)}, "undecided"),
        ({"log_loss": (0.0040, 0.0030, 0.0011)}, "worse"),
        ({"roc_auc": (0.02, 0.01, 0.006)}, "worse"),
        ({"roc_auc": (0.02, 0.01, 0.004)}, "not worse"),
        ({"pr_auc": (0.03, 0.02, 0.0041)}, "worse"),
        ({"log_loss": (-0.0001, -0.001, -0.002), "ece": (0.01, 0.005, 0.0026)}, "worse"),
        ({"log_loss": (-0.0001, -0.001, -0.002), "ece": (0.01, 0.005, 0.0020)}, "better"),
        ({"brier": (0.001, 0.0005, 0.00031)}, "worse"),
    ],
)
def test_the_rule_is_the_one_that_is_written_down(changes, outcome):
    found = verdict(**changes)
    assert found.outcome == outcome
    assert found.is_accepted == (outcome in {"better", "not worse"})
    assert found.reasons


def test_metrics_that_are_not_defined_leave_it_undecided():
    target, probability, user = rows_of(20)
    differences = compare(probability, probability, np.zeros_like(target), user)
    assert decide_verdict(differences).outcome in {"not worse", "undecided"}
    assert np.isnan(next(one for one in differences if one.metric == "roc_auc").candidate)
