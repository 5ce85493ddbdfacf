"""Latency, score and sample ratio: what each says under no difference, at its limit, and beyond."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multinomial, norm

from serve_app.rollouts.core.latency_shift import (
    TAU,
    LatencyEvidence,
    add_latencies,
    log_msprt,
    log_msprt_above,
)
from serve_app.rollouts.core.sample_ratio import RatioEvidence, add_routed, log_bayes_factor
from serve_app.rollouts.core.score_shift import compare_scores, spend_alpha
from serve_app.scoring.core.counters import N_SCORE_BINS, find_score_bin
from serve_app.scoring.core.split import N_GROUPS
from serve_app.stats.psi import join_bins, measure_psi, pooled_shares

pytestmark = pytest.mark.unit

ALPHA = 0.05


def sums(values):
    return len(values), float(values.sum()), float((values**2).sum())


@pytest.mark.parametrize(("d", "variance"), [(0.0, 0.01), (0.3, 0.02), (-0.4, 0.005), (1.5, 1.0)])
def test_msprt_is_the_mixture_it_claims_to_be(d, variance):
    def ratio(theta):
        return math.exp((theta * d - theta**2 / 2) / variance)

    both = quad(lambda t: norm.pdf(t, 0, TAU) * ratio(t), -3, 3, points=[0.0, d], limit=200)[0]
    above = quad(lambda t: 2 * norm.pdf(t, 0, TAU) * ratio(t), 0, 3, points=[max(d, 0.1)], limit=200)[0]
    assert log_msprt(d, variance) == pytest.approx(math.log(both), rel=1e-6)
    assert log_msprt_above(d, variance) == pytest.approx(math.log(above), rel=1e-6)


def test_latency_sums_equal_the_weighted_differences_of_intervals():
    rng = np.random.default_rng(0)
    evidence, parts = LatencyEvidence(), []
    for n_c, n_s in [(20, 500), (300, 300), (1, 50), (0, 100)]:
        canary, stable = rng.normal(-3.5, 0.5, n_c), rng.normal(-4.0, 0.7, n_s)
        evidence = add_latencies(evidence, sums(canary), sums(stable))
        if n_c:
            parts.append((n_c * n_s / (n_c + n_s), canary.mean() - stable.mean()))
    weights, differences = np.array(parts).T
    assert evidence.difference == pytest.approx(np.average(differences, weights=weights))
    assert evidence.free_canary == 20 + 300 + 1 - 3
    assert json.loads(json.dumps(dataclasses.asdict(evidence))) == dataclasses.asdict(evidence)


def test_the_variance_of_the_latency_difference_is_the_one_seen_over_repetitions():
    rng = np.random.default_rng(1)
    found, claimed = [], []
    for _ in range(400):
        evidence = LatencyEvidence()
        for n_c in (10, 30, 80):
            canary, stable = rng.normal(0, 0.5, n_c), rng.normal(0, 0.8, 200)
            evidence = add_latencies(evidence, sums(canary), sums(stable))
        found.append(evidence.difference)
        claimed.append(evidence.variance())
    assert np.mean(claimed) == pytest.approx(np.var(found), rel=0.15)
    assert LatencyEvidence().variance() == math.inf
    assert log_msprt_above(1.0, math.inf) == 0.0


def latency_run(rng, shift, margin, sign, n_intervals=60):
    """Return whether the one-sided test ever rejected; latencies are heavier than log-normal."""
    evidence = LatencyEvidence()
    for k in range(n_intervals):
        load = 0.5 * math.sin(k / 5)  # both versions are slower at busy hours
        n_c = 5 if k < 20 else 100
        canary = load + shift + 0.5 * rng.standard_t(5, n_c)
        stable = load + 0.5 * rng.standard_t(5, 400)
        evidence = add_latencies(evidence, sums(canary), sums(stable))
        statistic = log_msprt_above(sign * (evidence.difference - margin), evidence.variance())
        if evidence.is_enough and statistic >= -math.log(ALPHA):
            return True
    return False


@pytest.mark.parametrize("sign", [1, -1])
def test_a_latency_at_the_limit_is_rarely_called_above_or_below_it(sign):
    rng, margin = np.random.default_rng(2), math.log(1.2)
    assert sum(latency_run(rng, margin, margin, sign) for _ in range(200)) / 200 <= ALPHA


def test_a_slower_canary_is_found_and_an_equal_one_is_cleared():
    rng, margin = np.random.default_rng(3), math.log(1.2)
    assert sum(latency_run(rng, math.log(1.5), margin, 1) for _ in range(50)) >= 49
    assert sum(latency_run(rng, 0.0, margin, -1) for _ in range(50)) >= 49
    assert sum(latency_run(rng, 0.0, margin, 1) for _ in range(50)) == 0


def histogram(rng, n, shift=0.0):
    logit = rng.normal(-3.7 + shift, 1.0, n)
    bins = np.clip(np.floor((logit + 8) * 4), 0, N_SCORE_BINS - 1).astype(int)
    assert find_score_bin(1 / (1 + math.exp(-logit[0]))) == bins[0]
    return np.bincount(bins, minlength=N_SCORE_BINS)


def test_psi_without_drift_is_what_chance_gives_and_its_p_values_are_even():
    rng = np.random.default_rng(4)
    found = [compare_scores(histogram(rng, 400), histogram(rng, 4000), 1e-9) for _ in range(300)]
    psi, expected = np.mean([s.psi for s in found]), np.mean([s.expected for s in found])
    assert psi == pytest.approx(expected, rel=0.1)
    n_free = np.mean([s.n_bins for s in found]) - 1
    assert psi == pytest.approx(n_free * (1 / 400 + 1 / 4000), rel=0.1)
    for level in (0.05, 0.3):
        share = np.mean([s.p_above <= level for s in found])
        assert abs(share - level) <= 4 * math.sqrt(level * (1 - level) / 300)


@pytest.mark.parametrize(("n", "m"), [(150, 15_000), (1000, 20_000), (8000, 8000)])
def test_at_its_limit_a_shift_is_called_above_or_below_about_as_often_as_alpha_allows(n, m):
    rng = np.random.default_rng(5)
    big = 400_000
    for_limit = compare_scores(histogram(rng, big, 0.5), histogram(rng, big), 0.25)
    assert 0.2 < for_limit.psi < 0.3
    found = [compare_scores(histogram(rng, n, 0.5), histogram(rng, m), for_limit.psi) for _ in range(200)]
    assert np.mean([s.p_above <= ALPHA for s in found]) <= 0.10
    assert np.mean([s.p_below <= ALPHA for s in found]) <= 0.10


def test_too_few_scores_say_nothing_and_clusters_count_less():
    rng = np.random.default_rng(6)
    canary, stable = histogram(rng, 150), histogram(rng, 5000)
    assert compare_scores(histogram(rng, 99), stable, 0.25) is None
    assert compare_scores(canary, histogram(rng, 99), 0.25) is None
    assert compare_scores(canary, stable, 0.25, 2.0) is None
    one, five = compare_scores(canary * 5, stable, 0.25), compare_scores(canary * 5, stable, 0.25, 5.0)
    assert five.expected > 3 * one.expected
    assert five.p_below > one.p_below


def test_a_canary_that_gives_everybody_one_score_is_far_away():
    rng = np.random.default_rng(7)
    constant = np.zeros(N_SCORE_BINS, dtype=int)
    for where in (0, N_SCORE_BINS // 2, N_SCORE_BINS - 1):
        lonely = constant.copy()
        lonely[where] = 200
        assert compare_scores(lonely, histogram(rng, 5000), 0.25).p_above < 1e-6
        assert compare_scores(histogram(rng, 200), lonely * 25, 0.25).p_above < 1e-6
        assert compare_scores(lonely, lonely, 0.25).psi == 0.0


def test_joined_bins_hold_about_a_tenth_of_stable_each_and_the_outside_apart():
    rng = np.random.default_rng(8)
    stable = histogram(rng, 50_000, 2.0)
    bins = join_bins(stable)
    assert (np.diff(bins) >= 0).all()
    inside = np.flatnonzero(stable)
    assert bins[inside[0] - 1] == 0 < bins[inside[0]]
    assert bins[inside[-1] + 1] == bins.max() > bins[inside[-1]]
    mass = np.bincount(bins, stable)[1:-1] / stable.sum()
    assert 8 <= len(mass) <= 10
    assert mass.max() < 0.2
    assert not join_bins(np.zeros(N_SCORE_BINS)).any()


def test_psi_is_symmetric_and_zero_for_equal_shares():
    one, other = np.array([10.0, 0.0, 30.0, 0.0]), np.array([20.0, 5.0, 60.0, 0.0])
    assert measure_psi(one, other) == pytest.approx(measure_psi(other, one))
    assert measure_psi(one, 3 * one, pooled_shares(one, 3 * one))[0] == pytest.approx(0.0, abs=1e-12)


def test_alpha_spent_over_all_looks_is_alpha():
    assert sum(spend_alpha(ALPHA, k) for k in range(1, 200_000)) == pytest.approx(ALPHA, rel=1e-4)


def test_the_sample_ratio_statistic_is_dirichlet_multinomial_over_multinomial():
    shares = np.array([0.2, 0.3, 0.5])
    rng = np.random.default_rng(9)
    counts = np.array([9, 11, 20])
    drawn = rng.dirichlet(100 * shares, 200_000)
    mixture = multinomial.pmf(counts, 40, drawn).mean()
    expected = math.log(mixture / multinomial.pmf(counts, 40, shares))
    assert log_bayes_factor(counts, shares) == pytest.approx(expected, abs=0.02)


def ratio_run(rng, asked, got, n_intervals, n=500, size=1):
    """Return whether the shares were ever refuted; each user sends `size` requests."""
    evidence = RatioEvidence()
    for _ in range(n_intervals):
        n_canary = int(rng.binomial(n, got))
        groups = {
            8: (size * rng.multinomial(n_canary, np.full(N_GROUPS, 1 / N_GROUPS))).tolist(),
            7: (size * rng.multinomial(n - n_canary, np.full(N_GROUPS, 1 / N_GROUPS))).tolist(),
        }
        evidence = add_routed(evidence, {8: asked, 7: 1 - asked}, groups)
        if evidence.is_mismatched:
            return True
    return False


@pytest.mark.parametrize(("share", "size"), [(0.01, 1), (0.5, 1), (0.05, 8)])
def test_a_correct_split_is_not_refuted_however_often_one_looks(share, size):
    rng = np.random.default_rng(10)
    assert sum(ratio_run(rng, share, share, 60, size=size) for _ in range(100)) <= 1


@pytest.mark.parametrize(("asked", "got"), [(0.01, 0.02), (0.05, 0.04), (0.5, 0.47), (0.05, 0.0)])
def test_a_wrong_split_is_refuted(asked, got):
    rng = np.random.default_rng(11)
    assert sum(ratio_run(rng, asked, got, 100) for _ in range(20)) == 20


def test_other_shares_begin_new_counts_and_have_to_be_refuted_a_little_harder():
    evidence = add_routed(RatioEvidence(), {8: 0.5, 7: 0.5}, {8: [5] + [0] * 31, 7: [9] + [0] * 31})
    assert evidence.counts == {"8": 5, "7": 9}
    assert evidence.bound == pytest.approx(math.log(2000))
    evidence = add_routed(evidence, {8: 0.6, 7: 0.4}, {})
    assert evidence.counts == {"8": 0, "7": 0}
    assert evidence.bound == pytest.approx(math.log(6000))
    assert sum(1 / (k * (k + 1)) for k in range(1, 10_000)) == pytest.approx(1.0, rel=1e-3)
    assert add_routed(RatioEvidence(), {7: 1.0}, {7: [100] * N_GROUPS}).log_bayes_factor == 0.0
