"""What is known of one session and one user, and how one event changes it.

The same definition as `serve_app.history.core.as_of`, event by event: `add_event` folds an event into the
states, and `peek_event` returns the accumulators as of it. Everything is an integer, so both forms agree exactly.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from serve_app.errors import InvariantError
from serve_app.history.core.as_of import DISTINCT_LIMIT, MICROS_PER_CENT


class HistoryEvent(NamedTuple):
    """An event as history sees it; products and categories are 64-bit numbers that stand for their ids.

    Attributes
    ----------
    product : int
    category : int or None
        None adds no category.
    time_s : int
        Seconds since 1970 UTC.
    cents : int
        Price in hundredths, not negative.
    is_purchase : bool
    """

    product: int
    category: int | None
    time_s: int
    cents: int
    is_purchase: bool


class SessionState(NamedTuple):
    """A session after its events so far.

    Attributes
    ----------
    events, cents, max_cents : int
        Number of events, sum and maximum of their prices.
    first_s, last_s : int
        Earliest and latest event time, seconds since 1970 UTC.
    is_bought : bool
        Whether it holds a purchase.
    products, categories : frozenset of int
        Distinct members, the first `DISTINCT_LIMIT` that came.
    """

    events: int
    cents: int
    max_cents: int
    first_s: int
    last_s: int
    is_bought: bool
    products: frozenset[int]
    categories: frozenset[int]

    @property
    def seconds(self) -> int:
        """Time from the earliest to the latest event."""
        return self.last_s - self.first_s

    @property
    def micros(self) -> int:
        """Mean price in micro-units, rounded half to even."""
        return mean_micros_of(self.cents, self.events)


class UserState(NamedTuple):
    """Sums over a user's sessions.

    Attributes
    ----------
    events, products, seconds : int
        Sums of the sessions' events, distinct products and durations.
    purchases, sessions : int
        Number of sessions with a purchase, and of sessions.
    micros : int
        Sum of the sessions' mean prices in micro-units.
    """

    events: int
    products: int
    seconds: int
    purchases: int
    sessions: int
    micros: int


Accumulators = tuple[int, int, int, int, int, int, int, int, int, int, int, int]
"""One column in the order of `serve_app.history.core.as_of.ACCUMULATOR_NAMES`."""

NO_USER: Final = UserState(0, 0, 0, 0, 0, 0)
_INT64_MAX: Final = (1 << 63) - 1


def mean_micros_of(cents: int, count: int) -> int:
    """Return ``cents / count`` in micro-units, rounded half to even; see `serve_app.history.core.as_of.mean_micros`."""
    whole, rest = divmod(cents * MICROS_PER_CENT, count)
    twice = 2 * rest
    return whole + (twice > count or (twice == count and whole % 2 == 1))


def add_event(user: UserState, session: SessionState | None, event: HistoryEvent) -> tuple[UserState, SessionState]:
    """Fold one event into the states of its user and session.

    Parameters
    ----------
    user : UserState
        `NO_USER` for a user without history.
    session : SessionState or None
        None when this is its first event.
    event : HistoryEvent

    Returns
    -------
    (UserState, SessionState)
        The states after the event.

    Notes
    -----
    Pure. Constant time: a new member copies a set of at most `DISTINCT_LIMIT` numbers.
    """
    product, category, time_s, cents, is_purchase = event
    if session is None:
        members = frozenset() if category is None else frozenset((category,))
        after = SessionState(1, cents, cents, time_s, time_s, is_purchase, frozenset((product,)), members)
        more = (1, 1, 0, is_purchase, 1, after.micros)
    else:
        events, total, highest, first_s, last_s, is_bought, products, categories = session
        after = SessionState(
            events + 1,
            total + cents,
            max(highest, cents),
            min(first_s, time_s),
            max(last_s, time_s),
            is_bought or is_purchase,
            _with_member(products, product),
            _with_member(categories, category),
        )
        more = (
            1,
            len(after.products) - len(products),
            after.seconds - (last_s - first_s),
            after.is_bought and not is_bought,
            0,
            after.micros - mean_micros_of(total, events),
        )
    return _add(user, more), after


def peek_event(user: UserState, session: SessionState | None, event: HistoryEvent) -> Accumulators:
    """Return what is known at an event, itself included; its own purchase counts only from the next event on."""
    product, category, time_s, cents, _ = event
    if session is None:
        micros = mean_micros_of(cents, 1)
        mine = (1, 1, int(category is not None), cents, cents, 0)
        more = (1, 0, 1, micros)
    else:
        events, total, highest, first_s, last_s, _, products, categories = session
        n_products = len(products) + _adds(products, product)
        n_categories = len(categories) + _adds(categories, category)
        seconds = max(last_s, time_s) - min(first_s, time_s)
        mine = (events + 1, n_products, n_categories, total + cents, max(highest, cents), seconds)
        micros = mean_micros_of(total + cents, events + 1) - mean_micros_of(total, events)
        more = (n_products - len(products), seconds - (last_s - first_s), 0, micros)
    return (
        *mine,
        user.events + 1,
        user.products + more[0],
        user.seconds + more[1],
        user.purchases,
        user.sessions + more[2],
        min(user.micros + more[3], _INT64_MAX),
    )


def accumulate_states(user: UserState, session: SessionState) -> Accumulators:
    """Return what is known after all events so far."""
    return (
        session.events,
        len(session.products),
        len(session.categories),
        session.cents,
        session.max_cents,
        session.seconds,
        user.events,
        user.products,
        user.seconds,
        user.purchases,
        user.sessions,
        min(user.micros, _INT64_MAX),
    )


def remove_session(user: UserState, session: SessionState) -> UserState:
    """Return the user's state without one of the sessions, as if it had never been."""
    gone = (session.events, len(session.products), session.seconds, session.is_bought, 1, session.micros)
    return _add(user, (-gone[0], -gone[1], -gone[2], -gone[3], -gone[4], -gone[5]))


