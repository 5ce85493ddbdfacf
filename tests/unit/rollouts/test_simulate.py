"""The simulator draws what it assumes, and the shipped plan keeps its promises."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from serve_app.cli import app
from serve_app.errors import BadRequestError
from serve_app.rollouts.core.plan import DEFAULT_PLAN, Plan
from serve_app.rollouts.service.simulate import (
    BLOCK,
    CANARY,
    LATENCY_MEDIAN_S,
    LATENCY_SIGMA,
    STABLE,
    Assumptions,
    draw_intervals,
    simulate_plan,
    summarise_runs,
)
from serve_app.scoring.core.counters import ArmCounters, find_score_bin
from serve_app.stats.design_effect import measure_dispersion
from serve_app.stats.intervals import median_interval, share_interval

pytestmark = pytest.mark.unit


def draw(assumed, share, n=10 * BLOCK, tick_s=10.0):
    intervals = draw_intervals(assumed, share, tick_s, np.random.default_rng(0))
    drawn = [next(intervals) for _ in range(n)]
    return {version: ArmCounters.merge(i.arms[version] for i in drawn) for version in (STABLE, CANARY)}, n * tick_s


def test_what_is_drawn_is_what_was_assumed():
    assumed = Assumptions(0.02, 0.05, 40.0, latency_ratio=1.5, score_shift=0.7)
    arms, seconds = draw(assumed, 0.25)
    stable, canary = arms[STABLE], arms[CANARY]
    for arm, share, error in ((stable, 0.75, 0.02), (canary, 0.25, 0.05)):
        expected = 40.0 * seconds * share
        assert abs(arm.n_requests - expected) < 4 * math.sqrt(expected)
        assert abs(arm.n_errors - error * expected) < 4 * math.sqrt(error * expected)
        assert sum(arm.score_bins) == arm.n_scores == arm.n_latencies == arm.n_requests - arm.n_errors
        assert sum(arm.group_errors) == arm.n_errors
        assert sum(arm.group_requests) == arm.n_requests == arm.routed["user-hash"]
        assert measure_dispersion(arm.group_requests) == 1.0
        mean = arm.log_latency_sum / arm.n_latencies
        assert math.sqrt(arm.log_latency_squares / arm.n_latencies - mean**2) == pytest.approx(LATENCY_SIGMA, rel=0.02)
    ratio = math.exp(canary.log_latency_sum / canary.n_latencies - stable.log_latency_sum / stable.n_latencies)
    assert ratio == pytest.approx(1.5, rel=0.02)
    assert math.exp(stable.log_latency_sum / stable.n_latencies) == pytest.approx(LATENCY_MEDIAN_S, rel=0.02)
    assert 0.03 < stable.score_sum / stable.n_scores < 0.05 < canary.score_sum / canary.n_scores
    middle = np.searchsorted(np.cumsum(stable.score_bins), stable.n_scores / 2)
    assert middle == find_score_bin(1 / (1 + math.exp(3.7)))


def test_users_with_many_requests_are_clusters():
    arms, _ = draw(Assumptions(0.1, 0.1, 50.0, requests_per_user=5.0), 0.5)
    for arm in arms.values():
        assert arm.n_requests == pytest.approx(50 * 10 * BLOCK * 10 / 2, rel=0.05)
        assert 4 < measure_dispersion(arm.group_requests) < 16  # 9 for a geometric number with mean 5
        assert 4 < measure_dispersion(arm.group_errors) < 16


def test_a_run_depends_on_the_seed_and_its_number_alone():
    assumed = Assumptions(0.01, 0.2, 50.0)
    runs = simulate_plan(DEFAULT_PLAN, assumed, 12, 5)
    assert simulate_plan(DEFAULT_PLAN, assumed, 12, 5) == runs
    assert simulate_plan(DEFAULT_PLAN, assumed, 3, 5) == runs[:3]
    assert simulate_plan(DEFAULT_PLAN, assumed, 12, 6) != runs
    assert simulate_plan(DEFAULT_PLAN, assumed, 12, 5, n_workers=2) == runs


@pytest.mark.parametrize(("error", "n_runs"), [(0.001, 40), (0.01, 25), (0.05, 8)])
def test_the_default_plan_promotes_a_good_canary(error, n_runs):
    summary = summarise_runs(simulate_plan(DEFAULT_PLAN, Assumptions(error, error, 50.0), n_runs, 1))
    assert summary.shares["rolled_back"][0] <= 0.05
    assert summary.shares["promoted"][0] >= 0.85


def test_the_default_plan_finds_five_per_cent_errors_within_two_hundred_requests():
    summary = summarise_runs(simulate_plan(DEFAULT_PLAN, Assumptions(0.01, 0.05, 50.0), 150, 1))
    assert summary.shares["rolled_back"][0] >= 0.95
    assert summary.causes == {"errors": summary.n_runs - round(150 * (1 - summary.shares["rolled_back"][0]))}
    median, low, high = summary.canary_requests
    assert low <= median <= high < 200


def test_a_canary_that_fails_every_request_is_gone_at_the_first_look():
    runs = simulate_plan(DEFAULT_PLAN, Assumptions(0.0, 1.0, 100.0), 20, 1)
    assert {run.end for run in runs} == {"rolled_back"}
    assert np.median([run.seconds for run in runs]) == 10.0


@pytest.mark.parametrize(("change", "cause"), [({"latency_ratio": 1.6}, "latency"), ({"score_shift": 1.0}, "score")])
def test_slow_canaries_and_other_scores_are_found_by_their_metric(change, cause):
    summary = summarise_runs(simulate_plan(DEFAULT_PLAN, Assumptions(0.001, 0.001, 50.0, **change), 20, 1))
    assert summary.shares["rolled_back"][0] == 1.0
    assert summary.causes == {cause: 20}


def test_a_plan_without_metrics_promotes_everything_in_its_own_time():
    plan = dataclasses.replace(DEFAULT_PLAN, metrics=(), interval_s=60.0)
    runs = simulate_plan(plan, Assumptions(0.0, 1.0, 5.0), 3, 0)
    assert {(run.end, run.seconds) for run in runs} == {("promoted", 240.0)}


def test_an_inconclusive_plan_is_counted_as_paused():
    plan = Plan(metrics=(dataclasses.replace(DEFAULT_PLAN.metrics[0], inconclusive_limit=2),))
    runs = simulate_plan(plan, Assumptions(0.01, 0.01, 1.0), 3, 0)
    assert {(run.end, run.seconds) for run in runs} == {("paused", 30.0)}


def test_intervals_of_shares_and_medians_cover_the_truth():
    rng = np.random.default_rng(0)
    covered = [
        low <= 0.03 <= high for _, low, high in (share_interval(int(k), 200) for k in rng.binomial(200, 0.03, 500))
    ]
    assert np.mean(covered) >= 0.94
    medians = [median_interval(rng.exponential(1.0, 51).tolist()) for _ in range(500)]
    assert np.mean([low <= math.log(2) <= high for _, low, high in medians]) >= 0.94
    assert median_interval([]) is None
    assert median_interval([3.0]) == (3.0, 3.0, 3.0)
    assert share_interval(0, 10)[:2] == (0.0, 0.0)
    assert share_interval(10, 10)[2] == 1.0


@pytest.mark.parametrize(
    "change",
    [{"stable_error": -0.1}, {"canary_error": 1.1}, {"rate": 0.0}, {"rate": math.nan}, {"latency_ratio": 0.0},
     {"requests_per_user": 0.5}, {"score_shift": math.inf}],
)  # fmt: skip
def test_assumptions_that_make_no_sense_are_refused(change):
    with pytest.raises(BadRequestError, match=next(iter(change))):
        Assumptions(**{"stable_error": 0.01, "canary_error": 0.01, "rate": 50.0} | change)


def test_the_command_prints_rates_with_intervals_and_json():
    args = ["rollout", "simulate", "--runs", "20", "--canary-error", "0.2", "--workers", "1"]
    printed = CliRunner().invoke(app, args)
    assert printed.exit_code == 0
    assert "rolled back because of: errors 20" in printed.stdout
    assert "canary requests until rollback, median:" in printed.stdout
    answer = json.loads(CliRunner().invoke(app, [*args, "--json"]).stdout)
    assert answer["shares"]["rolled_back"][0] == 1.0
    assert answer["assumed"]["canary_error"] == 0.2
    assert answer["plan"]["steps"] == [1, 5, 25, 50, 100]
    equal = CliRunner().invoke(app, [*args[:-4], "--runs", "1", "--canary-error", "0.01", "--workers", "1"])
    assert "false rollbacks" in equal.stdout
