"""Every store of states keeps the same promises: SQLite in a file, a real Redis server, and the tests' fake."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest

from serve_app.errors import BadRequestError, InvariantError, NotReadyError
from serve_app.features.core.specs import HISTORY_NAMES
from serve_app.history.adapters import redis_state
from serve_app.history.adapters.open_store import open_state_store
from serve_app.history.core.as_of import accumulate_history, features_from_accumulators
from serve_app.history.core.fold import SESSION_BYTES_MAX
from serve_app.history.service.live_history import LiveEvent
from serve_app.history.service.ports import StateStore
from serve_app.privacy.pseudonyms import Pseudonyms
from serve_app.storage import sqlite_connections
from tests.testing_kit.history.history_logs import NOON_S, to_columns
from tests.testing_kit.history.state_places import DAY_S, NAMES, Clock, scored_row, shop_event

pytestmark = pytest.mark.contract


@pytest.fixture
def history(state_place):
    return state_place.history()


def statuses(outcomes):
    return [outcome.status for outcome in outcomes]


def features(history, **changes):
    found = history.lookup([scored_row(**changes)])
    assert found.is_known.all()
    return dict(zip(HISTORY_NAMES, found.features[:, 0].tolist(), strict=True))


def random_log(n, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (int(rng.integers(6)), int(rng.integers(3)), int(rng.integers(20)), int(rng.integers(4)),
         k * 7 - int(rng.integers(0, 300)), int(rng.integers(1, 10**6)), str(rng.choice(["view", "cart", "purchase"])))
        for k in range(n)
    ]  # fmt: skip


def as_shop_event(event, k, **changes):
    user, session, product, category, second, cents, kind = event
    made = LiveEvent(
        f"u{user}", f"s{session}", f"p{product}", kind, cents / 100, NOON_S + second, f"c{category}", f"e{k}"
    )
    return dataclasses.replace(made, **changes)


def as_row(event, k):
    made = as_shop_event(event, k)
    return scored_row(
        user_id=made.user_id, session_id=made.session_id, product_id=made.product_id, price=made.price,
        time_s=made.time_s, category_id=made.category_id, event_id=made.event_id,
    )  # fmt: skip


def test_it_is_a_state_store(state_place):
    store: StateStore = state_place.open()
    for name in ("record", "lookup", "load_states", "load_categories", "erase", "forget", "close"):
        assert callable(getattr(store, name))


def test_features_before_each_event_are_those_of_the_log_value_for_value(state_place):
    log = random_log(150)
    history = state_place.history(Clock(NOON_S + DAY_S))
    online = []
    for k, event in enumerate(log):
        online.append(history.lookup([as_row(event, k)]).features[:, 0])
        assert statuses(history.record([as_shop_event(event, k)])) == ["recorded"]
        # asked again after it is stored, the row is not counted twice
        again = history.lookup([as_row(event, k)]).features[:, 0]
        if event[6] != "purchase":
            np.testing.assert_array_equal(again, online[-1])
    offline = features_from_accumulators(accumulate_history(to_columns(log)))
    np.testing.assert_array_equal(np.array(online).T, offline)


def test_a_batch_is_the_same_as_its_events_one_by_one(state_place):
    log = random_log(120, seed=1)
    clock = Clock(NOON_S + DAY_S)
    history = state_place.history(clock)
    assert statuses(history.record([as_shop_event(e, k) for k, e in enumerate(log)])) == ["recorded"] * len(log)
    rows = [as_row(event, f"new{k}") for k, event in enumerate(log)]
    together = history.lookup(rows).features
    alone = np.array([history.lookup([row]).features[:, 0] for row in rows]).T
    np.testing.assert_array_equal(together, alone)


def test_what_was_recorded_is_seen_by_another_client(history, state_place):
    history.record([shop_event(k) for k in range(3)])
    assert features(state_place.history(), product_id="p9", category_id="c9")["total_events_x"] == 4


def test_an_event_counts_once_however_often_it_is_sent(history):
    assert statuses(history.record([shop_event(), shop_event()])) == ["recorded", "duplicate"]
    assert statuses(history.record([shop_event(), shop_event(1)])) == ["duplicate", "recorded"]
    assert features(history)["total_events_x"] == 3


@pytest.mark.parametrize(
    "change",
    [{"price": 10.01}, {"time_s": NOON_S + 1}, {"event_type": "cart"}, {"product_id": "p1"}, {"user_id": "ben"},
     {"session_id": "s2"}, {"category_id": "c1"}],
)  # fmt: skip
def test_another_event_with_the_same_id_is_a_conflict_and_counts_nowhere(history, change):
    history.record([shop_event()])
    before = features(history)
    (outcome, other) = history.record([shop_event(**change), shop_event(5)])
    assert (outcome.status, other.status) == ("conflict", "recorded")
    assert "with other content" in outcome.detail
    assert features(history)["total_events_x"] == before["total_events_x"] + 1


def test_events_without_id_are_all_events(history):
    assert statuses(history.record([shop_event(event_id=None)] * 3)) == ["recorded"] * 3
    assert features(history)["total_events_x"] == 4


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"user_id": None}, "no user_id"), ({"user_id": ""}, "no user_id"), ({"product_id": None}, "no product_id"),
     ({"session_id": None}, "no user_session"), ({"price": 0.0}, "price not above 0"),
     ({"price": -1.0}, "price not above 0"), ({"price": None}, "price missing or not finite"),
     ({"price": float("nan")}, "price missing or not finite"), ({"price": float("inf")}, "price missing or not finite"),
     ({"price": 2e8}, "price above 100 million"), ({"event_type": "wish"}, "unknown event_type")],
)  # fmt: skip
def test_what_is_no_event_is_dropped_with_its_reason(history, change, reason):
    (outcome, other) = history.record([shop_event(**change), shop_event(1)])
    assert (outcome.status, outcome.detail, other.status) == ("dropped", reason, "recorded")
    assert features(history)["total_events_x"] == 2


def test_a_row_without_user_session_product_or_price_has_no_history(history):
    rows = [scored_row(), *(scored_row(**{name: None}) for name in ("user_id", "session_id", "product_id", "price"))]
    found = history.lookup(rows)
    assert found.is_known.tolist() == [True, False, False, False, False]
    assert np.isnan(found.features[:, 1:]).all()
    assert history.lookup([]).features.shape == (16, 0)


def test_times_that_cannot_be_are_refused_and_say_why(history):
    outcomes = history.record(
        [shop_event(1, time_s=NOON_S + 301), shop_event(2, time_s=NOON_S + 300), shop_event(3, time_s=-1),
         shop_event(4, time_s=NOON_S - 30 * DAY_S - 1), shop_event(5, time_s=NOON_S - 30 * DAY_S),
         shop_event(6, time_s=2**62)]
    )  # fmt: skip
    assert statuses(outcomes) == ["refused", "recorded", "dropped", "refused", "recorded", "dropped"]
    assert [outcomes[k].detail for k in (2, 5)] == ["event_time before 1970", "event_time after 2099"]
    assert "301 s ahead of this server's clock" in outcomes[0].detail
    assert "30.0 days ago; beyond 30 days" in outcomes[3].detail


def test_a_clock_that_was_set_back_harms_nothing(state_place):
    clock = Clock(NOON_S + 3600)
    history = state_place.history(clock)
    history.record([shop_event(k, time_s=NOON_S + 600 * k) for k in range(4)])
    clock.now_s = NOON_S - 7 * DAY_S
    assert features(history, time_s=None)["session_duration"] == 30.0
    assert history.forget() == 0
    assert statuses(history.record([shop_event(9, time_s=NOON_S + 3600), shop_event(8, time_s=None)])) == [
        "refused", "recorded",
    ]  # fmt: skip
    clock.now_s = NOON_S + 3600
    assert statuses(history.record([shop_event(9, time_s=NOON_S + 3600)])) == ["recorded"]
    assert features(history, time_s=None)["total_events_x"] == 7


def test_a_row_without_time_is_scored_as_of_the_clock(state_place):
    clock = Clock(NOON_S)
    history = state_place.history(clock)
    history.record([shop_event()])
    clock.now_s = NOON_S + 90.7
    assert features(history, time_s=None)["session_duration"] == 1.5


def test_a_row_without_category_takes_the_one_last_seen_for_its_product(history):
    history.record([shop_event(1, user_id="ben", product_id="p", category_id="old")])
    history.record([shop_event(2, user_id="ben", product_id="p", category_id="new")])
    history.record([shop_event(3, product_id="x", category_id="new")])
    assert features(history, product_id="p", category_id=None)["unique_categories"] == 1
    assert features(history, product_id="p", category_id="old")["unique_categories"] == 2
    assert features(history, product_id="never seen", category_id=None)["unique_categories"] == 1


def test_a_row_that_says_it_has_no_category_adds_none(history):
    history.record([shop_event(1, product_id="p", category_id="a", session_id="s0")])
    assert features(history, product_id="p", category_id=None)["unique_categories"] == 1
    assert features(history, product_id="p", category_id="")["unique_categories"] == 0


def test_a_scored_row_that_is_recorded_counts_the_category_it_was_scored_with(history):
    history.record([shop_event(1, user_id="ben", product_id="p", category_id="a")])
    for k, (category, n) in enumerate([(None, 1), ("", 0), ("b", 1)]):
        row = {"product_id": "p", "category_id": category, "session_id": f"row-{k}", "event_id": f"r{k}"}
        before = features(history, **row)["unique_categories"]
        history.record([shop_event(9, **row, is_row=True)])
        assert (before, features(history, **row)["unique_categories"]) == (n, n)


def test_an_event_without_category_adds_none_and_leaves_the_last_one(history):
    history.record([shop_event(1, product_id="p", category_id="a"), shop_event(2, product_id="p", category_id=None)])
    assert features(history, product_id="p", category_id=None)["unique_categories"] == 1
    assert features(history, product_id="q", category_id="b")["unique_categories"] == 2


IDS = [
    "ü🛒",
    "a\0b",
    "a",
    "\ud800",
    " ",
    "%s'; DROP TABLE users; --",
    "x" * 10_000,
    "x" * 10_000 + "y",
    "1",
    "01",
    "\n",
]


def test_ids_are_any_text_of_any_length_and_are_never_mixed(history):
    events = [
        shop_event(k, user_id=u, session_id=s, product_id=u, category_id=s, event_id=f"{u}|{s}")
        for k, (u, s) in enumerate((u, s) for u in IDS for s in IDS)
    ]
    assert set(statuses(history.record(events))) == {"recorded"}
    assert set(statuses(history.record(events))) == {"duplicate"}
    for user in IDS:
        found = features(history, user_id=user, session_id=IDS[0], product_id=user, category_id=IDS[0])
        assert (found["total_sessions"], found["total_events_y"], found["total_events_x"]) == (
            len(IDS),
            len(IDS) + 1,
            2,
        )
        assert found["unique_products"] == 1


def test_no_id_is_stored(history, state_place):
    event = shop_event(user_id="user-4711", session_id="session-4711", product_id="product-4711", event_id="event-4711")
    history.record([event])
    stored = state_place.all_bytes()
    assert b"4711" not in stored
    assert NAMES.user("user-4711") in stored
    assert Pseudonyms(b"another secret of the ids").user("user-4711") != NAMES.user("user-4711")


def test_erasing_a_user_leaves_nothing_of_the_user_and_everything_of_others(history, state_place):
    history.record([shop_event(k, session_id=f"s{k % 2}") for k in range(10)])
    history.record([shop_event(100 + k, user_id="ben") for k in range(4)])
    bens = features(history, user_id="ben")
    erased = history.erase("anna")
    assert (erased.sessions, erased.events) == (2, 10)
    stored, anna = state_place.all_bytes(), NAMES.user("anna")
    for key in (anna, NAMES.session(anna, "s0"), NAMES.session(anna, "s1"), NAMES.event("e3")):
        assert key not in stored
    assert features(history, user_id="ben") == bens
    assert features(history)["total_events_y"] == 1
    assert statuses(history.record([shop_event(3)])) == ["recorded"]
    assert (history.erase("nobody").sessions, history.erase("nobody").events) == (0, 0)


def test_sessions_past_retention_are_as_if_they_had_never_been(state_place):
    clock = Clock(NOON_S)
    history = state_place.history(clock)
    old = [shop_event(k, session_id="old", event_type="purchase") for k in range(5)]
    history.record(old)
    history.record([shop_event(9, user_id="ben", session_id="old")])
    clock.now_s = NOON_S + 30 * DAY_S
    new = [shop_event(50 + k, session_id="new", time_s=NOON_S + 10 * DAY_S + k) for k in range(2)]
    history.record(new)
    assert history.forget() == 0
    assert features(history, session_id="new")["total_purchases"] == 1
    clock.now_s += 5
    assert history.forget() == 1
    assert history.forget() == 0
    found = features(history, session_id="new")
    assert (found["total_sessions"], found["total_events_y"], found["total_purchases"]) == (1, 3, 0)
    clock.now_s += 20
    assert history.forget() == 1
    stored = state_place.all_bytes()
    assert NAMES.user("ben") not in stored
    assert NAMES.event("e0") not in stored
    assert NAMES.user("anna") in stored


def test_many_sessions_are_forgotten_in_many_small_steps(state_place):
    clock = Clock(NOON_S + 2000)
    history = state_place.history(clock)
    history.record([shop_event(k, user_id=f"u{k % 400}", session_id=f"s{k}") for k in range(1100)])
    store = state_place.open()
    assert store.forget(NOON_S + 5000, limit=100) == 100
    clock.now_s = NOON_S + 40 * DAY_S
    assert history.forget() == 1000
    assert features(history, user_id="u1")["total_sessions"] == 1


def test_a_session_that_goes_on_is_not_forgotten(state_place):
    clock = Clock(NOON_S)
    history = state_place.history(clock)
    history.record([shop_event(0)])
    clock.now_s += 20 * DAY_S
    history.record([shop_event(1, time_s=int(clock.now_s))])
    clock.now_s += 20 * DAY_S
    assert history.forget() == 0
    assert features(history)["total_events_x"] == 3


def test_without_retention_everything_is_kept(state_place):
    history = state_place.history(Clock(NOON_S * 2), retention_s=None)
    assert statuses(history.record([shop_event(0, time_s=0)])) == ["recorded"]
    assert history.forget() == 0
    assert features(history)["total_events_x"] == 2


def test_a_session_of_any_length_is_stored_in_bounded_bytes(state_place):
    history = state_place.history(Clock(NOON_S + 20_000))
    for at in range(0, 6000, 2000):
        history.record([shop_event(k, category_id=f"c{k}", event_id=None) for k in range(at, at + 2000)])
    found = features(history, product_id="new", category_id="new", time_s=NOON_S)
    assert (found["total_events_x"], found["unique_products"], found["unique_categories"]) == (6001, 1024, 1024)
    history.erase("anna")
    history.record([shop_event(1)])
    if state_place.server is not None:
        client = state_place.server.client()
        assert max(client.strlen(key) for key in client.keys("*:s:*")) <= SESSION_BYTES_MAX + 16
        client.close()


def test_states_of_another_secret_are_refused(real_state_place):
    real_state_place.history().record([shop_event()])
    with pytest.raises(InvariantError, match="written under another secret"):
        real_state_place.open(Pseudonyms(b"another secret of the ids").check)


def test_a_closed_store_opens_again_by_itself(history):
    history.record([shop_event()])
    history._store.close()
    assert features(history)["total_events_x"] == 2
    history._store.close()
    assert statuses(history.record([shop_event(1)])) == ["recorded"]


@pytest.mark.parametrize("place", ["mongodb://host", "http://host/state.db"])
def test_a_place_of_no_known_form_is_refused(place):
    with pytest.raises(BadRequestError, match="is no place for states"):
        open_state_store(place, b"")


def test_a_server_that_is_not_there_is_named(sqlite_place, tmp_path):
    with pytest.raises(NotReadyError, match="cannot be reached"):
        open_state_store("redis://127.0.0.1:1/0", b"")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(NotReadyError, match="cannot be made"):
        open_state_store(tmp_path / "file" / "state.db", b"")
    with pytest.raises(NotReadyError, match="cannot be used"):
        open_state_store(tmp_path, b"")
    (tmp_path / "broken.db").write_bytes(b"no database" * 500)
    with pytest.raises(NotReadyError, match="is damaged"):
        open_state_store(tmp_path / "broken.db", b"")


def test_a_careless_redis_is_warned_of(redis_place, caplog):
    client = redis_place.server.client()
    client.config_set("appendfsync", "everysec")
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with caplog.at_level(logging.WARNING, redis_state.__name__):
            redis_place.open()
    finally:
        client.config_set("appendfsync", "always")
        client.config_set("maxmemory-policy", "noeviction")
        client.close()
    assert [r.message.split(":")[0] for r in caplog.records] == [
        "Redis may lose events it has confirmed", "Redis may drop states when memory is full",
    ]  # fmt: skip


def test_what_sqlite_answered_is_on_disk(sqlite_place):
    store = sqlite_place.open()
    with store._connections.transaction("write") as connection:
        pragmas = [
            connection.execute(f"PRAGMA {n}").fetchone()[0] for n in ("journal_mode", "synchronous", "secure_delete")
        ]
    assert pragmas == ["wal", 2, 1]
    assert sqlite_connections.BUSY_TIMEOUT_S == 5.0
