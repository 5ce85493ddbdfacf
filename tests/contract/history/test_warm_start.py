"""A log that is loaded at once leaves every store as if its events had arrived one by one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_app.errors import NotReadyError
from serve_app.events.adapters.spill import EventSpill
from serve_app.events.service.synthetic import GeneratedLog
from serve_app.history.service import warm_start
from serve_app.history.service.live_history import LiveEvent, LiveHistory
from serve_app.history.service.warm_start import load_log
from tests.testing_kit.history.history_logs import LOGS, NOON_S
from tests.testing_kit.history.memory_states import MemoryStateStore
from tests.testing_kit.history.state_places import DAY_S, NAMES, Clock, scored_row, shop_event

pytestmark = [pytest.mark.contract, pytest.mark.property]

KINDS = {"view": 0, "cart": 1, "purchase": 2}


class ListedLog:
    """A log of the drawn events, ids with an event_id where `ids` says so."""

    def __init__(self, log, ids):
        columns = list(zip(*log, strict=True))
        user, session, product, category, second, cents, kind = columns
        n = len(log)
        self._batch = pa.RecordBatch.from_pydict(
            {
                "event_time": pa.array([NOON_S + s for s in second]),
                "event_type": pa.array(kind),
                "product_id": pa.array(product),
                "category_id": pa.array(category, pa.int64()),
                "category_code": pa.nulls(n, pa.string()),
                "brand": pa.nulls(n, pa.string()),
                "price": pa.array([c / 100 for c in cents]),
                "user_id": pa.array(user),
                "user_session": pa.array([f"s{s}" for s in session]),
                "event_id": pa.array([f"e{k}" if has else None for k, has in enumerate(ids)], pa.string()),
            }
        )

    def batches(self):
        yield self._batch


def as_events(log, ids):
    """The same events in the order of a log: by time, then position."""
    order = sorted(range(len(log)), key=lambda k: log[k][4])
    return [
        LiveEvent(
            str(log[k][0]), f"s{log[k][1]}", str(log[k][2]), log[k][6], log[k][5] / 100, NOON_S + log[k][4],
            None if log[k][3] is None else str(log[k][3]), f"e{k}" if ids[k] else None,
        )
        for k in order
    ]  # fmt: skip


@given(LOGS.filter(lambda log: any(event[5] for event in log)), st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_loading_a_log_is_recording_its_events_one_by_one(log, data):
    ids = data.draw(st.lists(st.booleans(), min_size=len(log), max_size=len(log)))
    one_by_one, loaded = MemoryStateStore(), MemoryStateStore()
    history = LiveHistory(one_by_one, NAMES, Clock(NOON_S + DAY_S), retention_s=None)
    for event in as_events(log, ids):
        history.record([event])
    with EventSpill() as spill:
        memory_rows = data.draw(st.sampled_from([1, 1000]))  # spilled by user, or not
        report = load_log(ListedLog(log, ids), spill, loaded, NAMES, memory_rows=memory_rows)
    assert loaded.known == one_by_one.known
    assert loaded.owners == one_by_one.owners
    assert loaded.sessions_of_events == one_by_one.sessions_of_events
    assert (report.n_users, report.n_kept) == (len(loaded.known.users), 0)


@given(LOGS.filter(lambda log: any(event[5] for event in log)), st.integers(0, 500))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_what_is_past_retention_is_not_loaded(log, second):
    ids = [True] * len(log)
    before_s = NOON_S + second
    swept, loaded = MemoryStateStore(), MemoryStateStore()
    history = LiveHistory(swept, NAMES, Clock(NOON_S + DAY_S), retention_s=None)
    history.record(as_events(log, ids))
    swept.forget(before_s, limit=10**6)
    with EventSpill() as spill:
        load_log(ListedLog(log, ids), spill, loaded, NAMES, before_s=before_s)
    assert loaded.known.users == swept.known.users
    assert loaded.known.sessions == swept.known.sessions
    assert loaded.known.events == swept.known.events


def load(place, log, **options):
    with EventSpill() as spill:
        return load_log(log, spill, place.open(), NAMES, **options)


def test_a_generated_log_gives_the_same_features_loaded_and_recorded(state_place):
    n = 3000
    report = load(state_place, GeneratedLog(n))
    assert report.summary.n_events == n
    clock = Clock(report.summary.last_s + 60)
    recorded = LiveHistory(MemoryStateStore(), NAMES, clock, retention_s=None)
    loaded = LiveHistory(state_place.open(), NAMES, clock, retention_s=None)
    events = []
    for batch in GeneratedLog(n).batches():
        rows = batch.to_pylist()
        events += [
            LiveEvent(str(r["user_id"]), r["user_session"], str(r["product_id"]), r["event_type"], r["price"],
                      r["event_time"], str(r["category_id"]))
            for r in rows
        ]  # fmt: skip
    recorded.record(events)
    rows = [
        scored_row(user_id=e.user_id, session_id=e.session_id, product_id=e.product_id, price=e.price, time_s=None)
        for e in events
    ]
    np.testing.assert_array_equal(loaded.lookup(rows).features, recorded.lookup(rows).features)


def test_users_that_are_known_stay_as_they_are_so_a_load_may_be_repeated(state_place):
    log = [(k % 9, k % 2, k, k, k, 100, "view") for k in range(40)]
    ids = [True] * 40
    history = state_place.history(Clock(NOON_S + DAY_S))
    history.record([shop_event(500, user_id="3", session_id="live")])
    first, second = (load(state_place, ListedLog(log, ids)) for _ in range(2))
    assert (first.n_users, first.n_kept) == (8, 1)
    assert (second.n_users, second.n_kept) == (0, 9)
    found = history.lookup([scored_row(user_id=u, session_id="live") for u in ("3", "4")])
    assert found.features[8].tolist() == [2.0, 5.0]
    assert {o.status for o in history.record(as_events(log, ids)) if o.status != "recorded"} == {"duplicate"}


def test_a_load_that_is_interrupted_leaves_whole_users_and_is_finished_by_the_next(state_place, monkeypatch):
    monkeypatch.setattr(warm_start, "CHUNK_SESSIONS", 10)
    log = [(k % 30, k % 2, k, k, k, 100, "view") for k in range(120)]
    ids = [True] * 120
    store, calls = state_place.open(), iter(range(100))
    load_states = store.load_states

    def fail(users):
        if next(calls) == 2:
            raise NotReadyError("full")
        return load_states(users)

    monkeypatch.setattr(store, "load_states", fail)
    with pytest.raises(NotReadyError), EventSpill() as spill:
        load_log(ListedLog(log, ids), spill, store, NAMES)
    monkeypatch.undo()
    report = load(state_place, ListedLog(log, ids))
    assert (report.n_users + report.n_kept, report.n_kept > 0) == (30, True)
    history = state_place.history(Clock(NOON_S + DAY_S))
    rows = [scored_row(user_id=str(u), session_id="new") for u in range(30)]
    assert history.lookup(rows).features[8].tolist() == [5.0] * 30
