"""PSI against what chance gives, bins of the reference, and words for it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from serve_app.features.core.specs import UNKNOWN_CLASS
from serve_app.stats.design_effect import effective_rows
from serve_app.stats.drift import (
    count_classes,
    count_numbers,
    find_discoveries,
    measure_drift,
)
from serve_app.stats.profile import profile_classes, profile_numbers, profile_table
from serve_app.stats.psi import expected_psi, measure_psi, psi_p_value, smallest_visible_psi

pytestmark = pytest.mark.unit

CLASSES = ["a", "b", "c", UNKNOWN_CLASS]


def test_without_drift_the_index_has_the_mean_and_spread_it_is_said_to_have():
    rng = np.random.default_rng(0)
    shares = np.array([0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05])
    n, m = 1_000, 400
    psis = [
        measure_psi(rng.multinomial(n, shares).astype(float), rng.multinomial(m, shares).astype(float))[0]
        for _ in range(4_000)
    ]
    assert np.mean(psis) == pytest.approx(expected_psi(7, n, m), rel=0.03)
    assert np.mean([psi_p_value(psi, 7, n, m) < 0.05 for psi in psis]) == pytest.approx(0.05, abs=0.012)


def test_a_known_shift_has_its_known_index():
    psi, n_bins = measure_psi(np.array([50_000.0, 50_000.0, 0.0]), np.array([75_000.0, 25_000.0, 0.0]))
    assert psi == pytest.approx(0.25 * np.log(1.5) - 0.25 * np.log(0.5), rel=1e-4)
    assert n_bins == 2


def test_numbers_fall_into_the_bins_of_the_reference_or_out_of_range_or_are_missing():
    reference = profile_numbers("x", np.arange(1.0, 101.0))
    counts = count_numbers(reference, np.array([1.0, 10.0, 55.0, 100.0, 0.5, 101.0, np.nan]))
    assert counts[-2:].tolist() == [2, 1]
    assert counts[0] == 2
    assert counts[9] == 1
    assert counts.sum() == 7


def test_the_reference_counts_itself_as_it_was_counted():
    rng = np.random.default_rng(0)
    for values in (rng.normal(size=500), np.zeros(50), rng.poisson(0.3, 500).astype(float), np.full(9, np.nan)):
        reference = profile_numbers("x", values)
        assert count_numbers(reference, values).tolist() == [row["count"] for row in reference]


def test_a_change_in_the_share_of_the_commonest_value_is_seen():
    before = np.repeat([0.0, 1.0, 2.0], [950, 30, 20])
    after = np.repeat([0.0, 1.0, 2.0], [500, 300, 200])
    reference = profile_numbers("total_purchases", before)
    psi, _ = measure_psi(count_numbers(reference, before), count_numbers(reference, after))
    assert psi > 0.5


def test_classes_fall_into_their_own_bin_the_others_or_the_unseen():
    reference = profile_classes("brand", np.array([0, 0, 1, 3]), CLASSES, UNKNOWN_CLASS)
    labels = [row["label"] for row in reference]
    counts = dict(zip(labels, count_classes(reference, np.array([0, 2, 3, 3]), CLASSES, UNKNOWN_CLASS), strict=True))
    assert counts == {"a": 1, "b": 0, "(other classes)": 1, "(unseen)": 2}


def test_codes_outside_the_vocabulary_are_unseen():
    reference = profile_classes("brand", np.array([0, 0, 1]), ["a", "b", UNKNOWN_CLASS], UNKNOWN_CLASS)
    assert count_classes(reference, np.array([-1, 0, 9]), ["a", "b"], UNKNOWN_CLASS)[-1] == 2


def sample(rng, n, *, mean=0.0, weights=(0.5, 0.3, 0.2)):
    numbers = rng.normal(mean, 1, (n, 2))
    numbers[:, 1] = rng.normal(0, 1, n)
    matrix = np.column_stack([numbers, rng.choice(3, n, p=weights)]).astype(np.float32)
    return matrix, stats.norm.cdf(matrix[:, 0])


def drift_of(before, after, n_reference=None):
    vocabularies = {"brand": CLASSES}
    names = ("moved", "still", "brand")
    reference = profile_table(*before, names, vocabularies, UNKNOWN_CLASS)
    sizes = {"n_reference": n_reference or len(before[1]), "n_new": n_reference or len(after[1])}
    return measure_drift(reference, *after, names, vocabularies, UNKNOWN_CLASS, **sizes)


def test_what_moved_is_named_and_the_score_comes_first():
    rng = np.random.default_rng(0)
    found = drift_of(sample(rng, 5_000), sample(rng, 5_000, mean=0.6, weights=(0.1, 0.3, 0.6)))
    assert found[0].feature == "score"
    verdicts = {one.feature: one.verdict for one in found}
    assert verdicts == {"score": "large", "moved": "large", "brand": "large", "still": "none"}


def test_a_slight_shift_is_beyond_chance_and_called_small():
    rng = np.random.default_rng(1)
    found = drift_of(sample(rng, 50_000), sample(rng, 50_000, mean=0.1))
    assert {one.feature: one.verdict for one in found}["moved"] == "small"


def test_without_drift_hardly_any_run_calls_one():
    rng = np.random.default_rng(2)
    alarms = sum(
        any(one.verdict not in {"none", "too few rows"} for one in drift_of(sample(rng, 800), sample(rng, 300)))
        for _ in range(200)
    )
    assert alarms <= 6


def test_discoveries_are_those_of_scipy():
    rng = np.random.default_rng(0)
    for _ in range(200):
        p_values = rng.random(20) ** rng.integers(1, 6)
        expected = stats.false_discovery_control(p_values) <= 0.05
        assert find_discoveries(p_values.tolist(), 0.05) == expected.tolist()
    assert find_discoveries([], 0.05) == []


def test_p_values_are_those_of_the_chi_squared_distribution():
    unit = 1 / 300 + 1 / 200
    assert psi_p_value(21.7 * unit, 10, 300, 200) == pytest.approx(stats.chi2.sf(21.7, 9))
    assert psi_p_value(smallest_visible_psi(10, 300, 200, 0.01), 10, 300, 200) == pytest.approx(0.01)
    assert psi_p_value(5.0, 1, 300, 200) == 1.0


def test_few_rows_are_said_to_be_too_few():
    rng = np.random.default_rng(0)
    assert {one.verdict for one in drift_of(sample(rng, 100), sample(rng, 60))} == {"too few rows"}


def test_rows_of_few_users_do_not_pass_for_many_rows():
    rng = np.random.default_rng(0)
    before, after = sample(rng, 100), sample(rng, 100)
    many = [np.repeat(matrix, 50, axis=0) for matrix in (before[0], after[0])]
    scores = [np.repeat(score, 50) for score in (before[1], after[1])]
    blind = drift_of((many[0], scores[0]), (many[1], scores[1]))
    assert any(one.verdict != "none" for one in blind)
    users = np.repeat(np.arange(100), 50)
    aware = drift_of((many[0], scores[0]), (many[1], scores[1]), effective_rows(users))
    assert {one.verdict for one in aware} == {"too few rows"}


def test_effective_rows_are_the_users_when_all_have_the_same_number_and_fewer_otherwise():
    assert effective_rows(np.repeat(np.arange(7), 3)) == pytest.approx(7)
    assert effective_rows(np.repeat([0, 1], [99, 1])) == pytest.approx(10_000 / 9_802)
    assert effective_rows(np.empty(0, dtype=np.int64)) == 0


def test_an_input_named_score_is_told_from_the_scores():
    rng = np.random.default_rng(0)
    matrix, scores = rng.normal(size=(2_000, 1)).astype(np.float32), rng.random(2_000)
    reference = profile_table(matrix, scores, ["score"], {}, UNKNOWN_CLASS)
    drifts = measure_drift(reference, matrix, scores, ["score"], {}, UNKNOWN_CLASS, n_reference=2_000, n_new=2_000)
    assert [drift.psi for drift in drifts] == [0.0, 0.0]
