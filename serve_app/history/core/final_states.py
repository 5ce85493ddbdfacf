"""The states of all sessions and users at the end of a log, without going through it event by event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_app.events.core.columns import EventColumns, group_rows, pair_codes
from serve_app.history.core.as_of import ACCUMULATOR_NAMES, DISTINCT_LIMIT, accumulate_history
from serve_app.history.core.fold import NO_USER, SessionState, UserState, remove_session

_INT = NDArray[np.int64]
_AT = {name: k for k, name in enumerate(ACCUMULATOR_NAMES)}


@dataclass(frozen=True, slots=True)
class _Members:
    """Distinct members of every session, `DISTINCT_LIMIT` at most, session after session.

    Those of session ``s`` are ``members[start[s]:start[s + 1]]``, in the order they came.
    """

    members: _INT
    start: _INT

    def of(self, session: int) -> frozenset[int]:
        return frozenset(self.members[self.start[session] : self.start[session + 1]].tolist())


@dataclass(frozen=True, slots=True)
class FinalStates:
    """States by the codes of the events they were made of.

    Attributes
    ----------
    sessions : ndarray of int64, shape (n_sessions, 6)
        Fields of `SessionState` up to `is_bought`.
    users : ndarray of int64, shape (n_users, 6)
        Fields of `UserState`.
    owner : ndarray of int64, shape (n_sessions,)
        User of each session.
    products, categories : _Members
    """

    sessions: _INT
    users: _INT
    owner: _INT
    products: _Members
    categories: _Members

    def each(self, before_s: int | None = None) -> Iterator[tuple[int, UserState, list[tuple[int, SessionState]]]]:
        """Yield every user with the user's sessions, by code.

        Parameters
        ----------
        before_s : int, optional
            Sessions whose latest event is earlier are left out, as if they had never been; users who have
            no others too.
        """
        by_user = group_rows(self.owner)
        rows = by_user.rows.tolist()
        starts = np.flatnonzero(by_user.start == np.arange(len(rows))).tolist()
        for first, end in zip(starts, [*starts[1:], len(rows)][: len(starts)], strict=True):
            codes = rows[first:end]
            code = int(self.owner[codes[0]])
            user = UserState(*self.users[code].tolist())
            sessions = [(session, self._session(session)) for session in codes]
            if before_s is not None:
                for _, state in sessions:
                    if state.last_s < before_s:
                        user = remove_session(user, state)
                sessions = [(session, state) for session, state in sessions if state.last_s >= before_s]
            if user != NO_USER:
                yield code, user, sessions

    def _session(self, session: int) -> SessionState:
        events, cents, max_cents, first_s, last_s, is_bought = self.sessions[session].tolist()
        members = self.products.of(session), self.categories.of(session)
        return SessionState(events, cents, max_cents, first_s, last_s, bool(is_bought), *members)


def final_states(events: EventColumns, product_numbers: _INT, category_numbers: _INT) -> FinalStates:
    """Return the states after the last event.

    Parameters
    ----------
    events : EventColumns
        In the order they arrived.
    product_numbers, category_numbers : ndarray of int64
        The 64-bit number that stands for each product and category code.

    Returns
    -------
    FinalStates
        Equal to folding the events one by one with `serve_app.history.core.fold.add_event`.

    Notes
    -----
    Pure. The cost of `accumulate_history` and two sorts more.
    """
    accumulators = accumulate_history(events)
    n_sessions, n_users = _count(events.session), _count(events.user)
    last_of_session, last_of_user = _last_rows(events.session, n_sessions), _last_rows(events.user, n_users)
    owner = events.user[last_of_session]
    first_s = np.full(n_sessions, np.iinfo(np.int64).max)
    np.minimum.at(first_s, events.session, events.time_s)
    is_bought = np.zeros(n_sessions, dtype=np.int64)
    is_bought[events.session[events.is_purchase]] = 1
    of_session, of_user = accumulators[:, last_of_session], accumulators[:, last_of_user]
    sessions = (
        of_session[_AT["session_events"]],
        of_session[_AT["session_cents"]],
        of_session[_AT["session_max_cents"]],
        first_s,
        first_s + of_session[_AT["session_seconds"]],
        is_bought,
    )
    users = (
        of_user[_AT["user_events"]],
        of_user[_AT["user_products"]],
        of_user[_AT["user_seconds"]],
        np.bincount(owner, is_bought, n_users).astype(np.int64),
        of_user[_AT["user_sessions"]],
        of_user[_AT["user_micros"]],
    )
    return FinalStates(
        np.column_stack(sessions),
        np.column_stack(users),
        owner,
        _find_members(events.session, events.product, product_numbers, n_sessions),
        _find_members(events.session, events.category, category_numbers, n_sessions),
    )


def last_categories(events: EventColumns) -> tuple[_INT, _INT]:
    """Return the product codes that were seen with a category, and the row each was last seen so."""
    rows = np.flatnonzero(events.category >= 0)
    last = np.full(_count(events.product), -1, dtype=np.int64)
    last[events.product[rows]] = rows  # of equal indices the last one stays
    products = np.flatnonzero(last >= 0)
    return products, last[products]


def _count(codes: _INT) -> int:
    return int(codes.max()) + 1 if len(codes) else 0


def _last_rows(codes: _INT, n: int) -> _INT:
    last = np.zeros(n, dtype=np.int64)
    last[codes] = np.arange(len(codes))
    return last


def _find_members(session: _INT, item: _INT, numbers: _INT, n_sessions: int) -> _Members:
    known = np.flatnonzero(item >= 0)
    pairs = group_rows(pair_codes(session[known], item[known]))
    first = np.sort(known[pairs.rows[pairs.start == np.arange(len(known))]])
    # In the order of arrival by session, so that a full session keeps the members that came first.
    by_session = group_rows(session[first])
    rank = np.arange(len(first)) - by_session.start
    kept = first[by_session.rows[rank < DISTINCT_LIMIT]]
    counts = np.bincount(session[kept], minlength=n_sessions)
    return _Members(numbers[item[kept]], np.concatenate([[0], np.cumsum(counts)]))
