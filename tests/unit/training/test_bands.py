"""Bands: thresholds by capacity, by cost and as given; what the bands hold."""

from __future__ import annotations

import numpy as np
import pytest

from serve_app.cli.training.train import parse_band_rule
from serve_app.errors import BadRequestError, InvalidDataError
from serve_app.models.core.recommendation import BANDS, Thresholds
from serve_app.training.core.bands import (
    MIN_COST_POSITIVES,
    BandRule,
    Capacity,
    Worth,
    check_rule,
    choose_thresholds,
    measure_bands,
)

pytestmark = pytest.mark.unit


def shares(thresholds, probability):
    words = BANDS[thresholds.band_many(probability)]
    return {band: float(np.mean(words == band)) for band in ("high", "medium", "low")}


def test_capacity_gives_the_best_rows_to_high_and_the_next_to_medium():
    probability = np.random.default_rng(0).permutation(np.arange(1000) / 1000)
    thresholds = choose_thresholds(BandRule(capacity=Capacity(0.02, 0.1)), np.zeros(1000), probability)
    assert shares(thresholds, probability) == {"high": 0.02, "medium": 0.1, "low": 0.88}
    assert set(probability[probability > thresholds.high]) == set(np.arange(980, 1000) / 1000)


def test_tied_rows_stay_together_and_leave_a_band_smaller_rather_than_larger():
    probability = np.repeat([0.9, 0.5, 0.1], [30, 40, 30])
    rule = BandRule(capacity=Capacity(0.2, 0.5))
    thresholds = choose_thresholds(rule, np.zeros(100), probability)
    assert shares(thresholds, probability) == {"high": 0.0, "medium": 0.3, "low": 0.7}


def test_a_band_without_capacity_stays_empty():
    probability = np.linspace(0.01, 0.99, 100)
    none_high = choose_thresholds(BandRule(capacity=Capacity(0, 0.1)), np.zeros(100), probability)
    assert shares(none_high, probability) == {"high": 0.0, "medium": 0.1, "low": 0.9}
    none_medium = choose_thresholds(BandRule(capacity=Capacity(0.1, 0)), np.zeros(100), probability)
    assert shares(none_medium, probability) == {"high": 0.1, "medium": 0.0, "low": 0.9}


def test_capacity_for_all_rows_leaves_none_low():
    probability = np.linspace(0.01, 0.99, 100)
    thresholds = choose_thresholds(BandRule(capacity=Capacity(0.4, 0.6)), np.zeros(100), probability)
    assert shares(thresholds, probability) == {"high": 0.4, "medium": 0.6, "low": 0.0}


def test_a_share_that_is_whole_rows_is_not_lost_to_rounding():
    probability = np.arange(100) / 100
    thresholds = choose_thresholds(BandRule(capacity=Capacity(0.29, 0.0)), np.zeros(100), probability)
    assert (probability > thresholds.high).sum() == 29


def test_neighbouring_floats_are_told_apart():
    low = 0.5
    high = np.nextafter(low, 1)
    probability = np.array([high, high, low, low])
    thresholds = choose_thresholds(BandRule(capacity=Capacity(0, 0.5)), np.zeros(4), probability)
    assert shares(thresholds, probability)["medium"] == 0.5


def test_cost_finds_where_acting_pays_although_the_model_is_too_sure_of_itself():
    rng = np.random.default_rng(0)
    true = rng.random(200_000)
    target = rng.random(len(true)) < true
    too_sure = true**0.5  # says 0.5 where 0.25 buy
    thresholds = choose_thresholds(BandRule(worth=Worth(10, 2.5), is_by_cost=True), target, too_sure)
    assert thresholds.medium == pytest.approx(0.25**0.5, abs=0.03)
    assert thresholds.high == pytest.approx(0.5**0.5, abs=0.03)


def test_where_acting_never_pays_every_row_is_low():
    rng = np.random.default_rng(0)
    probability = rng.random(1000) * 0.1
    thresholds = choose_thresholds(BandRule(worth=Worth(10, 9), is_by_cost=True), np.zeros(1000), probability)
    assert shares(thresholds, probability)["low"] == 1.0


def test_given_thresholds_are_used_as_they_are():
    given = Thresholds(0.2, 0.3)
    assert choose_thresholds(BandRule(given), np.zeros(3), np.array([0.1, 0.2, 0.3])) == given


