"""Places of states of each kind; each test gets an empty one."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path

from serve_app.history.adapters.open_store import open_state_store
from serve_app.history.adapters.redis_state import RedisStateStore
from serve_app.history.service.live_history import LiveEvent, LiveHistory, ScoredRow
from serve_app.history.service.ports import StateStore
from serve_app.privacy.pseudonyms import Pseudonyms
from tests.testing_kit.history.history_logs import NOON_S
from tests.testing_kit.history.memory_states import MemoryStateStore
from tests.testing_kit.history.redis_server import RedisServer

SECRET = bytes(range(32))
NAMES = Pseudonyms(SECRET)
DAY_S = 86_400


@dataclass
class Clock:
    """Says what it was told."""

    now_s: float = NOON_S

    def __call__(self) -> float:
        return self.now_s


@dataclass
class StatePlace:
    """Where a test's states are; `open` gives another client of it."""

    kind: str
    place: str
    server: RedisServer | None = None
    memory: MemoryStateStore = field(default_factory=MemoryStateStore)

    def open(self, check: bytes = NAMES.check, **timeouts: float) -> StateStore:
        if timeouts:
            return RedisStateStore(self.place, check, **timeouts)
        return self.memory if self.kind == "memory" else open_state_store(self.place, check)

    def history(
        self, clock: Clock | None = None, retention_s: int | None = 30 * DAY_S, **timeouts: float
    ) -> LiveHistory:
        return LiveHistory(self.open(**timeouts), NAMES, clock or Clock(), retention_s=retention_s)

    def all_bytes(self) -> bytes:
        """Everything that is stored, as it is stored."""
        if self.kind == "memory":
            return pickle.dumps((self.memory.known, self.memory.owners, self.memory.sessions_of_events))
        if self.server is None:
            path = Path(self.place)
            return b"".join(p.read_bytes() for p in path.parent.iterdir())
        client = self.server.client()
        parts = []
        for key in client.keys("*"):
            parts += [key, client.dump(key)]
        client.close()
        return b"\0".join(parts)


def shop_event(n: int = 0, **changes) -> LiveEvent:
    """Return an event; `n` tells events apart."""
    fields = {
        "user_id": "anna", "session_id": "s1", "product_id": f"p{n}", "event_type": "view", "price": 10.0 + n,
        "time_s": NOON_S + n, "category_id": f"c{n % 3}", "event_id": f"e{n}",
    }  # fmt: skip
    return LiveEvent(**(fields | changes))


def scored_row(**changes) -> ScoredRow:
    fields = {"user_id": "anna", "session_id": "s1", "product_id": "p0", "price": 10.0, "time_s": NOON_S + 60}
    return ScoredRow(**(fields | changes))
