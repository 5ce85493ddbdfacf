"""Transactions on one SQLite file by several threads and processes, and what they may run into.

Write-ahead log with ``synchronous=FULL``: what was committed is on disk. A write transaction takes the write
lock at its begin (a read lock that is upgraded later fails under contention); readers never wait for writers.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

from serve_app.core.errors import InvariantError, NotReadyError, UnknownOutcomeError

BUSY_TIMEOUT_S: Final = 5.0

_RETRY_AFTER_S: Final = 1.0
_POLL_S: Final = 0.01
_WAL_BYTES: Final = 64 << 20
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_NO_ROOM: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)

Role = Literal["read", "write"]


class SqliteConnections:
    """One connection to read and one to write, opened when first used; each serves one thread at a time.

    Parameters
    ----------
    path : Path
        Its folder is made.
    prepare : callable
        Called with every new connection, in no transaction: makes and checks tables.
    """

    def __init__(self, path: Path, prepare: Callable[[sqlite3.Connection], None]) -> None:
        self._path = path
        self._prepare = prepare
        self._locks: dict[Role, threading.Lock] = {"read": threading.Lock(), "write": threading.Lock()}
        self._open_ones: dict[Role, sqlite3.Connection] = {}

    @contextlib.contextmanager
    def transaction(self, role: Role) -> Iterator[sqlite3.Connection]:
        """Give a connection inside a transaction, which is committed at the end and undone by any exception.

        Raises
        ------
        NotReadyError
            The file is locked for too long, the disk is full or fails, or the file cannot be opened.
        UnknownOutcomeError
            The disk failed at the very end.
        InvariantError
            The file is no database or is damaged.
        """
        with self._locks[role]:
            try:
                connection = self._open_ones.get(role) or self._open(role)
                connection.execute("BEGIN IMMEDIATE" if role == "write" else "BEGIN")
                yield connection
                connection.execute("COMMIT")
            except sqlite3.Error as exc:
                self._undo(role, exc)
                raise _translate(self._path, exc) from exc
            except BaseException as exc:
                self._undo(role, exc)
                raise

    def empty_log(self) -> None:
        """Copy the write-ahead log into the file and cut it, unless a reader is in the way; then a later one does."""
        with self._locks["write"], contextlib.suppress(sqlite3.Error):
            connection = self._open_ones.get("write")
            if connection is not None:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close both; the next transaction opens them again."""
        for role, lock in self._locks.items():
            with lock:
                self._drop(role)

    def _open(self, role: Role) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise NotReadyError(f"the folder of {self._path} cannot be made: {exc.strerror}", _RETRY_AFTER_S) from exc
        connection = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            _begin_log(connection)
            # What is erased is overwritten, for no extra fsync.
            for pragma in ("synchronous=FULL", "secure_delete=ON", f"journal_size_limit={_WAL_BYTES}"):
                connection.execute(f"PRAGMA {pragma}")
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._open_ones[role] = connection
        return connection

    def _undo(self, role: Role, exc: BaseException) -> None:
        """Roll back; after anything but a wait that was too long, the next one starts with a new connection."""
        connection = self._open_ones.get(role)
        if connection is None:
            return
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        if isinstance(exc, sqlite3.Error) and _code(exc) not in _BUSY:
            self._drop(role)

    def _drop(self, role: Role) -> None:
        connection = self._open_ones.pop(role, None)
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _begin_log(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log; for this SQLite does not wait by itself while others do the same."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as exc:
            if _code(exc) not in _BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
        else:
            return


def _code(exc: sqlite3.Error) -> int:
    code: int = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    return code


def _translate(path: Path, exc: sqlite3.Error) -> InvariantError | NotReadyError:
    code = _code(exc)
    if code in _DAMAGED:
        return InvariantError(f"{path} is damaged ({exc}): restore a copy, or move it away to start anew")
    if getattr(exc, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_FSYNC:  # written, but perhaps not on the disk
        return UnknownOutcomeError(
            f"{path} could not be brought to the disk ({exc}); it is not known whether this call is stored",
            _RETRY_AFTER_S,
        )
    if not isinstance(exc, sqlite3.OperationalError):
        return InvariantError(f"{path} refused a statement: {exc}")
    if code in _NO_ROOM:
        why = f"cannot be written ({exc}): free space on its disk; nothing of this call is stored"
    else:
        why = f"cannot be used: {exc}"
    return NotReadyError(f"{path} {why}", _RETRY_AFTER_S)
