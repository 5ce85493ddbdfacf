"""The exact test for errors: the right distribution, the promised rate of false alarms, and its power."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from scipy.stats import nchypergeom_fisher

from serve_app.rollouts.core.rate_bounds import log_harmless, lower_rate, upper_rate
from serve_app.rollouts.core.sequential import (
    THETAS,
    ErrorEvidence,
    add_alone,
    add_errors,
    begin_step,
    cap_counts,
    find_cap,
    log_hypergeometric,
    log_ratios_of,
)
from serve_app.scoring.core.split import N_GROUPS

pytestmark = pytest.mark.unit

ALPHA = 0.05


@pytest.mark.parametrize(
    ("n_c", "n_s", "n_errors"), [(5, 495, 25), (30, 2970, 40), (100, 100, 50), (3, 2, 4), (1, 1, 1), (1500, 1500, 150)]
)
def test_p_theta_is_fishers_noncentral_hypergeometric(n_c, n_s, n_errors):
    for x in np.unique(np.linspace(max(0, n_errors - n_s), min(n_c, n_errors), 5).astype(int)):
        expected = np.array([nchypergeom_fisher(n_c + n_s, n_c, n_errors, theta).pmf(x) for theta in THETAS])
        central = log_hypergeometric(np.array([float(x)]), n_c, n_s, n_errors)
        found = np.exp(log_ratios_of(int(x), n_c, n_s, n_errors) + central)
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-250)


@pytest.mark.parametrize(("n_c", "n_s", "n_errors"), [(5, 50, 6), (40, 40, 12), (3, 2, 4)])
def test_the_e_value_has_expectation_one_under_no_difference(n_c, n_s, n_errors):
    support = range(max(0, n_errors - n_s), min(n_c, n_errors) + 1)
    central = [nchypergeom_fisher(n_c + n_s, n_c, n_errors, 1.0).pmf(x) for x in support]
    ratios = [np.exp(log_ratios_of(x, n_c, n_s, n_errors)) for x in support]
    np.testing.assert_allclose(np.einsum("i,ij->j", central, np.array(ratios)), 1.0, rtol=1e-9)


def test_intervals_without_errors_or_without_one_of_the_versions_say_nothing():
    evidence = ErrorEvidence()
    for canary, stable in [((10, 0), (990, 0)), ((0, 0), (990, 9)), ((10, 4), (0, 0))]:
        evidence = add_errors(evidence, canary, stable, [0] * N_GROUPS)
    assert evidence.log_e == pytest.approx(0.0, abs=1e-12)
    assert (evidence.n_canary, evidence.x_canary, evidence.n_stable, evidence.x_stable) == (20, 4, 1980, 9)


def test_evidence_that_was_stored_is_resumed():
    evidence = add_errors(ErrorEvidence(), (20, 3), (980, 5), [3] + [0] * 31)
    record = json.loads(json.dumps(dataclasses.asdict(evidence)))
    back = ErrorEvidence(**{k: tuple(v) if isinstance(v, list) else v for k, v in record.items()})
    assert back == evidence
    assert add_errors(back, (5, 1), (95, 0), [0, 1] + [0] * 30) == add_errors(
        evidence, (5, 1), (95, 0), [0, 1] + [0] * 30
    )


def test_errors_of_one_user_weigh_like_one_error():
    spread = [1] * 6 + [0] * (N_GROUPS - 6)
    together = [6] + [0] * (N_GROUPS - 1)
    many = add_errors(ErrorEvidence(), (90, 6), (8910, 70), spread)
    one = add_errors(ErrorEvidence(), (90, 6), (8910, 70), together)
    assert many.log_e > -math.log(0.01)
    assert one.dispersion == pytest.approx(6.0)
    assert many.dispersion == 1.0
    assert one.log_e < math.log(5)


def test_a_start_costs_weight_and_no_evidence():
    evidence = ErrorEvidence()
    for k in range(1, 6):
        evidence = begin_step(evidence)
        assert evidence.log_e == pytest.approx(0.0, abs=1e-12)
        assert evidence.spent == pytest.approx(0.5 + 0.25 * (1 - 1 / (k + 1)))


@pytest.mark.parametrize("is_at_step", [True, False])
def test_good_hours_are_no_credit_for_a_canary_that_turns_bad(is_at_step):
    rng = np.random.default_rng(8)
    found = []
    for _ in range(30):
        evidence = ErrorEvidence()
        for k in range(700):
            if k == 400 and is_at_step:
                evidence = begin_step(evidence)
            n_c = int(rng.binomial(500, 0.05))
            groups = rng.multinomial(rng.binomial(n_c, 0.05 if k >= 400 else 0.01), np.full(N_GROUPS, 1 / N_GROUPS))
            x_s = int(rng.binomial(500 - n_c, 0.01))
            evidence = add_errors(evidence, (n_c, int(groups.sum())), (500 - n_c, x_s), groups.tolist())
            if evidence.log_e >= -math.log(ALPHA):
                found.append((k - 399) * 25)
                break
    assert len(found) == 30
    assert np.median(found) < (200 if is_at_step else 500)


def run(rng, p_stable, p_canary, share, n_intervals, n=500, size=1):
    """Return (whether E ever reached 1/alpha, canary requests until then); errors come in clusters of `size`."""
    evidence = ErrorEvidence()
    for _ in range(n_intervals):
        n_c = int(rng.binomial(n, share)) * size
        n_s = n * size - n_c
        groups = rng.multinomial(rng.binomial(n_c // size, p_canary), np.full(N_GROUPS, 1 / N_GROUPS)) * size
        x_s = int(rng.binomial(n_s // size, p_stable)) * size
        evidence = add_errors(evidence, (n_c, int(groups.sum())), (n_s, x_s), groups.tolist())
        if evidence.log_e >= -math.log(ALPHA):
            return True, evidence.n_canary
    return False, evidence.n_canary


@pytest.mark.parametrize(("rate", "share"), [(0.001, 0.05), (0.01, 0.01), (0.05, 0.25)])
def test_a_good_canary_is_rarely_failed_however_often_one_looks(rate, share):
    rng = np.random.default_rng(1)
    n_failed = sum(run(rng, rate, rate, share, 80)[0] for _ in range(100))
    assert n_failed / 100 <= ALPHA


def test_a_good_canary_is_rarely_failed_when_errors_come_in_clusters():
    rng = np.random.default_rng(2)
    n_failed = sum(run(rng, 0.01, 0.01, 0.05, 80, n=100, size=5)[0] for _ in range(200))
    assert n_failed / 200 <= ALPHA


def test_a_canary_with_five_times_the_errors_is_caught_after_about_a_hundred_requests():
    rng = np.random.default_rng(3)
    found = [run(rng, 0.01, 0.05, 0.01, 400) for _ in range(200)]
    assert np.mean([is_caught for is_caught, _ in found]) >= 0.99
    assert np.median([n for _, n in found]) < 150


def test_a_changing_error_rate_and_changing_shares_raise_no_alarm():
    """Pooled, the canary looks twice as bad: it had most of its traffic in the bad hours."""
    rng, n_failed = np.random.default_rng(4), 0
    for _ in range(100):
        evidence = ErrorEvidence()
        for k in range(80):
            share, rate = (0.5, 0.10) if k % 2 else (0.05, 0.005)
            n_c = int(rng.binomial(500, share))
            groups = rng.multinomial(rng.binomial(n_c, rate), np.full(N_GROUPS, 1 / N_GROUPS))
            x_s = int(rng.binomial(500 - n_c, rate))
            evidence = add_errors(evidence, (n_c, int(groups.sum())), (500 - n_c, x_s), groups.tolist())
        assert evidence.x_canary / evidence.n_canary > 1.3 * evidence.x_stable / evidence.n_stable
        n_failed += evidence.log_e >= -math.log(ALPHA)
    assert n_failed <= 5


def test_a_lower_bound_for_a_rate_holds_at_every_look():
    rng, n_broken = np.random.default_rng(5), 0
    for _ in range(300):
        errors = np.cumsum(rng.random(1500) < 0.05)
        n_broken += any(lower_rate(int(errors[n - 1]), n, 0.1) > 0.05 for n in range(5, 1500, 15))
    assert n_broken / 300 <= 0.1


def test_a_lower_bound_closes_in_on_the_rate():
    assert lower_rate(0, 1000, 0.05) == 0.0
    assert lower_rate(0, 0, 0.05) == 0.0
    bounds = [lower_rate(n // 20, n, 0.05) for n in (100, 1000, 10_000, 1_000_000)]
    assert bounds == sorted(bounds)
    assert 0.049 < bounds[-1] < 0.05
    assert 0.99 < lower_rate(10_000, 10_000, 0.05) < 1.0


def harmless_run(rng, p_stable, p_canary, n_intervals):
    """Return whether harm of two points was ever ruled out, and canary requests until then."""
    total, n_s, x_s, seen = 0.0, 0, 0, 0
    for _ in range(n_intervals):
        n_c, n = int(rng.binomial(500, 0.05)), 500
        total += log_harmless((n_c, int(rng.binomial(n_c, p_canary))), (n_s, x_s), 0.02, 0.025)
        n_s, x_s, seen = n_s + n - n_c, x_s + int(rng.binomial(n - n_c, p_stable)), seen + n_c
        if total >= math.log(40):
            return True, seen
    return False, seen


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.05])
def test_a_canary_that_adds_the_limit_hardly_ever_passes(rate):
    rng = np.random.default_rng(6)
    assert sum(harmless_run(rng, rate, rate + 0.02, 100)[0] for _ in range(200)) / 200 <= 0.05


@pytest.mark.parametrize(("rate", "n_most"), [(0.0, 250), (0.001, 300), (0.01, 700)])
def test_a_canary_like_stable_passes_after_some_hundred_requests(rate, n_most):
    rng = np.random.default_rng(7)
    found = [harmless_run(rng, rate, rate, 400) for _ in range(100)]
    assert np.mean([passed for passed, _ in found]) >= 0.95
    assert np.median([n for _, n in found]) <= n_most


def test_without_earlier_requests_of_stable_nothing_is_ruled_out():
    assert log_harmless((100, 0), (0, 0), 0.02, 0.025) == 0.0
    assert log_harmless((0, 0), (1000, 10), 0.02, 0.025) == 0.0
    assert log_harmless((100, 0), (100, 50), 0.02, 0.025) == 0.0  # the bound is too loose yet


@pytest.mark.parametrize("base", [0.0, 0.005])
def test_one_client_whose_requests_all_fail_does_not_fail_a_good_canary(base):
    """At 1 % of the users, one client in the canary makes half of its requests, and all of its errors."""
    rng, n_failed = np.random.default_rng(9), 0
    for _ in range(20):
        evidence, client = ErrorEvidence(), int(rng.integers(N_GROUPS))
        for _ in range(200):
            n_bad, n_good, n_s = int(rng.poisson(5)), int(rng.poisson(5)), int(rng.poisson(495))
            groups = rng.multinomial(rng.binomial(n_good, base), np.full(N_GROUPS, 1 / N_GROUPS))
            groups[client] += n_bad
            stable = (n_s, int(rng.binomial(n_s, base)))
            evidence = add_errors(evidence, (n_good + n_bad, int(groups.sum())), stable, groups.tolist())
            if evidence.log_e >= -math.log(0.03):
                n_failed += 1
                break
    assert n_failed / 20 <= ALPHA


def test_leaving_out_what_a_group_has_too_much_only_lowers_the_evidence():
    rng = np.random.default_rng(10)
    for _ in range(50):
        n_c, n_s, x_s = (int(rng.integers(5, 200)) for _ in range(3))
        n_s += x_s
        x = int(rng.integers(1, n_c))
        assert (log_ratios_of(x - 1, n_c, n_s, x - 1 + x_s) <= log_ratios_of(x, n_c, n_s, x + x_s) + 1e-9).all()


def test_chance_explains_small_caps_and_many_users_raise_them():
    assert find_cap([40] + [0] * 31) == 1
    assert sum(cap_counts([40] + [1] * 6 + [0] * 25)) <= 8
    assert cap_counts([5] * 32) == [5] * 32
    rng = np.random.default_rng(11)
    lost = [
        1 - sum(cap_counts(counts)) / sum(counts)
        for counts in (rng.multinomial(n, np.full(N_GROUPS, 1 / N_GROUPS)).tolist() for n in (5, 20, 100, 1000) * 50)
    ]
    assert np.mean(lost) < 0.03


def alone(rng, p_canary, n_intervals=60, n=500):
    """Return whether a canary that has everything is failed; the stable version's rate of 1 % was recorded."""
    evidence = ErrorEvidence(n_stable=20_000, x_stable=200, stable_groups=(6,) * 24 + (7,) * 8)
    most = upper_rate(evidence, 0.025) + 0.02
    for k in range(n_intervals):
        rate = p_canary if k >= n_intervals // 2 else 0.01
        groups = rng.multinomial(rng.binomial(n, rate), np.full(N_GROUPS, 1 / N_GROUPS))
        evidence = add_alone(evidence, (n, int(groups.sum())), groups.tolist(), most)
        if evidence.log_e >= -math.log(0.03):
            return True
    return False


def test_a_canary_with_everything_is_held_against_what_was_recorded():
    rng = np.random.default_rng(12)
    assert all(alone(rng, 0.05) for _ in range(20))
    assert not any(alone(rng, 0.02) for _ in range(20))


def test_without_a_record_a_canary_with_everything_is_held_against_nothing():
    assert upper_rate(ErrorEvidence(), 0.025) == 1.0
    assert add_alone(ErrorEvidence(), (500, 500), [16] * 20 + [15] * 12, 1.0).log_e == pytest.approx(0.0, abs=1e-12)
    few = ErrorEvidence(n_stable=200, x_stable=20, stable_groups=(20,) + (0,) * 31)
    many = ErrorEvidence(n_stable=200, x_stable=20, stable_groups=(1,) * 20 + (0,) * 12)
    assert upper_rate(few, 0.025) > upper_rate(many, 0.025) > 0.1