def _add(user: UserState, more: tuple[int, int, int, int, int, int]) -> UserState:
    a, b, c, d, e, f = user
    g, h, i, j, k, m = more
    return UserState(a + g, b + h, c + i, d + j, e + k, f + m)


def _adds(members: frozenset[int], member: int | None) -> bool:
    return member is not None and member not in members and len(members) < DISTINCT_LIMIT


def _with_member(members: frozenset[int], member: int | None) -> frozenset[int]:
    return members | {member} if member is not None and _adds(members, member) else members


_USER: Final = struct.Struct("<5q16s")
_SESSION: Final = struct.Struct("<5q?HH")
_MEMBER_BYTES: Final = 8

USER_BYTES: Final = _USER.size
"""Size of an encoded user, whatever the history."""

SESSION_BYTES_MAX: Final = _SESSION.size + 2 * DISTINCT_LIMIT * _MEMBER_BYTES
"""Most bytes of an encoded session, whatever its length: 45 + 8 for each distinct product and category."""


def dump_user(user: UserState) -> bytes:
    """Encode a user in `USER_BYTES`; the inverse of `parse_user`."""
    # 92,000 sessions at the highest price leave int64; a sum that cannot be stored would stop the whole store
    return _USER.pack(*user[:5], user.micros.to_bytes(16, "little"))


def parse_user(data: bytes) -> UserState:
    """Decode a user; raises InvariantError when it is not one."""
    try:
        events, products, seconds, purchases, sessions, micros = _USER.unpack(data)
    except struct.error as exc:
        raise InvariantError(f"the stored state of a user is damaged: {exc}") from exc
    return UserState(events, products, seconds, purchases, sessions, int.from_bytes(micros, "little"))


def dump_session(session: SessionState) -> bytes:
    """Encode a session in `SESSION_BYTES_MAX` at most; the inverse of `parse_session`."""
    products, categories = session.products, session.categories
    head = _SESSION.pack(*session[:6], len(products), len(categories))
    return head + struct.pack(f"<{len(products) + len(categories)}q", *products, *categories)


def parse_session(data: bytes) -> SessionState:
    """Decode a session; raises InvariantError when it is not one."""
    try:
        events, cents, high, first_s, last_s, is_bought, n_products, n_categories = _SESSION.unpack_from(data)
        members = struct.unpack_from(f"<{n_products + n_categories}q", data, _SESSION.size)
    except struct.error as exc:
        raise InvariantError(f"the stored state of a session is damaged: {exc}") from exc
    products, categories = frozenset(members[:n_products]), frozenset(members[n_products:])
    return SessionState(events, cents, high, first_s, last_s, is_bought, products, categories)
