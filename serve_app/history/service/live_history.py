"""The history features of now: shop events are recorded as they arrive, rows are looked up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from serve_app.events.core.event_rows import END_S, EVENT_TYPES, FIRST_S, PURCHASE, find_reason, is_price
from serve_app.features.core.specs import HISTORY_NAMES
from serve_app.history.core.as_of import features_from_accumulators
from serve_app.history.core.fold import HistoryEvent
from serve_app.history.core.fold_batch import KeyedEvent, KeyedRow
from serve_app.history.service.ports import Erased, StateStore
from serve_app.privacy.pseudonyms import Pseudonyms

FUTURE_S: Final = 300
"""An event may be this far ahead of the server's clock: clocks of shops differ by seconds, not by hours."""

DAY_S: Final = 86_400
FORGET_SESSIONS: Final = 500
"""Sessions forgotten in one transaction, so that writers wait for milliseconds at most."""


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """One event as the shop says it; an empty id is none.

    Attributes
    ----------
    user_id, session_id, product_id, category_id, event_id : str or None
        Any text. Without `event_id` a repetition cannot be told from another event.
    event_type : str
        One of `serve_app.events.core.event_rows.EVENT_TYPES`.
    price : float or None
    time_s : int or None
        Seconds since 1970 UTC; None is the time of arrival.
    is_row : bool
        It is a scored row: with `category_id` None it takes the product's last one, as its look-up did.
    """

    user_id: str | None
    session_id: str | None
    product_id: str | None
    event_type: str | None
    price: float | None
    time_s: int | None = None
    category_id: str | None = None
    event_id: str | None = None
    is_row: bool = False


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """A row that history is wanted for; `time_s` None is now.

    So is a time that no event can have (too far ahead, before 1970). One past retention is as it says: logs of long
    ago are replayed.
    `category_id` None is the product's last one (the caller did not say), empty is none (the product has none), as
    in a log.
    """

    user_id: str | None
    session_id: str | None
    product_id: str | None
    price: float | None
    time_s: int | None = None
    category_id: str | None = None
    event_id: str | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of an event.

    Attributes
    ----------
    status : {"recorded", "duplicate", "conflict", "dropped", "refused"}
        ``duplicate``: stored before, nothing to do. ``conflict``: another event has its id. ``dropped``: no
        event by the rules of the log. ``refused``: its time is ahead of the clock, or past retention.
    detail : str
        Why, and what would be right; empty for ``recorded``.
    """

    status: Literal["recorded", "duplicate", "conflict", "dropped", "refused"]
    detail: str = ""


_OUTCOMES: Final = {
    "recorded": Recorded("recorded"),
    "duplicate": Recorded("duplicate", "an equal event with this event_id is stored already"),
    "conflict": Recorded(
        "conflict", "another event with this event_id is stored already, with other content; give this one its own"
    ),
}


@dataclass(frozen=True, slots=True)
class Histories:
    """History features of some rows.

    Attributes
    ----------
    features : ndarray of float32, shape (16, n)
        Rows as in `serve_app.features.core.specs.HISTORY_NAMES`; NaN where nothing can be known.
    is_known : ndarray of bool, shape (n,)
        False for rows without user, session or product, or without a price that can be one.
    is_found : ndarray of bool, shape (n,)
        Whether the user has a history; without one the features are those of a first event.
    age_s : ndarray of float64, shape (n,)
        Seconds since the latest event of the row's session; NaN when it has none.
    """

    features: NDArray[np.float32]
    is_known: NDArray[np.bool_]
    is_found: NDArray[np.bool_]
    age_s: NDArray[np.float64]


class LiveHistory:
    """Records events and looks rows up, over any store of states.

    Parameters
    ----------
    store : StateStore
    pseudonyms : Pseudonyms
        Makes the keys that stand for ids.
    clock : callable
        Seconds since 1970 UTC.
    retention_s : int or None
        Sessions whose latest event is older are forgotten, and older events refused; None keeps everything.
    """

    def __init__(
        self, store: StateStore, pseudonyms: Pseudonyms, clock: Callable[[], float], *, retention_s: int | None
    ) -> None:
        self._store = store
        self._pseudonyms = pseudonyms
        self._clock = clock
        self._retention_s = retention_s

    def record(self, events: Sequence[LiveEvent]) -> list[Recorded]:
        """Record events in their order, in one transaction, and return what became of each.

        Raises
        ------
        NotReadyError
            The store cannot be used; no event of the call is stored.
        UnknownOutcomeError
            The store was lost while it wrote: all events of the call are stored, or none.
        """
        now_s = int(self._clock())
        judged = [self._judge(event, now_s) for event in events]
        keyed = [self._key_event(e, now_s) for e, bad in zip(events, judged, strict=True) if bad is None]
        statuses = iter(self._store.record(keyed) if keyed else [])
        return [bad if bad is not None else _OUTCOMES[next(statuses)] for bad in judged]

    def lookup(self, rows: Sequence[ScoredRow]) -> Histories:
        """Return the history of rows as of now, each row counted once, in one round trip.

        Raises
        ------
        NotReadyError
            The store cannot be used.
        """
        now_s = int(self._clock())
        keyed = [self._key_row(row, now_s) for row in rows]
        found = [row for row in keyed if row is not None]
        is_known = np.array([row is not None for row in keyed], dtype=bool)
        features = np.full((len(HISTORY_NAMES), len(rows)), np.nan, dtype=np.float32)
        is_found, age_s = np.zeros(len(rows), dtype=bool), np.full(len(rows), np.nan)
        if found:
            looked_up = self._store.lookup(found, now_s)
            features[:, is_known] = features_from_accumulators(looked_up.accumulators)
            is_found[is_known] = looked_up.is_found
            newest_s = looked_up.newest_s
            age_s[is_known] = np.where(newest_s < 0, np.nan, np.maximum(now_s - newest_s, 0))
        return Histories(features, is_known, is_found, age_s)

    def close(self) -> None:
        """Let go of the store's connections; the next call opens them again."""
        self._store.close()

    def erase(self, user_id: str) -> Erased:
        """Remove everything that is stored of a user."""
        return self._store.erase(self._pseudonyms.user(user_id))

    def forget(self) -> int:
        """Remove what is older than retention, and return the number of sessions removed."""
        if self._retention_s is None:
            return 0
        before_s = int(self._clock()) - self._retention_s
        total = 0
        while n := self._store.forget(before_s, FORGET_SESSIONS):
            total += n
        return total

    def _judge(self, event: LiveEvent, now_s: int) -> Recorded | None:
        ids = event.user_id, event.session_id, event.product_id
        dropped = find_reason(event.time_s, ids, event.event_type, event.price)
        if dropped:
            return Recorded("dropped", dropped)
        if event.time_s is None:
            return None
        ahead_s = event.time_s - now_s
        if ahead_s > FUTURE_S:
            return Recorded(
                "refused",
                f"event_time is {ahead_s:,} s ahead of this server's clock, {FUTURE_S:,} are allowed: check the "
                f"sender's clock, or the server's",
            )
        if self._retention_s is not None and -ahead_s > self._retention_s:
            return Recorded(
                "refused",
                f"event_time is {-ahead_s / DAY_S:,.1f} days ago; beyond {self._retention_s / DAY_S:g} days nothing "
                "is kept",
            )
        return None

    def _key_event(self, event: LiveEvent, now_s: int) -> KeyedEvent:
        make = self._pseudonyms
        # `_judge` let only events through that have these
        user, price, kind = make.user(event.user_id or ""), event.price or 0.0, event.event_type or ""
        session, product = make.session(user, event.session_id or ""), make.product(event.product_id or "")
        category = make.category(event.category_id) if event.category_id else None
        return KeyedEvent(
            user,
            session,
            make.event(event.event_id) if event.event_id else None,
            make.content(session, product, category, kind, price, event.time_s),
            HistoryEvent(
                product,
                category,
                now_s if event.time_s is None else event.time_s,
                cents_of(price),
                kind == EVENT_TYPES[PURCHASE],
            ),
            is_now=event.time_s is None,
            takes_category=event.is_row and event.category_id is None,
        )

    def _key_row(self, row: ScoredRow, now_s: int) -> KeyedRow | None:
        if not (row.user_id and row.session_id and row.product_id) or not is_price(row.price):
            return None
        last_s = min(now_s + FUTURE_S, END_S - 1)
        make = self._pseudonyms
        user = make.user(row.user_id)
        return KeyedRow(
            user,
            make.session(user, row.session_id),
            make.event(row.event_id) if row.event_id else None,
            make.product(row.product_id),
            make.category(row.category_id) if row.category_id else None,
            row.time_s if row.time_s is not None and FIRST_S <= row.time_s <= last_s else None,
            cents_of(row.price or 0.0),
            takes_category=row.category_id is None,
        )


def cents_of(price: float) -> int:
    """Return a price in whole hundredths, rounded as `serve_app.events.core.event_rows.price_cents` does."""
    return round(price * 100)
