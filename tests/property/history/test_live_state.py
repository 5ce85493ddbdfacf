"""The fold over single events and the vectorised form agree exactly, on any sequence of events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.events.core.event_rows import price_cents
from serve_app.history.core.as_of import DISTINCT_LIMIT, accumulate_history, features_from_accumulators, mean_micros
from serve_app.history.core.final_states import final_states, last_categories
from serve_app.history.core.fold import (
    NO_USER,
    SESSION_BYTES_MAX,
    USER_BYTES,
    SessionState,
    dump_session,
    dump_user,
    mean_micros_of,
    parse_session,
    parse_user,
    remove_session,
)
from serve_app.history.core.fold_batch import KeyedEvent, KeyedRow, Known, fold_events, look_up_rows
from serve_app.history.service.live_history import cents_of
from tests.testing_kit.history.history_logs import LOGS, NOON_S, fold_log, to_columns, to_event

pytestmark = pytest.mark.property

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(LOGS)
@settings(max_examples=400, deadline=None)
def test_fold_and_vectorised_form_agree_on_every_row_to_the_last_bit(log):
    columns = to_columns(log)
    vectorised, folded = accumulate_history(columns), fold_log(log)[2]
    np.testing.assert_array_equal(folded, vectorised)
    np.testing.assert_array_equal(features_from_accumulators(folded), features_from_accumulators(vectorised))


def slow_span(log, row):
    mine = [event[4] for event in log[: row + 1] if event[:2] == log[row][:2]]
    return max(mine) - min(mine)


@given(LOGS)
@settings(max_examples=150, deadline=None)
def test_a_session_lasts_from_its_earliest_to_its_latest_event_so_far_in_whatever_order_they_came(log):
    assert accumulate_history(to_columns(log))[5].tolist() == [slow_span(log, row) for row in range(len(log))]


@given(LOGS)
@settings(max_examples=200, deadline=None)
def test_states_at_the_end_of_a_log_are_those_of_folding_it(log):
    columns = to_columns(log)
    users, sessions, _ = fold_log(log)
    names = list(dict.fromkeys(event[0] for event in log))
    pairs = list(dict.fromkeys(event[:2] for event in log))
    found_users, found_sessions = {}, {}
    for user, state, mine in final_states(columns, np.arange(5), np.arange(3)).each():
        found_users[names[user]] = state
        found_sessions |= {pairs[session]: state for session, state in mine}
        assert {pairs[session][0] for session, _ in mine} == {names[user]}
    assert (found_users, found_sessions) == (users, sessions)


@given(LOGS, st.integers(0, 600))
@settings(max_examples=200, deadline=None)
def test_a_session_that_is_forgotten_has_never_been(log, second):
    before_s = NOON_S + second
    users, sessions, _ = fold_log(log)
    old = {pair: state for pair, state in sessions.items() if state.last_s < before_s}
    for (user, _), state in old.items():
        users[user] = remove_session(users[user], state)
    kept_users, kept_sessions, _ = fold_log([event for event in log if event[:2] not in old])
    assert {u: s for u, s in users.items() if s != NO_USER} == kept_users
    names = list(dict.fromkeys(event[0] for event in log))
    found = {names[u]: (s, len(mine)) for u, s, mine in final_states(
        to_columns(log), np.arange(5), np.arange(3)).each(before_s)}  # fmt: skip
    assert {u: s for u, (s, _) in found.items()} == kept_users
    assert sum(n for _, n in found.values()) == len(kept_sessions)


@given(LOGS)
@settings(max_examples=100, deadline=None)
def test_the_last_category_of_a_product_is_that_of_its_last_event_with_one(log):
    slow = {event[2]: event[3] for event in log if event[3] is not None}
    columns = to_columns(log)
    products, rows = last_categories(columns)
    assert dict(zip(products.tolist(), columns.category[rows].tolist(), strict=True)) == slow


def keyed(log):
    """Events under keys, every third one sent once more, and every fifth of those with other content."""
    out = []
    for k, event in enumerate(log):
        user, session = b"u%d" % event[0], b"s%d-%d" % event[:2]
        key = b"e%d" % k
        out.append(KeyedEvent(user, session, key, b"one", to_event(event)))
        if k % 3 == 0:
            body = to_event(event) if k % 5 else to_event(event)._replace(cents=7, is_purchase=True)
            out.append(KeyedEvent(user, session, key, b"one" if k % 5 else b"other", body))
    return out


@given(LOGS, st.data())
@settings(max_examples=200, deadline=None)
def test_repeated_ids_and_the_borders_of_batches_change_nothing(log, data):
    events = keyed(log)
    known, statuses, at = Known(), [], 0
    while at < len(events):
        n = data.draw(st.integers(1, 9))
        statuses += fold_events(known, events[at : at + n]).statuses
        at += n
    assert statuses.count("recorded") == len(log)
    assert statuses.count("duplicate") == len([k for k in range(0, len(log), 3) if k % 5])
    assert statuses.count("conflict") == len(range(0, len(log), 15))
    users, sessions, _ = fold_log(log)
    assert known.users == {b"u%d" % u: state for u, state in users.items()}
    assert known.sessions == {b"s%d-%d" % pair: state for pair, state in sessions.items()}


def replay_live(log):
    """Look every row up, then record it, under its own key; return what was known at each."""
    known, out = Known(), []
    for k, event in enumerate(log):
        user, session, key, body = b"u%d" % event[0], b"s%d-%d" % event[:2], b"e%d" % k, to_event(event)
        row = KeyedRow(user, session, key, body.product, body.category, body.time_s, body.cents, False)
        at = look_up_rows(known, [row, row], now_s=0).accumulators
        np.testing.assert_array_equal(at[:, 0], at[:, 1])  # rows do not see each other
        fold_events(known, [KeyedEvent(user, session, key, b"", body)])
        again = look_up_rows(known, [row], now_s=0).accumulators
        if body.is_purchase:  # counts from the next event on; a row that is looked up is none
            again[9] = at[9, 0]
        np.testing.assert_array_equal(again[:, 0], at[:, 0])  # what is stored is what was scored
        out.append(at[:, 0])
    return np.array(out, dtype=np.int64).reshape(len(log), 12).T


@given(LOGS)
@settings(max_examples=200, deadline=None)
def test_looking_a_row_up_before_it_is_recorded_gives_the_features_of_the_log_null_categories_too(log):
    np.testing.assert_array_equal(replay_live(log), accumulate_history(to_columns(log)))


@given(LOGS)
@settings(max_examples=100, deadline=None)
def test_encoded_states_come_back_equal(log):
    users, sessions, _ = fold_log(log)
    for user in users.values():
        assert parse_user(dump_user(user)) == user
        assert len(dump_user(user)) == USER_BYTES
    for session in sessions.values():
        assert parse_session(dump_session(session)) == session


@given(st.frozensets(INT64, max_size=30), st.frozensets(INT64, max_size=30), st.booleans())
def test_members_keep_all_their_bits(products, categories, is_bought):
    session = SessionState(3, 2**62, 10**10, 0, 2**40, is_bought, products, categories)
    assert parse_session(dump_session(session)) == session
    assert len(dump_session(session)) <= SESSION_BYTES_MAX


@given(st.integers(DISTINCT_LIMIT - 3, DISTINCT_LIMIT + 40), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_distinct_counts_stop_at_the_limit_in_both_forms(n, seed):
    items = np.random.default_rng(seed).permutation([*range(n), *range(n)]).tolist()
    log = [(0, 0, item, item, k, 100, "view") for k, item in enumerate(items)]
    columns = to_columns(log)
    users, sessions, folded = fold_log(log)
    np.testing.assert_array_equal(folded, accumulate_history(columns))
    assert folded[1].max() == folded[2].max() == min(n, DISTINCT_LIMIT)
    ((_, user, ((_, session),)),) = final_states(columns, np.arange(n), np.arange(n)).each()
    assert (user, session) == (users[0], sessions[0, 0])
    assert len(dump_session(session)) <= SESSION_BYTES_MAX


@given(st.lists(st.tuples(st.integers(0, 2**62), st.integers(1, 10**9)), min_size=1))
def test_means_of_one_and_of_many_are_rounded_alike(pairs):
    pairs = [(min(cents, count * 10**10), count) for cents, count in pairs]
    cents, count = (np.array(c, dtype=np.int64) for c in zip(*pairs, strict=True))
    assert mean_micros(cents, count).tolist() == [mean_micros_of(*pair) for pair in pairs]


@given(st.lists(st.floats(0, 1e8) | st.sampled_from([0.005, 0.015, 0.125, 1e-9]), min_size=1))
def test_prices_of_one_and_of_many_are_rounded_alike(prices):
    assert price_cents(np.array(prices)).tolist() == [cents_of(price) for price in prices]
