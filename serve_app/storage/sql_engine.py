"""Connections to the rollout database: how they begin, and what their failures mean."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError
from sqlalchemy.types import TypeDecorator

from serve_app.errors import InvariantError, NotReadyError

BUSY_TIMEOUT_S: Final = 5.0
RETRY_AFTER_S: Final = 1.0
READ_ONLY: Final = "scorecat_read_only"
"""Execution option of connections that only read."""


class UtcDateTime(TypeDecorator[datetime]):
    """Aware times; stored in UTC, also where the database forgets the zone (SQLite)."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the time in UTC."""
        if value is not None and value.tzinfo is None:
            raise InvariantError(f"the time {value} has no zone")
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the time, aware."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def build_engine(database: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """Return an engine for a SQLite file, whose folder is made; a writer waits at most so long for another."""
    database.parent.mkdir(parents=True, exist_ok=True)
    url = sa.URL.create("sqlite", database=str(database))
    engine = sa.create_engine(url, connect_args={"timeout": busy_timeout_s})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; `_begin_sqlite` does
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    is_read = connection.get_execution_options().get(READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if is_read else "BEGIN IMMEDIATE")


@contextlib.contextmanager
def translated(engine: Engine) -> Iterator[None]:
    """Raise NotReadyError for whatever keeps the database from being used."""
    try:
        yield
    except (DatabaseError, InterfaceError) as exc:
        if type(exc) not in (OperationalError, InterfaceError, DatabaseError):  # the last one alone: a damaged file
            raise
        where = engine.url.render_as_string()
        raise NotReadyError(f"the rollout database {where} cannot be used: {exc.orig}", RETRY_AFTER_S) from exc


def identify(engine: Engine) -> tuple[int, int] | None:
    """Return which file a SQLite database is; None when there is none, or for a server."""
    if engine.dialect.name != "sqlite" or not engine.url.database:
        return None
    try:
        stat = Path(engine.url.database).stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def is_full(error: BaseException | None) -> bool:
    """Return whether SQLite failed for want of room, or of a disk that takes anything."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
