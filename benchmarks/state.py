"""Live history: rows looked up in a micro-batch, and events recorded in bulk, by kind of store.

Run: ``python -m benchmarks.state [N_EVENTS] [ROUNDS]``. Redis is the one the tests start,
with ``appendonly yes`` and ``appendfsync always``, on loopback.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.say import say
from serve_app.events.adapters.spill import EventSpill
from serve_app.events.service.partitions import LogSummary, read_partitions
from serve_app.events.service.synthetic import GeneratedLog
from serve_app.history.adapters.redis_state import RedisStateStore
from serve_app.history.adapters.sqlite_state import SqliteStateStore
from serve_app.history.core.as_of import accumulate_history, features_from_accumulators
from serve_app.history.core.fold import NO_USER, HistoryEvent, add_event
from serve_app.history.service.live_history import LiveEvent, LiveHistory, ScoredRow
from serve_app.history.service.warm_start import load_log
from serve_app.privacy.pseudonyms import Pseudonyms
from tests.testing_kit.history.redis_server import running_redis

NAMES = Pseudonyms(bytes(32))
BATCHES = (1, 100, 1000)
ROWS = 64


def read_events(n):
    """Return events in the order of the log, each with an id."""
    out = []
    for batch in GeneratedLog(n, seed=7).batches():
        names = ("user_id", "user_session", "product_id", "event_type", "price", "event_time", "category_id")
        columns = [batch.column(name).to_pylist() for name in names]
        for user, session, product, kind, price, time_s, category in zip(*columns, strict=True):
            event_id = f"event-{len(out)}"
            out.append(LiveEvent(str(user), session, str(product), kind, price, time_s, str(category), event_id))
    return out


def measure_core(n):
    (partition,) = read_partitions(GeneratedLog(n), None, LogSummary())
    rates = []
    for _ in range(5):
        start = time.perf_counter()
        features_from_accumulators(accumulate_history(partition.events))
        rates.append(n / (time.perf_counter() - start))
    print(f"vectorised: median {median(rates):,.0f} events/s of 5 ({min(rates):,.0f} to {max(rates):,.0f})")
    e = partition.events
    columns = (e.user, e.session, e.product, e.category, e.time_s, e.price_cents, e.is_purchase)
    users, sessions, k = {}, {}, 0
    start = time.perf_counter()
    for user, session, *body in zip(*(c[:200_000].tolist() for c in columns), strict=True):
        users[user], sessions[session] = add_event(users.get(user, NO_USER), sessions.get(session), HistoryEvent(*body))
        k += 1
    print(f"fold, event by event: {k / (time.perf_counter() - start):,.0f} events/s")


def measure_record(history, events, size, seconds=4.0):
    """Record batches for some seconds; return the rate and the events left."""
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds and done + size <= len(events):
        outcomes = history.record(events[done : done + size])
        done += size
        if any(outcome.status != "recorded" for outcome in outcomes):
            raise SystemExit(f"an event was not recorded: {outcomes}")
    return done / (time.perf_counter() - start), events[done:]


def measure_lookup(history, events, *, with_category, n=400):
    """Return the milliseconds of `n` look-ups of 64 rows of known users each."""
    rng = np.random.default_rng(0)
    out = []
    for _ in range(n):
        rows = [
            ScoredRow(e.user_id, e.session_id, e.product_id, e.price, None, e.category_id if with_category else None)
            for e in (events[k] for k in rng.integers(0, len(events), ROWS))
        ]
        start = time.perf_counter()
        history.lookup(rows)
        out.append(1000 * (time.perf_counter() - start))
    return out


def measure_store(name, store, n_events, events):
    history = LiveHistory(store, NAMES, lambda: events[-1].time_s, retention_s=None)
    start = time.perf_counter()
    with EventSpill() as spill:
        load_log(GeneratedLog(n_events, seed=7), spill, store, Pseudonyms(b"users of their own"))
    rate = n_events / (time.perf_counter() - start)
    print(f"| {name}: load a log of {n_events:,} events at once | {rate:,.0f} events/s |")
    left = events
    for size in reversed(BATCHES):
        rate, rest = measure_record(history, left, size)
        if len(rest) < len(left):
            print(f"| {name}: record, {size:,} a batch | {rate:,.0f} events/s |")
        else:
            say(f"no {size:,} events were left for {name}: begin with more")
        left = rest
    known = events[: len(events) - len(left)]
    for with_category in (True, False):
        ms = measure_lookup(history, known, with_category=with_category)
        what = "with" if with_category else "without"
        low, middle, high = np.percentile(ms, [5, 50, 99])
        print(f"| {name}: look up {ROWS} rows {what} category_id | {middle:.2f} ms ({low:.2f}, p99 {high:.2f}) |")


def main():
    n_events = int(sys.argv[1]) if len(sys.argv) > 1 else 500_000
    measure_core(n_events)
    events = read_events(n_events)
    print("\n| what | median |\n|---|---|")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sqlite = SqliteStateStore(folder / "history.db", NAMES.check)
        measure_store("SQLite", sqlite, n_events, events)
        sqlite.close()
        server = stack.enter_context(running_redis(folder))
        measure_store("Redis", RedisStateStore(server.url, NAMES.check), n_events, events)


if __name__ == "__main__":
    main()
