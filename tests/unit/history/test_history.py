"""What the history features mean, one fact at a time."""

from __future__ import annotations

import numpy as np
import pytest

from serve_app.events.core.columns import EventColumns, group_rows
from serve_app.features.core.specs import HISTORY_NAMES
from serve_app.history.core.as_of import (
    ACCUMULATOR_NAMES,
    DISTINCT_LIMIT,
    accumulate_history,
    features_from_accumulators,
)

pytestmark = pytest.mark.unit


def columns(*events, time_s=None):
    """Build columns of (user, session, product, category, cents, is_purchase)."""
    user, session, product, category, cents, bought = (np.asarray(c) for c in zip(*events, strict=True))
    time_s = np.arange(len(events)) * 60 if time_s is None else np.asarray(time_s)
    return EventColumns(user, session, product, category, time_s, cents, bought.astype(bool))


def features(events):
    return dict(zip(HISTORY_NAMES, features_from_accumulators(accumulate_history(events)).tolist(), strict=True))


def test_the_row_itself_counts_once():
    found = features(columns((0, 0, 0, 0, 1250, False)))
    ones = ["total_events_x", "unique_products", "unique_categories", "total_events_y", "total_sessions"]
    assert [found[name] for name in ones] == [[1.0]] * 5
    assert found["avg_price"] == found["max_price"] == found["avg_price_viewed"] == [12.5]
    assert found["session_duration"] == found["total_purchases"] == [0.0]


def test_a_purchase_counts_only_for_the_rows_after_it():
    found = features(columns((0, 0, 0, 0, 100, True), (0, 0, 0, 0, 100, False), (0, 1, 0, 0, 100, False)))
    assert found["total_purchases"] == [0.0, 1.0, 1.0]
    assert found["conversion_rate"] == [0.0, 1.0, 0.5]


def test_two_purchases_of_one_session_are_one_session_with_a_purchase():
    found = features(columns((0, 0, 0, 0, 100, True), (0, 0, 1, 0, 100, True), (0, 0, 1, 0, 100, False)))
    assert found["total_purchases"] == [0.0, 1.0, 1.0]


def test_a_row_without_category_adds_none():
    found = features(columns((0, 0, 0, -1, 100, False), (0, 0, 1, 4, 100, False), (0, 0, 2, -1, 100, False)))
    assert found["unique_categories"] == [0.0, 1.0, 1.0]


def test_users_do_not_see_each_other():
    found = features(columns((0, 0, 0, 0, 100, True), (1, 1, 0, 0, 900, False), (0, 0, 0, 0, 300, False)))
    assert found["total_events_y"] == [1.0, 1.0, 2.0]
    assert found["max_price"] == [1.0, 9.0, 3.0]


def test_interleaved_sessions_of_one_user_both_keep_growing():
    found = features(
        columns((0, 0, 0, 0, 100, False), (0, 1, 1, 0, 300, False), (0, 0, 2, 0, 500, False), time_s=[0, 60, 180])
    )
    assert found["session_duration"] == [0.0, 0.0, 3.0]
    assert found["avg_session_duration"] == [0.0, 0.0, 1.5]
    assert found["avg_price_viewed"] == [1.0, 2.0, 3.0]
    assert found["total_products_viewed"] == [1.0, 2.0, 3.0]


def test_distinct_counts_stop_at_the_limit():
    n = DISTINCT_LIMIT + 50
    found = features(columns(*((0, 0, k, k, 100, False) for k in range(n))))
    assert max(found["unique_products"]) == max(found["unique_categories"]) == DISTINCT_LIMIT
    assert found["total_products_viewed"][-1] == DISTINCT_LIMIT
    assert found["total_events_x"][-1] == n


def test_an_empty_log_has_no_rows():
    empty = EventColumns(*(np.empty(0, dtype=np.int64) for _ in range(6)), np.empty(0, dtype=bool))
    accumulators = accumulate_history(empty)
    assert accumulators.shape == (len(ACCUMULATOR_NAMES), 0)
    assert features_from_accumulators(accumulators).shape == (16, 0)


def test_codes_too_large_to_be_packed_are_grouped_all_the_same():
    codes = np.array([7, 2**62, 7, 1, 2**62])
    groups = group_rows(codes)
    assert groups.rows.tolist() == [3, 0, 2, 1, 4]
    assert groups.start.tolist() == [0, 1, 1, 3, 3]
