"""Intervals hold what they promise, also for requests that come in clusters of one user."""

from __future__ import annotations

import numpy as np
import pytest

from serve_app.scoring.core.split import N_GROUPS
from serve_app.stats.design_effect import measure_dispersion
from serve_app.stats.intervals import mean_interval, share_interval

pytestmark = pytest.mark.unit


def test_known_values():
    # Clopper-Pearson, R: binom.test(3, 50)$conf.int
    assert share_interval(3, 50) == pytest.approx((0.06, 0.01254859, 0.16548195), abs=1e-7)
    assert share_interval(0, 10) == pytest.approx((0.0, 0.0, 0.30849710), abs=1e-7)
    assert share_interval(10, 10)[2] == 1.0
    assert share_interval(0, 0) == (0.0, 0.0, 1.0)
    # Student's t with 4 degrees of freedom: 3 +- 2.776445 * sqrt(2.5 / 5)
    assert mean_interval(5, 15.0, 55.0) == pytest.approx((3.0, 1.0367568, 4.9632432), abs=1e-6)
    assert mean_interval(1, 3.0, 9.0) is None


def test_clusters_widen_an_interval_as_fewer_requests_would():
    assert share_interval(40, 1000, 4.0)[1:] == pytest.approx(share_interval(10, 250)[1:])
    narrow, wide = mean_interval(100, 300.0, 1000.0), mean_interval(100, 300.0, 1000.0, 4.0)
    assert (wide[2] - wide[0]) / (narrow[2] - narrow[0]) == pytest.approx(2.0, rel=0.05)


def test_intervals_of_clustered_requests_hold_the_truth_nineteen_times_of_twenty():
    rng, held = np.random.default_rng(0), []
    for _ in range(400):
        size = rng.geometric(1 / 5, 400)  # five requests a user, all of them fail or none does
        failed, group = rng.random(400) < 0.05, rng.integers(0, N_GROUPS, 400)
        errors = np.bincount(group, size * failed, N_GROUPS).astype(int).tolist()
        _, low, high = share_interval(sum(errors), int(size.sum()), measure_dispersion(errors))
        held.append(low <= 0.05 <= high)
    assert np.mean(held) > 0.92
