"""A store of states in this process: the fake of the port, held to the same suite as the real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serve_app.history.core.fold import NO_USER, remove_session
from serve_app.history.core.fold_batch import (
    KeyedEvent,
    KeyedRow,
    Known,
    LookedUp,
    RecordStatus,
    fold_events,
    look_up_rows,
)
from serve_app.history.service.ports import Erased, StoredUser


class MemoryStateStore:
    """Keeps what it is given in dictionaries."""

    def __init__(self) -> None:
        self.known = Known()
        self.owners: dict[bytes, bytes] = {}
        self.sessions_of_events: dict[bytes, bytes] = {}

    def record(self, events: Sequence[KeyedEvent]) -> list[RecordStatus]:
        folded = fold_events(self.known, events)
        self.owners |= folded.sessions
        self.sessions_of_events |= folded.events
        return folded.statuses

    def lookup(self, rows: Sequence[KeyedRow], now_s: int) -> LookedUp:
        return look_up_rows(self.known, rows, now_s)

    def load_states(self, users: Sequence[StoredUser]) -> int:
        new = [user for user in users if user.key not in self.known.users]
        for user in new:
            self.known.users[user.key] = user.state
            for session in user.sessions:
                self.known.sessions[session.key] = session.state
                self.owners[session.key] = user.key
                for event in session.events:
                    if event.key not in self.known.events:
                        self.known.events[event.key] = event.content
                        self.sessions_of_events[event.key] = session.key
        return len(new)

    def load_categories(self, categories: Mapping[int, int]) -> None:
        for product, category in categories.items():
            self.known.categories.setdefault(product, category)

    def erase(self, user: bytes) -> Erased:
        sessions = [key for key, owner in self.owners.items() if owner == user]
        self.known.users.pop(user, None)
        return Erased(len(sessions), sum(self._drop(key) for key in sessions))

    def forget(self, before_s: int, limit: int = 500) -> int:
        old = [key for key, state in self.known.sessions.items() if state.last_s < before_s]
        old = sorted(old, key=lambda key: self.known.sessions[key].last_s)[:limit]
        for key in old:
            user = self.owners[key]
            left = remove_session(self.known.users[user], self.known.sessions[key])
            self.known.users[user] = left
            if left == NO_USER:
                del self.known.users[user]
            self._drop(key)
        return len(old)

    def close(self) -> None:
        pass

    def _drop(self, session: bytes) -> int:
        del self.known.sessions[session], self.owners[session]
        events = [key for key, owner in self.sessions_of_events.items() if owner == session]
        for key in events:
            del self.known.events[key], self.sessions_of_events[key]
        return len(events)
