"""A shadow's differences add up, whoever counted them, and the summary says what they were."""

from __future__ import annotations

import numpy as np
import pytest

from serve_app.errors import InvariantError
from serve_app.scoring.core.shadow import (
    ShadowCounters,
    describe_shadow,
)

pytestmark = pytest.mark.unit


def pairs(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    live = rng.random(n)
    return live, np.clip(live + rng.normal(0, 0.01, n), 0, 1)


def count_singly(live, shadow) -> ShadowCounters:
    counters = ShadowCounters(n_copied=len(live))
    for one, other in zip(live.tolist(), shadow.tolist(), strict=True):
        counters.count_pair(one, other, is_changed=(one > 0.5) != (other > 0.5), latency_s=0.004)
    return counters


def test_the_summary_says_what_the_differences_were():
    live, shadow = pairs(5000, 0)
    found = describe_shadow(count_singly(live, shadow))
    differences = shadow - live
    assert found["n_compared"] == 5000
    assert found["mean_difference"] == pytest.approx(differences.mean())
    assert found["standard_error"] == pytest.approx(differences.std(ddof=1) / np.sqrt(5000))
    assert found["mean_absolute_difference"] == pytest.approx(np.abs(differences).mean())
    assert found["largest_difference"] == np.abs(differences).max()
    assert found["changed_share"] == np.mean((live > 0.5) != (shadow > 0.5))
    assert found["mean_latency_s"] == pytest.approx(0.004)
    for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)):
        exact = np.quantile(np.abs(differences), q, method="higher")
        assert exact <= found["quantiles"][name] * (1 + 1e-9)
        assert found["quantiles"][name] <= 1.21 * exact


def test_parts_add_up_to_the_whole_and_survive_json():
    live, shadow = pairs(900, 1)
    whole = count_singly(live, shadow)
    parts = [count_singly(live[k::3], shadow[k::3]) for k in range(3)]
    total = ShadowCounters.merge(ShadowCounters.parse(part.dump()) for part in parts)
    assert total.difference_bins == whole.difference_bins
    assert (total.n_copied, total.n_compared, total.n_changed) == (900, 900, whole.n_changed)
    assert total.largest == whole.largest
    assert total.difference_sum == pytest.approx(whole.difference_sum)


def test_a_table_counts_as_its_rows():
    live, shadow = pairs(500, 2)
    single = count_singly(live, shadow)
    table = ShadowCounters(n_copied=500)
    table.count_table(live, shadow, n_changed=single.n_changed, latency_s=0.004)
    assert table.difference_bins == single.difference_bins
    assert describe_shadow(table)["mean_difference"] == pytest.approx(describe_shadow(single)["mean_difference"])


def test_rows_that_only_the_shadow_rejects_have_failed():
    nan = float("nan")
    counters = ShadowCounters(n_copied=3)
    counters.count_table(np.array([0.1, 0.2, nan]), np.array([0.1, nan, nan]), n_changed=0, latency_s=0.0)
    assert (counters.n_compared, counters.n_failed) == (1, 1)


def test_equal_scores_differ_by_nothing():
    counters = ShadowCounters()
    counters.count_pair(0.25, 0.25, is_changed=False, latency_s=0.001)
    found = describe_shadow(counters)
    assert (found["largest_difference"], found["changed_share"]) == (0.0, 0.0)
    assert set(found["quantiles"].values()) == {0.0}


def test_before_anything_was_compared_only_counts_are_told():
    assert describe_shadow(ShadowCounters(n_copied=2, n_dropped=2)) == {
        "n_copied": 2, "n_dropped": 2, "n_failed": 0, "n_compared": 0,
    }  # fmt: skip


@pytest.mark.parametrize("damage", [{"n_copied": float("nan")}, {"difference_bins": [0]}, {"other": 1}])
def test_what_was_not_written_by_a_gateway_is_refused(damage):
    with pytest.raises(InvariantError, match="not a shadow's counters"):
        ShadowCounters.parse(ShadowCounters().dump() | damage)
