"""The vectorised history agrees with a slow, obvious reference, value for value."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.events.core.columns import EventColumns
from serve_app.features.core.specs import HISTORY_NAMES
from serve_app.history.core.as_of import accumulate_history, features_from_accumulators, mean_micros
from serve_app.training.core.target import purchase_target, session_end_s

pytestmark = pytest.mark.property

EVENT = st.tuples(
    st.integers(0, 3),  # user
    st.integers(0, 2),  # session of the user
    st.integers(0, 4),  # product
    st.integers(-1, 2),  # category
    st.integers(0, 500),  # seconds since the event before
    st.integers(0, 10**10),  # cents
    st.sampled_from(["view", "view", "cart", "purchase"]),
)
LOG = st.lists(EVENT, max_size=60)


def to_columns(log):
    user, session, product, category, gap, cents, kind = (list(c) for c in zip(*log, strict=True)) if log else [[]] * 7
    number = {}
    codes = [number.setdefault(pair, len(number)) for pair in zip(user, session, strict=True)]
    as_int = lambda v: np.asarray(v, dtype=np.int64)  # noqa: E731
    return EventColumns(
        as_int(user),
        as_int(codes),
        as_int(product),
        as_int(category),
        np.cumsum(as_int(gap)),
        as_int(cents),
        np.asarray([k == "purchase" for k in kind], dtype=bool),
    )


def half_even_micros(cents, n):
    return round(Fraction(cents * 10_000, n))  # Python rounds fractions half to even


def slow_features(log):
    """Go through the events one by one, and recompute everything from lists of what happened."""
    seen = defaultdict(lambda: defaultdict(list))
    bought = defaultdict(set)
    now, out = 0, []
    for user, session, product, category, gap, cents, kind in log:
        now += gap
        seen[user][session].append((product, category, now, cents))
        sessions = seen[user]
        mine = sessions[session]
        n, prices = len(mine), [e[3] for e in mine]
        distinct = {s: len({e[0] for e in events}) for s, events in sessions.items()}
        seconds = {s: events[-1][2] - events[0][2] for s, events in sessions.items()}
        micros = sum(half_even_micros(sum(e[3] for e in events), len(events)) for events in sessions.values())
        n_sessions, n_events = len(sessions), sum(map(len, sessions.values()))
        f = np.float64
        row = [
            n,
            distinct[session],
            len({e[1] for e in mine} - {-1}),
            f(sum(prices)) / f(100 * n),
            f(max(prices)) / 100,
            f(sum(prices)) / 100,
            f(seconds[session]) / 60,
            f(n_events) / n_sessions,
            n_events,
            f(sum(distinct.values())) / n_sessions,
            sum(distinct.values()),
            f(sum(seconds.values())) / f(60 * n_sessions),
            len(bought[user]),
            n_sessions,
            f(micros) / f(1_000_000 * n_sessions),
            f(len(bought[user])) / n_sessions,
        ]
        out.append(np.asarray(row, dtype=np.float64).astype(np.float32))
        if kind == "purchase":
            bought[user].add(session)
    return np.array(out, dtype=np.float32).reshape(len(log), len(HISTORY_NAMES))


@given(LOG)
@settings(max_examples=300, deadline=None)
def test_vectorised_history_equals_the_slow_reference_to_the_last_bit(log):
    columns = to_columns(log)
    fast = features_from_accumulators(accumulate_history(columns)).T
    np.testing.assert_array_equal(fast, slow_features(log))


@given(LOG)
@settings(max_examples=150, deadline=None)
def test_nothing_after_a_row_changes_its_features(log):
    whole = accumulate_history(to_columns(log))
    for k in (len(log) // 3, len(log) // 2):
        np.testing.assert_array_equal(whole[:, :k], accumulate_history(to_columns(log[:k])))


@given(LOG)
@settings(max_examples=150, deadline=None)
def test_target_is_a_later_purchase_of_the_same_product_in_the_same_session(log):
    columns = to_columns(log)
    slow = [
        any(other[:3] == event[:3] and other[6] == "purchase" for other in log[i + 1 :]) for i, event in enumerate(log)
    ]
    assert purchase_target(columns).tolist() == slow


@given(LOG)
@settings(max_examples=100, deadline=None)
def test_session_end_is_the_time_of_its_last_event(log):
    columns = to_columns(log)
    slow = [int(columns.time_s[columns.session == s].max()) for s in columns.session]
    assert session_end_s(columns).tolist() == slow


@given(st.lists(st.tuples(st.integers(0, 9 * 10**14), st.integers(1, 10**5)), min_size=1))
def test_mean_micros_rounds_half_to_even_exactly(pairs):
    cents, count = (np.array(c, dtype=np.int64) for c in zip(*pairs, strict=True))
    assert mean_micros(cents, count).tolist() == [half_even_micros(c, n) for c, n in pairs]
