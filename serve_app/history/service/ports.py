"""What live history needs from a store of states, as a protocol.

A store sees keys and numbers only, never an id. What an event means is not its business either: it holds
states and applies `serve_app.history.core.fold_batch` to them, all or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from serve_app.history.core.fold import SessionState, UserState
from serve_app.history.core.fold_batch import KeyedEvent, KeyedRow, LookedUp, RecordStatus


class StoredEvent(NamedTuple):
    """An event that a session counts: its key and the fingerprint of its content."""

    key: bytes
    content: bytes


class StoredSession(NamedTuple):
    """A session with the events that have an id."""

    key: bytes
    state: SessionState
    events: tuple[StoredEvent, ...] = ()


class StoredUser(NamedTuple):
    """A user with all sessions, as `StateStore.load_states` takes it."""

    key: bytes
    state: UserState
    sessions: tuple[StoredSession, ...]


@dataclass(frozen=True, slots=True)
class Erased:
    """What was removed with a user."""

    sessions: int
    events: int


class StateStore(Protocol):
    """States of users and sessions, shared by every process that opens the same place.

    Every call is one transaction: what others see is all of it or nothing, and what was answered survives
    the death of any process. Safe to call from several threads. Every call raises NotReadyError while the
    store cannot be used, and nothing has changed then; UnknownOutcomeError, which is one too, when the store was
    lost while it wrote: then all of the call has happened, or nothing.
    """

    def record(self, events: Sequence[KeyedEvent]) -> list[RecordStatus]:
        """Fold events in their order and return what became of each, see `fold_batch.fold_events`."""
        ...

    def lookup(self, rows: Sequence[KeyedRow], now_s: int) -> LookedUp:
        """Return what is known of each row, see `serve_app.history.core.fold_batch.look_up_rows`; one round trip."""
        ...

    def load_states(self, users: Sequence[StoredUser]) -> int:
        """Store users that are not known yet, and return how many those were; users that are known stay as they are."""
        ...

    def load_categories(self, categories: Mapping[int, int]) -> None:
        """Store the category last seen of products for which none is known."""
        ...

    def erase(self, user: bytes) -> Erased:
        """Remove a user, the user's sessions and the keys of their events."""
        ...

    def forget(self, before_s: int, limit: int = 500) -> int:
        """Remove at most `limit` sessions whose latest event is before a time, and return how many were.

        The sums of their users become what they would be had those sessions never been; a user without
        sessions is removed.
        """
        ...

    def close(self) -> None:
        """Let go of connections; the store can be opened again."""
        ...
