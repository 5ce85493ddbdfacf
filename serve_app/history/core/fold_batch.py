"""Many events folded, and many rows looked up, over the states that a store holds.

A store fetches what a batch needs (`keys_of_events`, `keys_of_rows`), hands it over as `Known`, and writes
back what `fold_events` changed. All rules are here, so that stores cannot differ in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from serve_app.history.core.as_of import ACCUMULATOR_NAMES
from serve_app.history.core.fold import (
    NO_USER,
    Accumulators,
    HistoryEvent,
    SessionState,
    UserState,
    accumulate_states,
    add_event,
    peek_event,
)
from serve_app.privacy.pseudonyms import NOT_SAID

_Key = TypeVar("_Key", bytes, int)

RecordStatus = Literal["recorded", "duplicate", "conflict"]


class KeyedEvent(NamedTuple):
    """An event under the keys of its ids (`serve_app.privacy.pseudonyms`).

    Attributes
    ----------
    user, session : bytes
    event : bytes or None
        None: an event without id, never a duplicate.
    content : bytes
        Fingerprint of what the event says.
    body : HistoryEvent
    is_now : bool
        Its time is the server's clock, which may have been set back: it is not before what was seen of the session.
    takes_category : bool
        Without a category it takes the one last seen for the product, as a row that is looked up does.
    """

    user: bytes
    session: bytes
    event: bytes | None
    content: bytes
    body: HistoryEvent
    is_now: bool = False
    takes_category: bool = False


class KeyedRow(NamedTuple):
    """A row to score under the keys of its ids.

    Attributes
    ----------
    user, session : bytes
    event : bytes or None
        Key of the event this row is, when it has one.
    product : int
    category : int or None
    time_s : int or None
        None: now.
    cents : int
    takes_category : bool
        Whether no category stands for the one last seen for the product; else it stands for none.
    """

    user: bytes
    session: bytes
    event: bytes | None
    product: int
    category: int | None
    time_s: int | None
    cents: int
    takes_category: bool = True


@dataclass(frozen=True, slots=True)
class StateKeys:
    """What a batch needs to know; each key once."""

    users: list[bytes]
    sessions: list[bytes]
    events: list[bytes]
    products: list[int]


@dataclass(frozen=True, slots=True)
class Known:
    """What a store holds under some keys; what it does not hold is absent.

    Attributes
    ----------
    users, sessions : dict
        States by key.
    events : dict
        Fingerprint of the content by key.
    categories : dict
        Category last seen by product.
    """

    users: dict[bytes, UserState] = field(default_factory=dict)
    sessions: dict[bytes, SessionState] = field(default_factory=dict)
    events: dict[bytes, bytes] = field(default_factory=dict)
    categories: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Folded:
    """What a batch of events changed.

    Attributes
    ----------
    statuses : list of {"recorded", "duplicate", "conflict"}
        For each event.
    users : set of bytes
        Users whose state in `Known` is another now.
    sessions : dict of bytes to bytes
        Sessions whose state is another now, with their user.
    events : dict of bytes to bytes
        New events with their session.
    products : set of int
        Products whose last category is another now.
    """

    statuses: list[RecordStatus]
    users: set[bytes]
    sessions: dict[bytes, bytes]
    events: dict[bytes, bytes]
    products: set[int]


def keys_of_events(events: Sequence[KeyedEvent]) -> StateKeys:
    """Return the keys that folding the events needs."""
    return StateKeys(
        _once(e.user for e in events),
        _once(e.session for e in events),
        _once(e.event for e in events if e.event is not None),
        _once(e.body.product for e in events if e.body.category is not None or e.takes_category),
    )


def keys_of_rows(rows: Sequence[KeyedRow]) -> StateKeys:
    """Return the keys that looking up the rows needs."""
    return StateKeys(
        _once(r.user for r in rows),
        _once(r.session for r in rows),
        _once(r.event for r in rows if r.event is not None),
        _once(r.product for r in rows if r.category is None and r.takes_category),
    )


def _once(keys: Iterable[_Key]) -> list[_Key]:
    return list(dict.fromkeys(keys))


def fold_events(known: Known, events: Sequence[KeyedEvent]) -> Folded:
    """Fold events in their order into `known`, which is changed in place, and say what changed.

    Notes
    -----
    An event whose id is known with the same content changes nothing (``duplicate``); with other content it
    changes nothing either and is a ``conflict``.
    """
    folded = Folded([], set(), {}, {}, set())
    for event in events:
        user_key, session_key, event_key, content, body, *_ = event
        if event_key is not None:
            found = known.events.get(event_key)
            if found is not None:
                folded.statuses.append("duplicate" if is_repetition(found, content) else "conflict")
                continue
            known.events[event_key] = content
            folded.events[event_key] = session_key
        before = known.sessions.get(session_key)
        if event.is_now and before is not None and before.last_s > body.time_s:
            body = body._replace(time_s=before.last_s)
        if event.takes_category and body.category is None:
            body = body._replace(category=known.categories.get(body.product))
        user, session = add_event(known.users.get(user_key, NO_USER), before, body)
        known.users[user_key], known.sessions[session_key] = user, session
        folded.users.add(user_key)
        folded.sessions[session_key] = user_key
        if body.category is not None and known.categories.get(body.product) != body.category:
            known.categories[body.product] = body.category
            folded.products.add(body.product)
        folded.statuses.append("recorded")
    return folded


def is_repetition(stored: bytes, content: bytes) -> bool:
    """Return whether two fingerprints of `Pseudonyms.content` contradict each other nowhere.

    A scored row that was recorded as a view may say neither its time nor its category; the same event that
    comes from the shop's log says both.
    """
    parts = ((stored[at : at + 2], content[at : at + 2]) for at in (4, 6))
    return stored[:4] == content[:4] and all(a == b or NOT_SAID in {a, b} for a, b in parts)


class LookedUp(NamedTuple):
    """What a store says of rows.

    Attributes
    ----------
    accumulators : ndarray of int64, shape (12, n)
        See `serve_app.history.core.as_of.ACCUMULATOR_NAMES`.
    is_found : ndarray of bool, shape (n,)
        Whether the user has a history.
    newest_s : ndarray of int64, shape (n,)
        Latest event of the row's session, seconds since 1970 UTC; -1 when it has none.
    """

    accumulators: NDArray[np.int64]
    is_found: NDArray[np.bool_]
    newest_s: NDArray[np.int64]


def look_up_rows(known: Known, rows: Sequence[KeyedRow], now_s: int) -> LookedUp:
    """Return what is known at each row, the row itself added unless its event is stored.

    Parameters
    ----------
    known : Known
        Not changed: rows do not see each other.
    rows : sequence of KeyedRow
    now_s : int
        The server's clock, for rows without a time, seconds since 1970 UTC.
    """
    columns = [_accumulate_row(known, row, now_s) for row in rows]
    accumulators = np.array(columns, dtype=np.int64).reshape(len(rows), len(ACCUMULATOR_NAMES))
    sessions = (known.sessions.get(row.session) for row in rows)
    return LookedUp(
        np.ascontiguousarray(accumulators.T),
        np.fromiter((row.user in known.users for row in rows), np.bool_, len(rows)),
        np.fromiter((-1 if s is None else s.last_s for s in sessions), np.int64, len(rows)),
    )


def _accumulate_row(known: Known, row: KeyedRow, now_s: int) -> Accumulators:
    user, session = known.users.get(row.user, NO_USER), known.sessions.get(row.session)
    if session is not None and row.event is not None and row.event in known.events:
        return accumulate_states(user, session)
    time_s = row.time_s
    if time_s is None:
        # A clock that was set back must not stretch the session: now is not before what was seen of it.
        time_s = now_s if session is None else max(now_s, session.last_s)
    category = row.category
    if category is None and row.takes_category:
        category = known.categories.get(row.product)
    return peek_event(user, session, HistoryEvent(row.product, category, time_s, row.cents, is_purchase=False))
