"""Bands, whatever the scores: capacities hold, and no other threshold would have paid more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serve_app.training.core.bands import HIGH_RETURN, BandRule, Capacity, Worth, choose_thresholds

pytestmark = pytest.mark.property

NEIGHBOURS = np.array([5e-324, 0.5, np.nextafter(0.5, 0), 1e-323, np.nextafter(0.5, 1), 0.9])
scores = st.lists(
    st.one_of(
        st.sampled_from([0.05, 0.1, 0.5, 0.9]),
        st.sampled_from(NEIGHBOURS.tolist()),
        st.floats(0, 1, exclude_min=True, exclude_max=True),
    ),
    min_size=1,
    max_size=60,
).map(np.array)


def number_runs(probability):
    """Number what no threshold can part, from the best on: equal scores, and those with no float between them."""
    falling = np.unique(probability)[::-1]
    numbers = np.concatenate([[0], np.cumsum(np.nextafter(falling[1:], 1) < falling[:-1])])
    return numbers[np.searchsorted(-falling, -probability)]


@given(scores, st.floats(0, 1), st.floats(0, 1))
@example(np.array([1e-323, 5e-324]), 0.5, 0.0)
@example(NEIGHBOURS, 0.4, 0.0)
@example(NEIGHBOURS, 0.7, 0.0)
@example(NEIGHBOURS, 0.2, 0.6)
def test_no_band_holds_more_than_its_capacity_and_no_more_would_fit(probability, high, rest):
    medium = (1 - high) * rest
    if high + medium == 0:
        return
    thresholds = choose_thresholds(
        BandRule(capacity=Capacity(high, medium)), np.zeros(len(probability)), probability
    )  # fmt: skip
    n = len(probability)
    is_high = probability > thresholds.high
    is_medium = (probability >= thresholds.medium) & ~is_high
    assert is_high.sum() <= high * n + 1e-6
    assert is_medium.sum() <= medium * n + 1e-6 or thresholds.medium == thresholds.high == 1.0
    if (~is_high).any():
        run = number_runs(probability) if thresholds.medium == thresholds.high else -probability
        next_run = (run == run[~is_high].min()).sum()
        assert is_high.sum() + next_run > np.floor(high * n + 1e-9)


@given(st.data(), scores, st.floats(0.01, 0.99))
def test_no_other_threshold_brings_more_on_the_rows_it_was_chosen_on(data, probability, cost):
    target = np.array(data.draw(st.lists(st.booleans(), min_size=len(probability), max_size=len(probability))))
    thresholds = choose_thresholds(BandRule(worth=Worth(1, cost), is_by_cost=True), target, probability)

    def brings(chosen, price):
        return float(np.sum(target[chosen] - price))

    run = number_runs(probability)
    candidates = [*(probability[run == k].min() for k in range(run.max() + 1)), 2.0]
    best = max(brings(probability >= at, cost) for at in candidates)
    assert brings(probability >= thresholds.medium, cost) == pytest.approx(best, abs=1e-9)
    best_high = max(brings(probability >= at, HIGH_RETURN * cost) for at in candidates)
    assert brings(probability > thresholds.high, HIGH_RETURN * cost) == pytest.approx(best_high, abs=1e-9)