def test_a_capacity_below_one_row_and_a_cost_with_few_purchases_are_refused_with_what_to_do():
    with pytest.raises(InvalidDataError, match=r"less than one of the 30 rows .* at least 0\.033"):
        check_rule(BandRule(capacity=Capacity(0.02, 0.1)), 30, 5)
    by_cost = BandRule(worth=Worth(100, 5), is_by_cost=True)
    with pytest.raises(InvalidDataError, match=r"--threshold-medium 0\.05 --threshold-high 0\.1"):
        check_rule(by_cost, 1000, MIN_COST_POSITIVES - 1)
    check_rule(by_cost, 1000, MIN_COST_POSITIVES)


def test_bands_are_measured_with_intervals_that_respect_users():
    rng = np.random.default_rng(0)
    n_users = 400
    p_user = rng.beta(1, 4, n_users)
    user = np.repeat(np.arange(n_users), 10)
    probability = p_user[user]
    target = np.repeat(rng.random(n_users) < p_user, 10)
    thresholds = Thresholds(0.2, 0.4)
    found = measure_bands(thresholds, target, probability, user, np.random.default_rng(1), Worth(10, 1))
    assert [row["band"] for row in found] == ["high", "medium", "low"]
    assert sum(row["n_rows"] for row in found) == len(target)
    assert sum(row["share"]["value"] for row in found) == pytest.approx(1)
    assert sum(row["captured"]["value"] for row in found) == pytest.approx(1)
    high = found[0]
    chosen = probability > 0.4
    assert high["precision"]["value"] == pytest.approx(target[chosen].mean())
    assert high["expected_value"]["value"] == pytest.approx(10 * target[chosen].mean() - 1)
    by_row = measure_bands(thresholds, target, probability, np.arange(len(user)), np.random.default_rng(1))
    width = [row["precision"]["high"] - row["precision"]["low"] for row in (high, by_row[0])]
    assert width[0] > 2 * width[1]
    assert by_row[0]["expected_value"] is None


def test_an_empty_band_has_no_precision():
    found = measure_bands(
        Thresholds(0.5, 0.7), np.array([0, 1]), np.array([0.1, 0.6]), np.arange(2), np.random.default_rng(0)
    )
    assert found[0]["n_rows"] == 0
    assert np.isnan(found[0]["precision"]["value"])


@pytest.mark.parametrize(
    "rule",
    [
        BandRule(Thresholds(0.1, 0.2)),
        BandRule(Thresholds(0.1, 0.2), worth=Worth(3, 1)),
        BandRule(Thresholds(0.1, 0.2), capacity=Capacity(0.02, 0.1)),
        BandRule(Thresholds(0.1, 0.2), worth=Worth(3, 1), is_by_cost=True),
    ],
    ids=lambda rule: rule.kind,
)
def test_a_rule_survives_its_package(rule):
    assert BandRule.from_json(rule.to_json(), Thresholds(0.1, 0.2)) == rule


def test_options_make_the_rule_they_say():
    assert parse_band_rule(None, None, (), None, None) is None
    assert parse_band_rule(0.1, None, (), None, None) == BandRule(Thresholds(0.1, 0.7))
    assert parse_band_rule(None, None, ("medium=0.1", "high=0.02"), None, None) == BandRule(
        capacity=Capacity(0.02, 0.1)
    )
    assert parse_band_rule(None, None, (), 100.0, 5.0) == BandRule(worth=Worth(100, 5), is_by_cost=True)
    assert not parse_band_rule(0.1, 0.2, (), 100.0, 5.0).is_by_cost


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((0.8, None, (), None, None), "medium <= high"),
        ((0.1, None, ("high=0.1", "medium=0.1"), None, None), "not both"),
        ((None, None, ("high=0.02",), None, None), "needs both bands"),
        ((None, None, ("high=0.02", "high=0.03"), None, None), "each once"),
        ((None, None, ("top=0.02", "medium=0.1"), None, None), "high=SHARE"),
        ((None, None, ("high=2%", "medium=0.1"), None, None), "no number"),
        ((None, None, ("high=0.9", "medium=0.2"), None, None), "at most 1"),
        ((None, None, ("high=nan", "medium=0.2"), None, None), "at most 1"),
        ((None, None, ("high=0", "medium=0"), None, None), "above 0"),
        ((None, None, (), 100.0, None), "give both"),
        ((None, None, (), 5.0, 100.0), "below the value"),
        ((None, None, (), 5.0, 0.0), "above 0"),
        ((None, None, (), float("inf"), 1.0), "below the value"),
    ],
)
def test_half_rules_and_two_rules_at_once_are_refused(options, says):
    with pytest.raises(BadRequestError, match=says):
        parse_band_rule(*options)
