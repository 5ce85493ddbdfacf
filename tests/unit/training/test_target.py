"""Target and split: nothing of a later slice is known in an earlier one."""

from __future__ import annotations

import numpy as np
import pytest

from serve_app.errors import InvalidDataError
from serve_app.events.core.columns import EventColumns
from serve_app.training.core.target import STOP, TEST, TRAIN, choose_split, may_be_open, purchase_target

pytestmark = pytest.mark.unit


def test_only_a_later_purchase_of_this_product_in_this_session_counts():
    session = np.array([0, 0, 0, 0, 1, 1])
    product = np.array([5, 6, 5, 5, 5, 6])
    bought = np.array([0, 0, 1, 0, 0, 1], dtype=bool)
    n = len(session)
    events = EventColumns(np.zeros(n, int), session, product, np.zeros(n, int), np.arange(n), np.ones(n, int), bought)
    assert purchase_target(events).tolist() == [True, False, False, False, False, False]


def test_a_session_with_an_event_in_the_last_half_hour_may_be_open():
    assert may_be_open(np.array([0, 98_200, 98_201]), 0, 100_000).tolist() == [False, False, True]


def test_of_a_short_log_the_last_tenth_is_open():
    assert may_be_open(np.array([0, 9000, 9001]), 0, 10_000).tolist() == [False, False, True]


def test_slices_follow_each_other_and_sessions_stay_whole():
    split = choose_split(np.repeat(np.arange(50), 2))
    assert (split.stop_from_s, split.test_from_s) == (35, 40)
    assert split.slices[[0, 69, 70, 79, 80, 99]].tolist() == [TRAIN, TRAIN, STOP, STOP, TEST, TEST]


@pytest.mark.parametrize("time_s", [np.zeros(50, int), np.empty(0, int)])
def test_rows_that_cannot_be_split_in_time_are_refused(time_s):
    with pytest.raises(InvalidDataError, match=r"slice is empty|no rows"):
        choose_split(time_s)
