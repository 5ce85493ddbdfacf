"""The history features of a whole event log, as of each row and counting the row itself.

Everything is accumulated in integers (cents, whole seconds, micro-units) and becomes float32 in one
place, `features_from_accumulators`, so that a fold over single events agrees with this form exactly.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from serve_app.events.core.columns import EventColumns, Groups, group_rows, pair_codes
from serve_app.features.core.specs import HISTORY_NAMES

DISTINCT_LIMIT: Final = 1024
"""A session's distinct counts stop here (DESIGN, section 5), which bounds the state of a session."""

MICROS_PER_CENT: Final = 10_000
"""A session's mean price enters the sums over a user's sessions in millionths of a currency unit."""

ACCUMULATOR_NAMES: Final = (
    "session_events",
    "session_products",
    "session_categories",
    "session_cents",
    "session_max_cents",
    "session_seconds",
    "user_events",
    "user_products",
    "user_seconds",
    "user_purchases",
    "user_sessions",
    "user_micros",
)
"""Rows of an accumulator array. ``user_products``, ``user_seconds`` and ``user_micros`` are sums over
the user's sessions of their distinct products, their duration and their rounded mean price;
``user_purchases`` counts sessions with a purchase before the row."""

_KEY_BITS: Final = 63
_INT = NDArray[np.int64]


def accumulate_history(events: EventColumns) -> _INT:
    """Return what is known of session and user at every row, the row itself included.

    Returns
    -------
    ndarray of int64, shape (12, n)
        Rows as in `ACCUMULATOR_NAMES`, columns in the order of the events.

    Notes
    -----
    Pure. Four sorts; memory about 30 int64 values an event.
    """
    n = len(events.user)
    out = np.empty((len(ACCUMULATOR_NAMES), n), dtype=np.int64)
    if n == 0:
        return out
    sessions = group_rows(events.session)
    ordered = _accumulate_sessions(events, sessions)
    out[:6, sessions.rows] = ordered
    place = np.empty(n, dtype=np.int64)
    place[sessions.rows] = np.arange(n)
    users = group_rows(events.user)
    place = place[users.rows]
    bought = _first_purchases(events, sessions)
    parts = (
        np.ones(n, dtype=np.int64),
        _increments(ordered[1], sessions.start),
        _increments(ordered[5], sessions.start),
        bought,
        (sessions.start == np.arange(n)).astype(np.int64),
        _increments(mean_micros(ordered[3], ordered[0]), sessions.start),
    )
    for k, part in enumerate(parts, start=6):
        out[k, users.rows] = _running_sum(part[place], users.start)
    # A purchase counts only for the rows after it.
    out[9, sessions.rows] -= bought
    return out


def _accumulate_sessions(events: EventColumns, sessions: Groups) -> _INT:
    rows, start = sessions.rows, sessions.start
    n = len(rows)
    out = np.empty((6, n), dtype=np.int64)
    out[0] = np.arange(n) - start + 1
    out[1] = _running_distinct(events.session, events.product, sessions)
    out[2] = _running_distinct(events.session, events.category, sessions)
    cents = events.price_cents[rows]
    out[3] = _running_sum(cents, start)
    # The first place of a group grows from group to group, so a plain running maximum of
    # (first place, cents) never looks back into another session.
    bits = max(int(cents.max()), 1).bit_length()
    out[4] = np.maximum.accumulate(start << bits | cents) & ((1 << bits) - 1)
    out[5] = _running_span(events.time_s[rows], start)
    return out


def _running_span(time_s: _INT, start: _INT) -> _INT:
    """Return, for each place, the latest minus the earliest time of its group so far."""
    is_back = np.diff(time_s) < 0
    if not (is_back & (start[1:] == start[:-1])).any():
        return time_s - time_s[start]
    # Ranks and not times: (first place, rank) fits into 63 bits whatever the times are.
    times, rank = np.unique(time_s, return_inverse=True)
    bits, top = len(times).bit_length(), len(times) - 1
    latest, earliest = (
        np.maximum.accumulate(start << bits | value) & ((1 << bits) - 1) for value in (rank, top - rank)
    )
    span: _INT = times[latest] - times[top - earliest]
    return span


def _running_distinct(session: _INT, item: _INT, sessions: Groups) -> _INT:
    is_new = np.zeros(len(session), dtype=np.int64)
    known = np.flatnonzero(item >= 0)
    if len(known):
        pairs = group_rows(pair_codes(session[known], item[known]))
        firsts = pairs.start == np.arange(len(known))
        is_new[known[pairs.rows[firsts]]] = 1
    return np.minimum(_running_sum(is_new[sessions.rows], sessions.start), DISTINCT_LIMIT)


def _first_purchases(events: EventColumns, sessions: Groups) -> _INT:
    """Return, in session order, 1 at the first purchase of each session and 0 elsewhere."""
    purchase = events.is_purchase[sessions.rows].astype(np.int64)
    first: _INT = purchase * (_running_sum(purchase, sessions.start) == 1)
    return first


def _running_sum(values: _INT, start: _INT) -> _INT:
    total = np.cumsum(values)
    out: _INT = total - (total - values)[start]
    return out


def _increments(values: _INT, start: _INT) -> _INT:
    out = values.copy()
    out[1:] -= np.where(start[1:] == np.arange(1, len(values)), 0, values[:-1])
    return out


def mean_micros(cents: _INT, count: _INT) -> _INT:
    """Return ``cents / count`` in micro-units of the currency, rounded half to even, exactly."""
    # cents * MICROS_PER_CENT would leave int64 after 90,000 events of the highest price
    whole_cents, rest_cents = np.divmod(cents, count)
    whole, rest = np.divmod(rest_cents * MICROS_PER_CENT, count)
    whole += whole_cents * MICROS_PER_CENT
    twice = 2 * rest
    out: _INT = whole + ((twice > count) | ((twice == count) & (whole % 2 == 1)))
    return out


def features_from_accumulators(accumulators: _INT) -> NDArray[np.float32]:
    """Turn accumulators into the 16 history features.

    Parameters
    ----------
    accumulators : ndarray of int64, shape (12, n)
        Rows as in `ACCUMULATOR_NAMES`; counts of events and sessions are at least 1.

    Returns
    -------
    ndarray of float32, shape (16, n)
        Rows as in `serve_app.features.core.specs.HISTORY_NAMES`.

    Notes
    -----
    Each feature is one float64 division of two integers, cast to float32 once. This is the only
    place where history becomes floating point.
    """
    a = dict(zip(ACCUMULATOR_NAMES, accumulators, strict=True))
    n_session, n_sessions = a["session_events"], a["user_sessions"]
    values = (
        n_session,
        a["session_products"],
        a["session_categories"],
        a["session_cents"] / (100 * n_session),
        a["session_max_cents"] / 100,
        a["session_cents"] / 100,
        a["session_seconds"] / 60,
        a["user_events"] / n_sessions,
        a["user_events"],
        a["user_products"] / n_sessions,
        a["user_products"],
        a["user_seconds"] / (60 * n_sessions),
        a["user_purchases"],
        n_sessions,
        a["user_micros"] / (1_000_000 * n_sessions),
        a["user_purchases"] / n_sessions,
    )
    out = np.empty((len(HISTORY_NAMES), accumulators.shape[1]), dtype=np.float32)
    for row, value in zip(out, values, strict=True):
        row[:] = value
    return out
