"""Transactions on one SQLite file by several threads and processes, and what they may run into.

Write-ahead log with ``synchronous=FULL``: what was committed is on disk. A write transaction takes the write
lock at its begin (a read lock that is upgraded later fails under contention); readers never wait for writers.

A file may be moved away or replaced while it is open: what is written then goes with the moved file. So every
transaction looks first whether the path still leads to the file that is open (about 2 us), and opens what is there
now. A log that was left behind would be taken for that of the new file: then nothing is opened.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

from serve_app.errors import InvariantError, NotReadyError, UnknownOutcomeError

BUSY_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_MS: Final = 100

_RETRY_AFTER_S: Final = 1.0
_POLL_S: Final = 0.01
_WAL_BYTES: Final = 64 << 20
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_DAMAGED_RETRY_AFTER_S: Final = 10.0
_BESIDE: Final = ("-wal", "-shm")
"""Files that belong to a database, by what their names add to its own."""
_NO_ROOM: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)

Role = Literal["read", "write"]
FileId = tuple[int, int]
"""Device and inode."""


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
        self._opened: dict[Role, list[FileId | None]] = {}
        self._names = [os.fspath(path) + ending for ending in ("", *_BESIDE)]

    @contextlib.contextmanager
    def transaction(self, role: Role) -> Iterator[sqlite3.Connection]:
        """Give a connection inside a transaction, which is committed at the end and undone by any exception.

        Raises
        ------
        NotReadyError
            The file is locked for too long, damaged or no database, it cannot be opened, or was removed without its
            log; or the disk is full or fails.
        UnknownOutcomeError
            The disk failed at the very end.
        InvariantError
            A statement is wrong.
        """
        with self._locks[role]:
            try:
                connection = self._current(role)
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

    def _current(self, role: Role) -> sqlite3.Connection:
        """Return a connection to the file that the path leads to now.

        SQLite itself neither empties nor removes a log when it closes a file that has moved.
        """
        connection, now = self._open_ones.get(role), _identify(self._names[0])
        if connection is not None and now == self._opened[role][0]:
            return connection
        self._refuse_left(now)
        self._drop(role)
        return self._open(role)

    def _refuse_left(self, now: FileId | None) -> None:
        """Raise NotReadyError while files lie beside the path that belong to another than the one that is there now.

        The connections to that one stay open, so that nothing new can have its inodes.
        """
        beside = [(name, _identify(name)) for name in self._names[1:]]
        moved = [opened for opened in list(self._opened.values()) if opened[0] != now]
        left = [
            name
            for at, (name, found) in enumerate(beside, 1)
            if found is not None and (now is None or any(found == opened[at] for opened in moved))
        ]
        if left:
            raise NotReadyError(
                f"{self._path} was removed or replaced, but {' and '.join(left)} of the file that was there before "
                f"remained: put that file back, or move these away too to start anew",
                _DAMAGED_RETRY_AFTER_S,
            )

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
            if role == "read":  # nothing but a recovery of the file makes readers wait
                connection.execute(f"PRAGMA busy_timeout={READ_TIMEOUT_MS}")
        except BaseException:
            connection.close()
            raise
        self._open_ones[role] = connection
        self._opened[role] = [_identify(name) for name in self._names]
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
        self._opened.pop(role, None)
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _identify(name: str) -> FileId | None:
    try:
        found = os.stat(name)  # noqa: PTH116 - a Path costs each look-up 3 us more
    except OSError:
        return None
    return found.st_dev, found.st_ino


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
        return NotReadyError(
            f"{path} is damaged ({exc}): move it away, with its -wal and -shm, to start anew, or restore a copy",
            _DAMAGED_RETRY_AFTER_S,
        )
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
