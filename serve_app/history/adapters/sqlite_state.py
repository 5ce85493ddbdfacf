"""States of users and sessions in one SQLite file: no server to run, any number of processes on one machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from serve_app.errors import InvariantError
from serve_app.history.core.fold import NO_USER, dump_session, dump_user, parse_session, parse_user, remove_session
from serve_app.history.core.fold_batch import (
    Folded,
    KeyedEvent,
    KeyedRow,
    Known,
    LookedUp,
    RecordStatus,
    StateKeys,
    fold_events,
    keys_of_events,
    keys_of_rows,
    look_up_rows,
)
from serve_app.history.service.ports import Erased, StoredUser
from serve_app.storage.sqlite_connections import SqliteConnections

SCHEMA_VERSION: Final = 1
CHUNK_KEYS: Final = 512
"""Keys in one SELECT; batches of any size are read in several."""

# Sessions have rows of up to 16 KB, which belong in a table with rowids; the others are small.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS users (key BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    key BLOB PRIMARY KEY, user BLOB NOT NULL, last_s INTEGER NOT NULL, state BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS sessions_by_user ON sessions (user);
CREATE INDEX IF NOT EXISTS sessions_by_time ON sessions (last_s);
CREATE TABLE IF NOT EXISTS events (key BLOB PRIMARY KEY, content BLOB NOT NULL, session BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS events_by_session ON events (session);
CREATE TABLE IF NOT EXISTS products (key INTEGER PRIMARY KEY, category INTEGER NOT NULL);
"""


class SqliteStateStore:
    """A `serve_app.history.service.ports.StateStore` in one file.

    Parameters
    ----------
    path : Path
        Its folder is made.
    check : bytes
        Of the secret the ids are keyed with, `serve_app.privacy.pseudonyms.Pseudonyms.check`; a file written under
        another secret is refused, because nothing in it could be found.

    Raises
    ------
    NotReadyError
        The file cannot be used now, or is damaged.
    InvariantError
        It is of another schema or of another secret.

    Notes
    -----
    Open it after forking, not before.
    """

    def __init__(self, path: Path, check: bytes) -> None:
        self._path = path
        self._check = check
        self._connections = SqliteConnections(path, self._prepare)
        with self._connections.transaction("write"):  # opening is what there is to do
            pass

    def record(self, events: Sequence[KeyedEvent]) -> list[RecordStatus]:
        """Fold events in their order and return what became of each."""
        with self._connections.transaction("write") as connection:
            known = _fetch(connection, keys_of_events(events))
            folded = fold_events(known, events)
            _store(connection, known, folded)
        return folded.statuses

    def lookup(self, rows: Sequence[KeyedRow], now_s: int) -> LookedUp:
        """Return what is known of each row."""
        with self._connections.transaction("read") as connection:
            known = _fetch(connection, keys_of_rows(rows))
        return look_up_rows(known, rows, now_s)

    def load_states(self, users: Sequence[StoredUser]) -> int:
        """Store users that are not known yet, and return how many those were."""
        with self._connections.transaction("write") as connection:
            keys = [user.key for user in users]
            known = {key for key, _ in _select(connection, "SELECT key, state FROM users WHERE key IN", keys)}
            new = [user for user in users if user.key not in known]
            sessions = [(user.key, session) for user in new for session in user.sessions]
            connection.executemany("INSERT INTO users VALUES (?, ?)", ((u.key, dump_user(u.state)) for u in new))
            connection.executemany(
                "INSERT INTO sessions VALUES (?, ?, ?, ?)",
                ((s.key, user, s.state.last_s, dump_session(s.state)) for user, s in sessions),
            )
            connection.executemany(
                "INSERT OR IGNORE INTO events VALUES (?, ?, ?)",
                ((event.key, event.content, s.key) for _, s in sessions for event in s.events),
            )
        return len(new)

    def load_categories(self, categories: Mapping[int, int]) -> None:
        """Store the category last seen of products for which none is known."""
        with self._connections.transaction("write") as connection:
            connection.executemany("INSERT OR IGNORE INTO products VALUES (?, ?)", categories.items())

    def erase(self, user: bytes) -> Erased:
        """Remove a user, the user's sessions and the keys of their events, from the disk too."""
        with self._connections.transaction("write") as connection:
            mine = "SELECT key FROM sessions WHERE user = ?"
            n_events = connection.execute(f"DELETE FROM events WHERE session IN ({mine})", (user,)).rowcount  # noqa: S608
            n_sessions = connection.execute("DELETE FROM sessions WHERE user = ?", (user,)).rowcount
            connection.execute("DELETE FROM users WHERE key = ?", (user,))
        self._connections.empty_log()
        return Erased(n_sessions, n_events)

    def forget(self, before_s: int, limit: int = 500) -> int:
        """Remove at most `limit` sessions whose latest event is before a time, and return how many were.

        The step that finds fewer empties the write-ahead log, so that nothing removed stays on the disk.
        """
        with self._connections.transaction("write") as connection:
            old = connection.execute(
                "SELECT key, user, state FROM sessions WHERE last_s < ? ORDER BY last_s LIMIT ?", (before_s, limit)
            ).fetchall()
            users = _fetch(connection, StateKeys(list({user for _, user, _ in old}), [], [], [])).users
            for _, user, state in old:
                users[user] = remove_session(users[user], parse_session(state))
            gone = [(user,) for user, state in users.items() if state == NO_USER]
            connection.executemany("DELETE FROM events WHERE session = ?", ((key,) for key, _, _ in old))
            connection.executemany("DELETE FROM sessions WHERE key = ?", ((key,) for key, _, _ in old))
            connection.executemany(
                "UPDATE users SET state = ? WHERE key = ?", ((dump_user(state), user) for user, state in users.items())
            )
            connection.executemany("DELETE FROM users WHERE key = ?", gone)
        if len(old) < limit:  # the last step
            self._connections.empty_log()
        return len(old)

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        self._connections.close()

    def _prepare(self, connection: sqlite3.Connection) -> None:
        expected = {"schema": str(SCHEMA_VERSION).encode(), "secret": self._check}
        if not _read_meta(connection):
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";"):  # executescript would commit
                connection.execute(statement)
            connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", expected.items())
            connection.execute("COMMIT")
        found = _read_meta(connection)
        schema = found.get("schema", b"")
        if schema != expected["schema"]:
            raise InvariantError(
                f"the state in {self._path} has schema {schema.decode(errors='replace')}; this scorecat reads "
                f"{SCHEMA_VERSION}"
            )
        if found.get("secret") != expected["secret"]:
            raise InvariantError(
                f"the state in {self._path} was written under another secret: restore the secret it was written with, "
                f"or move the file away to start without history"
            )


