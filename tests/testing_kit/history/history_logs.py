"""Logs of shop events for tests: drawn by hypothesis, and as the columns of the vectorised form."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from serve_app.events.core.columns import EventColumns
from serve_app.history.core.fold import NO_USER, HistoryEvent, add_event, peek_event

DAY_S = 86_400
NOON_S = 1_600_000_000 // DAY_S * DAY_S + 43_200

EVENTS = st.tuples(
    st.integers(0, 3),  # user
    st.integers(0, 2),  # session of the user
    st.integers(0, 4),  # product
    st.none() | st.integers(0, 2),  # category
    # at noon, or around a midnight, so that events come late, at equal times and across days
    st.integers(0, 500) | st.integers(DAY_S // 2 - 90, DAY_S // 2 + 90),
    st.integers(0, 10**10) | st.sampled_from([0, 1, 10**10]),  # cents
    st.sampled_from(["view", "view", "cart", "purchase"]),
)
LOGS = st.lists(EVENTS, max_size=60)
"""Events in the order they arrive: (user, session, product, category, seconds, cents, type)."""


def to_columns(log) -> EventColumns:
    """Return the events as columns, in the same order."""
    user, session, product, category, second, cents, kind = (
        (list(c) for c in zip(*log, strict=True)) if log else [[]] * 7
    )
    users, sessions = {}, {}
    as_int = lambda v: np.asarray(v, dtype=np.int64)  # noqa: E731
    return EventColumns(
        as_int([users.setdefault(u, len(users)) for u in user]),
        as_int([sessions.setdefault(pair, len(sessions)) for pair in zip(user, session, strict=True)]),
        as_int(product),
        as_int([-1 if c is None else c for c in category]),
        NOON_S + as_int(second),
        as_int(cents),
        np.asarray([k == "purchase" for k in kind], dtype=bool),
    )


def to_event(event) -> HistoryEvent:
    """Return one event as the fold takes it."""
    _, _, product, category, second, cents, kind = event
    return HistoryEvent(product, category, NOON_S + second, cents, kind == "purchase")


def fold_log(log):
    """Return the states of users and of (user, session) after the log, and the accumulators at each event."""
    users, sessions, out = {}, {}, []
    for event in log:
        user, session = event[0], event[:2]
        before = users.get(user, NO_USER), sessions.get(session), to_event(event)
        out.append(peek_event(*before))
        users[user], sessions[session] = add_event(*before)
    return users, sessions, np.array(out, dtype=np.int64).reshape(len(log), 12).T
