"""Counters add up over Gateways, count only whom chance assigned, and show clusters of users."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from serve_app.errors import InvariantError
from serve_app.scoring.core.counters import (
    N_SCORE_BINS,
    ArmCounters,
    find_score_bin,
)
from serve_app.scoring.core.split import N_GROUPS
from serve_app.stats.design_effect import measure_dispersion

pytestmark = pytest.mark.unit


def fill(seed, n=500):
    rng, counters = np.random.default_rng(seed), ArmCounters()
    for _ in range(n):
        reason = str(rng.choice(["pin", "allow-list", "user-hash", "random"]))
        group = int(rng.integers(N_GROUPS))
        if rng.random() < 0.1:
            counters.count_error(reason, group)
        else:
            counters.count_answer(reason, group, float(rng.lognormal(-4, 0.5)), float(rng.random()))
    return counters


def test_counters_of_many_gateways_add_up_in_any_order():
    one, two, three = fill(1), fill(2), fill(3)
    whole = ArmCounters.merge([one, two, three])
    again = ArmCounters.merge([ArmCounters.merge([three, one]), two])
    for name in ("n_requests", "n_errors", "n_latencies", "score_bins", "group_requests", "group_errors", "routed"):
        assert getattr(whole, name) == getattr(again, name)
    assert whole.log_latency_sum == pytest.approx(again.log_latency_sum)
    assert ArmCounters.merge([]) == ArmCounters()
    assert one == fill(1)


def test_pins_and_the_allow_list_are_counted_by_reason_only():
    counters = ArmCounters()
    for reason in ("pin", "allow-list", "user-hash", "random"):
        counters.count_answer(reason, 3, 0.01, 0.5)
        counters.count_error(reason, 3)
    assert counters.routed == {"pin": 2, "allow-list": 2, "user-hash": 2, "random": 2}
    assert (counters.n_requests, counters.n_errors, counters.n_latencies, counters.n_scores) == (4, 2, 2, 2)
    assert counters.group_requests[3] == 4
    assert counters.group_errors[3] == 2
    assert counters.log_latency_sum == pytest.approx(2 * math.log(0.01))


def test_the_lists_are_sums_of_their_totals():
    counters = fill(4)
    assert sum(counters.score_bins) == counters.n_scores == counters.n_requests - counters.n_errors
    assert (
        sum(counters.group_requests) == counters.n_requests == counters.routed["user-hash"] + counters.routed["random"]
    )
    assert sum(counters.group_errors) == counters.n_errors


def test_counters_travel_as_json():
    counters = fill(5)
    assert ArmCounters.parse(json.loads(json.dumps(counters.dump()))) == counters


@pytest.mark.parametrize(
    "change",
    [{"n_request": 1}, {"score_bins": [1]}, {"group_errors": []}, {"n_errors": "x"}, {"score_sum": math.nan},
     {"routed": 3}, {"score_bins": None}, {"group_requests": ["x"] * N_GROUPS}],
)  # fmt: skip
def test_damaged_counters_are_named(change):
    with pytest.raises(InvariantError, match="not counters"):
        ArmCounters.parse(ArmCounters().dump() | change)


def test_score_bins_rise_with_the_score_and_take_every_score():
    scores = [0.0, 5e-324, 1e-9, 0.0003, 0.03, 0.5, 0.9, 1 - 1e-16, 1.0]
    bins = [find_score_bin(score) for score in scores]
    assert bins == sorted(bins)
    assert bins[0] == 0
    assert bins[5] == N_SCORE_BINS // 2
    assert bins[-1] == N_SCORE_BINS - 1


def test_a_latency_of_zero_does_not_break_the_logarithm():
    counters = ArmCounters()
    counters.count_answer("random", 0, 0.0, 0.5)
    assert math.isfinite(counters.log_latency_sum)


def test_independent_events_have_dispersion_one():
    rng = np.random.default_rng(0)
    found = [
        measure_dispersion(rng.multinomial(n, np.full(N_GROUPS, 1 / N_GROUPS)).tolist()) for n in [5, 50, 5000] * 200
    ]
    assert np.mean(np.array(found) == 1.0) > 0.92
    assert np.mean(found) < 1.06


@pytest.mark.parametrize("size", [3, 10, 100])
def test_events_in_clusters_of_one_user_have_the_dispersion_of_the_cluster(size):
    rng = np.random.default_rng(0)
    found = [
        measure_dispersion((size * rng.multinomial(40, np.full(N_GROUPS, 1 / N_GROUPS))).tolist()) for _ in range(300)
    ]
    assert np.mean(found) == pytest.approx(size, rel=0.05)


def test_one_user_with_all_errors_counts_about_once():
    assert measure_dispersion([0] * (N_GROUPS - 1) + [20]) == pytest.approx(20.0)
    assert measure_dispersion([0] * N_GROUPS) == 1.0
    assert measure_dispersion([1] + [0] * (N_GROUPS - 1)) == 1.0
