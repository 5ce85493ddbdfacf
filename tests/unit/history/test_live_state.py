"""What one event does to a session and a user, and how much room they take."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from serve_app.errors import BadRequestError, InvariantError
from serve_app.features.core.specs import HISTORY_NAMES
from serve_app.history.core.as_of import DISTINCT_LIMIT, features_from_accumulators
from serve_app.history.core.fold import (
    NO_USER,
    SESSION_BYTES_MAX,
    USER_BYTES,
    HistoryEvent,
    UserState,
    accumulate_states,
    add_event,
    dump_session,
    dump_user,
    parse_session,
    parse_user,
    peek_event,
)
from serve_app.history.core.fold_batch import KeyedRow, Known, look_up_rows
from serve_app.privacy.pseudonyms import Pseudonyms

pytestmark = pytest.mark.unit

NAMES = Pseudonyms(b"0123456789abcdef")


def event(product=1, category=1, time_s=1000, cents=100, is_purchase=False):
    return HistoryEvent(product, category, time_s, cents, is_purchase)


def add(user, session, each):
    """Fold an event into the states; return what is known at it too, without its own purchase."""
    grown, after = add_event(user, session, each)
    return grown, after, accumulate_states(grown._replace(purchases=user.purchases), after)


def fold(*events):
    user, session, out = NO_USER, None, []
    for each in events:
        peeked = peek_event(user, session, each._replace(is_purchase=False))
        assert peeked == add(user, session, each._replace(is_purchase=False))[2]
        user, session, accumulators = add(user, session, each)
        out.append(dict(zip(HISTORY_NAMES, features_from_accumulators(np.array([accumulators]).T)[:, 0], strict=True)))
    return user, session, out


def test_a_first_event_counts_itself_once():
    user, session, (found,) = fold(event(cents=1250))
    assert [found[n] for n in ("total_events_x", "unique_products", "unique_categories", "total_sessions")] == [1] * 4
    assert found["avg_price"] == found["max_price"] == found["avg_price_viewed"] == 12.5
    assert found["session_duration"] == found["total_purchases"] == 0
    assert user == UserState(1, 1, 0, 0, 1, 12_500_000)
    assert session.products == {1}


def test_a_late_event_stretches_the_session_from_then_on_and_nothing_before():
    _, session, found = fold(event(time_s=1000), event(time_s=1060), event(time_s=880), event(time_s=1000))
    assert [f["session_duration"] for f in found] == [0, 1, 3, 3]
    assert (session.first_s, session.last_s) == (880, 1060)


def test_a_purchase_counts_from_the_next_event_on_with_or_without_a_view():
    user, _, found = fold(event(is_purchase=True), event(is_purchase=True), event())
    assert [f["total_purchases"] for f in found] == [0, 1, 1]
    assert user.purchases == 1


def test_the_states_that_went_in_are_not_changed():
    user, session, _ = fold(event())
    before = (user, session, session.products)
    add_event(user, session, event(product=2))
    assert (user, session, session.products) == before


def test_a_session_of_100_000_events_stays_within_its_bound():
    user, session = NO_USER, None
    for k in range(100_000):
        user, session, accumulators = add(user, session, event(k, k, k, 10**10))
    assert accumulators[:3] == (100_000, DISTINCT_LIMIT, DISTINCT_LIMIT)
    one_more = event(-1, -1, 0, 1)
    assert peek_event(user, session, one_more) == add(user, session, one_more)[2]
    assert session.products == session.categories == frozenset(range(DISTINCT_LIMIT))
    assert len(dump_session(session)) == SESSION_BYTES_MAX == 16_429
    assert len(dump_user(user)) == USER_BYTES == 56
    assert parse_session(dump_session(session)) == session


def test_sums_beyond_64_bits_are_kept_and_shown_as_the_largest_number():
    user = NO_USER
    for _ in range(92_235):
        user, session = add_event(user, None, event(cents=10**10))
    assert user.micros == 92_235 * 10**14 > 2**63
    assert peek_event(user, session, event()) == add(user, session, event())[2]
    assert parse_user(dump_user(user)) == user
    features = features_from_accumulators(np.array([accumulate_states(user, session)]).T)
    assert np.isfinite(features).all()


@pytest.mark.parametrize("data", [b"", b"\0", bytes(USER_BYTES + 1)])
def test_a_damaged_user_is_named(data):
    with pytest.raises(InvariantError, match="state of a user is damaged"):
        parse_user(data)


def test_a_damaged_session_is_named():
    whole = dump_session(fold(event(), event(product=2))[1])
    for data in (b"", whole[:20], whole[:-1]):
        with pytest.raises(InvariantError, match="state of a session is damaged"):
            parse_session(data)


def look_up(known, now_s=0, **changes):
    row = KeyedRow(b"u", b"s", None, 1, 1, 1000, 100)._replace(**changes)
    return look_up_rows(known, [row], now_s).accumulators[:, 0].tolist()


def test_a_row_whose_event_is_stored_is_not_added_again():
    user, session, _ = fold(event(), event())
    known = Known({b"u": user}, {b"s": session}, {b"e": b""})
    assert look_up(known)[0] == 3
    assert look_up(known, event=b"e")[0] == 2
    assert look_up(known, event=b"other")[0] == 3
    # stored in a session that is forgotten since: the row is all there is
    assert look_up(known, event=b"e", session=b"gone")[0] == 1


def test_the_clock_is_used_for_rows_without_time_and_never_runs_backwards_in_a_session():
    user, session, _ = fold(event(time_s=1000), event(time_s=1060))
    known = Known({b"u": user}, {b"s": session})
    assert look_up(known, now_s=1120, time_s=None)[5] == 120
    assert look_up(known, now_s=0, time_s=None)[5] == 60
    assert look_up(Known(), now_s=0, time_s=None)[5] == 0


def test_keys_are_the_same_in_every_process_and_release():
    user = NAMES.user("541312140")
    assert user.hex() == "528bee064c071a381f0e037f152ee739"
    assert NAMES.session(user, "s-1").hex() == "6e47cd9795ec80f29b18be410618390e"
    assert NAMES.event("e-1").hex() == "8661eaa5c8e6145fd4775d44c5b3498b"
    assert (NAMES.product("1004856"), NAMES.category("2053013555631882655")) == (
        -5984765774401122923,
        -4356185647113696724,
    )


def test_one_text_has_another_key_in_every_role_and_under_every_secret():
    found = {
        NAMES.user("1"), NAMES.event("1"), NAMES.session(b"", "1"), Pseudonyms(b"another secret of ids").user("1"),
        struct.pack("<q", NAMES.product("1")), struct.pack("<q", NAMES.category("1")),
    }  # fmt: skip
    assert len(found) == 6
    assert NAMES.session(NAMES.user("a"), "b") != NAMES.session(NAMES.user("b"), "a")
    assert NAMES.check != Pseudonyms(b"another secret of ids").check


def test_contents_differ_when_anything_does():
    base = (b"s", 1, 2, "view", 1.5, 10)
    others = [(b"t", 1, 2, "view", 1.5, 10), (b"s", 3, 2, "view", 1.5, 10), (b"s", 1, None, "view", 1.5, 10),
              (b"s", 1, 0, "view", 1.5, 10), (b"s", 1, 2, "cart", 1.5, 10), (b"s", 1, 2, "view", 1.51, 10),
              (b"s", 1, 2, "view", 1.5, None), (b"s", 1, 2, "view", 1.5, 0)]  # fmt: skip
    assert len({NAMES.content(*each) for each in [base, base, *others]}) == 1 + len(others)


@pytest.mark.parametrize("secret", [b"", b"short", b"x" * 65])
def test_a_secret_of_the_wrong_size_is_refused(secret):
    with pytest.raises(BadRequestError, match="16 to 64 are needed"):
        Pseudonyms(secret)