def _read_meta(connection: sqlite3.Connection) -> dict[str, bytes]:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        return {}
    return dict(connection.execute("SELECT name, value FROM meta"))


def _select(connection: sqlite3.Connection, query: str, keys: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    for at in range(0, len(keys), CHUNK_KEYS):
        chunk = list(keys[at : at + CHUNK_KEYS])
        # Padded to a power of two, so that few different statements have to be compiled.
        size = 1 << (len(chunk) - 1).bit_length()
        chunk += chunk[-1:] * (size - len(chunk))
        yield from connection.execute(f"{query} ({','.join('?' * size)})", chunk)


def _fetch(connection: sqlite3.Connection, keys: StateKeys) -> Known:
    users = _select(connection, "SELECT key, state FROM users WHERE key IN", keys.users)
    sessions = _select(connection, "SELECT key, state FROM sessions WHERE key IN", keys.sessions)
    return Known(
        {key: parse_user(state) for key, state in users},
        {key: parse_session(state) for key, state in sessions},
        dict(_select(connection, "SELECT key, content FROM events WHERE key IN", keys.events)),
        dict(_select(connection, "SELECT key, category FROM products WHERE key IN", keys.products)),
    )


def _store(connection: sqlite3.Connection, known: Known, folded: Folded) -> None:
    connection.executemany(
        "INSERT INTO users VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET state = excluded.state",
        ((key, dump_user(known.users[key])) for key in folded.users),
    )
    sessions = ((key, user, known.sessions[key]) for key, user in folded.sessions.items())
    connection.executemany(
        "INSERT INTO sessions VALUES (?, ?, ?, ?) "
        "ON CONFLICT (key) DO UPDATE SET last_s = excluded.last_s, state = excluded.state",
        ((key, user, state.last_s, dump_session(state)) for key, user, state in sessions),
    )
    connection.executemany(
        "INSERT INTO events VALUES (?, ?, ?)",
        ((key, known.events[key], session) for key, session in folded.events.items()),
    )
    connection.executemany(
        "INSERT INTO products VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET category = excluded.category",
        ((product, known.categories[product]) for product in folded.products),
    )
