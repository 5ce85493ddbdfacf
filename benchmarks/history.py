"""A history for the shoppers of the online benchmark, and the answers that follow from it."""

from __future__ import annotations

import http.client
import json
import time

import orjson

from benchmarks.say import say
from serve_app.events.service.synthetic import GeneratedLog
from serve_app.features.core.event_times import parse_time
from serve_app.features.core.specs import HISTORY_NAMES
from serve_app.history.service.live_history import LiveHistory, ScoredRow
from serve_app.http.bodies import NDJSON
from serve_app.http.events.event_bodies import parse_events
from serve_app.privacy.pseudonyms import Pseudonyms
from tests.testing_kit.history.memory_states import MemoryStateStore

NOW = "2019-11-20 12:00:00 UTC"
EVENTS_EACH = 6
EVENTS_A_CALL = 1_000


def add_keys(bodies: list[dict]) -> list[dict]:
    """Return bodies with what makes their history the same whenever they are sent."""
    return [body | {"event_time": NOW, "category_id": f"c{k % 300}"} for k, body in enumerate(bodies)]


def make_events(bodies: list[dict]) -> list[dict]:
    """Return some earlier events of each body's shopper, in this session and one before."""
    return [
        {
            "event_time": f"2019-11-20 11:{k % 40:02d}:{n:02d} UTC",
            "event_type": "purchase" if n == 3 else "view",
            "product_id": str(1_000_000 + (k + n) % 60_000),
            "category_id": f"c{(k + n) % 300}",
            "price": round(body["price"] * (1 + n / 10), 2),
            "user_id": body["user_id"],
            "user_session": body["session_id"] if n % 2 else f"before-{k}",
            "event_id": f"{k}-{n}",
        }
        for k, body in enumerate(bodies)
        for n in range(EVENTS_EACH)
    ]


def fill_history(bodies: list[dict], events: list[dict]) -> list[dict]:
    """Return bodies with the history features that are known of them after the events, folded in this process."""
    history = LiveHistory(MemoryStateStore(), Pseudonyms(bytes(32)), lambda: parse_time(NOW), retention_s=None)
    history.record(parse_events(NDJSON, _ndjson(events)).events)
    rows = [
        ScoredRow(b["user_id"], b["session_id"], b["product_id"], b["price"], parse_time(NOW), b["category_id"])
        for b in bodies
    ]
    found = history.lookup(rows).features
    known = [dict(zip(HISTORY_NAMES, map(float, column), strict=True)) for column in found.T]
    return [one | body for one, body in zip(known, bodies, strict=True)]


def send_events(port: int, events: list[dict]) -> float:
    """Send events to a service, in bulk, one call after the other; return events/s."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    calls = [_ndjson(events[k : k + EVENTS_A_CALL]) for k in range(0, len(events), EVENTS_A_CALL)]
    started_s, n = time.perf_counter(), 0
    for call in calls:
        connection.request("POST", "/v1/events", call, {"Content-Type": NDJSON})
        answer = connection.getresponse()
        found = json.loads(answer.read())
        if answer.status != 202 or found["errors"]:
            raise RuntimeError(f"events were refused: {answer.status} {str(found)[:500]}")
        n += found["recorded"] + found["duplicate"]
    rate = n / (time.perf_counter() - started_s)
    connection.close()
    say(f"  {n:,} events sent {EVENTS_A_CALL:,} a call, one call at a time: {rate:,.0f} events/s")
    return rate


def _ndjson(events: list[dict]) -> bytes:
    return b"\n".join(map(orjson.dumps, events))


def measure_ingest(port: int, n_events: int) -> float:
    """Send generated events and return events/s; sender and service share the machine."""
    names = ("user_id", "user_session", "product_id", "event_type", "price", "event_time", "category_id")
    events = []
    for batch in GeneratedLog(n_events, seed=11).batches():
        columns = [batch.column(name).to_pylist() for name in names]
        for values in zip(*columns, strict=True):
            event = dict(zip(names, values, strict=True))
            when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(event["event_time"]))
            events.append(event | {"event_time": when, "event_id": f"g{len(events)}"})
    return send_events(port, events)
