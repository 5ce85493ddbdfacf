"""Rollouts, their history and the current splits in a relational database, through SQLAlchemy Core.

The database is the controller's memory. Gateways never read it: they read the split file, which the controller
writes from here, so that they go on without it.

Writers are serialised by the database: on SQLite every write transaction begins with the write lock (a read
lock that is upgraded later fails under contention), elsewhere rows are compared and swapped by revision. That a
model has one active rollout is a unique column that is null for rollouts that are over.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError

from serve_app.errors import ConflictError, InvariantError, NotFoundError, NotReadyError
from serve_app.notices.sql_outbox import OUTBOX, OUTBOX_METADATA, put_notice, say_delivery
from serve_app.rollouts.service.changes import make_event
from serve_app.rollouts.service.ports import Rollout, RolloutChange
from serve_app.storage.disk_reserve import DiskReserve
from serve_app.storage.sql_engine import READ_ONLY, UtcDateTime, identify, is_full, translated

SCHEMA_VERSION: Final = 1

_ADVICE: Final = {
    "canary": "abort it first (`scorecat rollout abort`), or promote it once it has traffic",
    "ab": "it is an A/B test, end it first (`scorecat rollout abort`)",
    "shadow": "it is a shadow, end it first (`scorecat shadow stop`)",
}

logger = logging.getLogger("scorecat.rollouts")
T = TypeVar("T")


_METADATA: Final = sa.MetaData()

_SCHEMA: Final = sa.Table(
    "schema_versions",
    _METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
)
_ROLLOUTS: Final = sa.Table(
    "rollouts",
    _METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("model", sa.String(64), nullable=False),
    sa.Column("active_model", sa.String(64), unique=True),
    sa.Column("stable", sa.Integer, nullable=False),
    sa.Column("canary", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("plan", sa.JSON, nullable=False),
    sa.Column("state", sa.JSON, nullable=False),
    sa.Column("phase", sa.String(16), nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("split_revision", sa.Integer, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Index("rollouts_by_model", "model", "id"),
    sqlite_autoincrement=True,  # an id is never given twice
)
_CHANGES: Final = sa.Table(
    "rollout_changes",
    _METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("rollout_id", sa.Integer, sa.ForeignKey("rollouts.id"), nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("who", sa.String(256), nullable=False),
    sa.Column("from_phase", sa.String(16), nullable=False),
    sa.Column("to_phase", sa.String(16), nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Index("changes_by_rollout", "rollout_id", "id"),
    sqlite_autoincrement=True,
)
_SPLITS: Final = sa.Table(
    "splits",
    _METADATA,
    sa.Column("model", sa.String(64), primary_key=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("record", sa.JSON, nullable=False),
)
_CHANGE_FIELDS: Final = [field.name for field in dataclasses.fields(RolloutChange) if field.name in _CHANGES.c]


class SqlRolloutStore:
    """A `serve_app.rollouts.service.ports.RolloutStore` on one database.

    Parameters
    ----------
    engine : Engine
        See `serve_app.storage.sql_engine.build_engine`. The tables are created when they are not there, also
        when somebody removes or replaces the file of a SQLite database while it is in use.
    reserve : DiskReserve or None
        Given up when the disk is full and a decision has to be stored.

    Raises
    ------
    InvariantError
        The tables were made by another version of scorecat.
    """

    def __init__(self, engine: Engine, reserve: DiskReserve | None = None) -> None:
        self._engine = engine
        self._reserve = reserve
        self._opening = threading.RLock()
        self._opened: tuple[int, int] | None = None
        self._prepare()

    def _prepare(self) -> None:
        with translated(self._engine), self._engine.begin() as connection:
            _METADATA.create_all(connection)
            OUTBOX_METADATA.create_all(connection)
            found = connection.scalar(sa.select(_SCHEMA.c.version).where(_SCHEMA.c.name == "rollouts"))
            if found is None:
                connection.execute(_SCHEMA.insert().values(name="rollouts", version=SCHEMA_VERSION))
            elif found != SCHEMA_VERSION:
                where = self._engine.url.render_as_string()
                raise InvariantError(
                    f"the rollout database {where} has schema {found}; this scorecat reads {SCHEMA_VERSION}"
                )
        self._opened = identify(self._engine)

    def create(self, rollout: Rollout, change: RolloutChange) -> Rollout:
        """Store a new active rollout and return it with its id."""
        values = _to_row(rollout) | {"revision": 1}
        try:
            return self._insist(lambda: self._insert(rollout, values, change))
        except IntegrityError as exc:
            active = self.find_active(rollout.model)
            which = f"rollout {active.id} (version {active.canary}, {active.phase})" if active else "another rollout"
            advice = _ADVICE[active.kind] if active else "abort it first"
            raise ConflictError(f"{rollout.model} has an active rollout already: {which}; {advice}") from exc

    def _insert(self, rollout: Rollout, values: Mapping[str, Any], change: RolloutChange) -> Rollout:
        with self._write() as connection:
            new_id = connection.execute(_ROLLOUTS.insert().values(values)).inserted_primary_key
            created = dataclasses.replace(rollout, id=int(new_id[0] if new_id else 0), revision=1)
            _record(connection, created, change)
        return created

    def save(
        self, rollout: Rollout, change: RolloutChange | None = None, split: Mapping[str, Any] | None = None
    ) -> Rollout:
        """Store a rollout as it is now, with its change and the split that follows from it."""
        if change is None and split is None:  # counts alone are not worth the last room of a full disk
            return self._update(rollout, change, split)
        return self._insist(lambda: self._update(rollout, change, split))

    def _update(self, rollout: Rollout, change: RolloutChange | None, split: Mapping[str, Any] | None) -> Rollout:
        saved = dataclasses.replace(rollout, revision=rollout.revision + 1)
        is_same = (_ROLLOUTS.c.id == rollout.id) & (_ROLLOUTS.c.revision == rollout.revision)
        with self._write() as connection:
            done = connection.execute(_ROLLOUTS.update().where(is_same).values(_to_row(saved)))
            if done.rowcount != 1:
                raise self._describe_lost(connection, rollout)
            if change is not None:
                _record(connection, rollout, change)
            if split is not None:
                _swap_split(connection, split)
        return saved

    def find(self, rollout_id: int) -> Rollout:
        """Return a rollout; raises NotFoundError."""
        found = self._find_where(_ROLLOUTS.c.id == rollout_id)
        if found is None:
            raise NotFoundError(f"there is no rollout {rollout_id}")
        return found

    def find_active(self, model: str) -> Rollout | None:
        """Return the model's rollout that owns the split, or None."""
        return self._find_where(_ROLLOUTS.c.active_model == model)

    def _find_where(self, is_wanted: sa.ColumnElement[bool]) -> Rollout | None:
        with self._read() as connection:
            row = connection.execute(sa.select(_ROLLOUTS).where(is_wanted)).mappings().first()
        return _from_row(row) if row is not None else None

    def recent(self, model: str, limit: int = 20) -> list[Rollout]:
        """Return the model's rollouts, newest first."""
        query = sa.select(_ROLLOUTS).where(_ROLLOUTS.c.model == model).order_by(_ROLLOUTS.c.id.desc()).limit(limit)
        with self._read() as connection:
            return [_from_row(row) for row in connection.execute(query).mappings()]

    def history(self, rollout_id: int) -> list[RolloutChange]:
        """Return the changes of a rollout, oldest first; raises NotFoundError."""
        self.find(rollout_id)
        told = OUTBOX.c.status, OUTBOX.c.n_attempts, OUTBOX.c.problem
        query = sa.select(_CHANGES, *told).outerjoin(OUTBOX, OUTBOX.c.change_id == _CHANGES.c.id)
        query = query.where(_CHANGES.c.rollout_id == rollout_id).order_by(_CHANGES.c.id)
        with self._read() as connection:
            return [_from_change_row(row) for row in connection.execute(query).mappings()]

    def read_split(self, model: str) -> Mapping[str, Any] | None:
        """Return the model's split record, or None."""
        with self._read() as connection:
            record: dict[str, Any] | None = connection.scalar(
                sa.select(_SPLITS.c.record).where(_SPLITS.c.model == model)
            )
        return record

    def write_split(self, record: Mapping[str, Any]) -> None:
        """Store a split record whose revision is the next one (1 for the first); raises ConflictError."""
        with self._write() as connection:
            _swap_split(connection, record)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _insist(self, work: Callable[[], T]) -> T:
        """Do what has to be stored; when the disk is full, once more after the reserve was given up."""
        try:
            return work()
        except NotReadyError as exc:
            if self._reserve is None or not is_full(exc.__cause__) or not self._reserve.release():
                raise
        return work()

    def _look(self) -> None:
        """Begin with the file that is there when it is not the one that was opened: nobody else sees that one."""
        with self._opening:
            if identify(self._engine) == self._opened:
                return
            logger.warning("the rollout database %s was removed or replaced", self._engine.url.render_as_string())
            self._engine.dispose()
            self._prepare()

    @contextlib.contextmanager
    def _write(self) -> Iterator[Connection]:
        self._look()
        with translated(self._engine), self._engine.begin() as connection:
            yield connection
        if self._reserve is not None:
            self._reserve.hold()

    @contextlib.contextmanager
    def _read(self) -> Iterator[Connection]:
        self._look()
        with translated(self._engine), self._engine.connect() as connection:
            yield connection.execution_options(**{READ_ONLY: True})

    def _describe_lost(self, connection: Connection, rollout: Rollout) -> ConflictError | NotFoundError:
        found = connection.scalar(sa.select(_ROLLOUTS.c.revision).where(_ROLLOUTS.c.id == rollout.id))
        if found is None:
            return NotFoundError(f"there is no rollout {rollout.id}")
        return ConflictError(
            f"rollout {rollout.id} changed since it was read (revision {found}, not {rollout.revision}); read it again"
        )


def _swap_split(connection: Connection, record: Mapping[str, Any]) -> None:
    model, revision = str(record["model"]), int(record["revision"])
    values = {"revision": revision, "record": dict(record)}
    found = connection.scalar(sa.select(_SPLITS.c.revision).where(_SPLITS.c.model == model)) or 0
    if revision == found + 1 == 1:
        with contextlib.suppress(IntegrityError):  # somebody was first: the answer is the conflict below
            connection.execute(_SPLITS.insert().values(model=model, **values))
            return
    is_before = (_SPLITS.c.model == model) & (_SPLITS.c.revision == revision - 1)
    if connection.execute(_SPLITS.update().where(is_before).values(values)).rowcount != 1:
        raise ConflictError(f"the split of {model} is at revision {found}; {revision} does not follow it")


def _to_row(rollout: Rollout) -> dict[str, Any]:
    row = {field.name: getattr(rollout, field.name) for field in dataclasses.fields(rollout)}
    row |= {"plan": dict(rollout.plan), "state": dict(rollout.state)}
    del row["id"]
    return row | {"active_model": rollout.model if row.pop("is_active") else None}


def _from_row(row: sa.RowMapping) -> Rollout:
    names = {field.name for field in dataclasses.fields(Rollout)} - {"is_active"}
    return Rollout(**{name: row[name] for name in names}, is_active=row["active_model"] is not None)


def _record(connection: Connection, rollout: Rollout, change: RolloutChange) -> None:
    """Store a change, and with it what a webhook is to be told."""
    values = {name: getattr(change, name) for name in _CHANGE_FIELDS} | {"rollout_id": rollout.id}
    key = connection.execute(_CHANGES.insert().values(values)).inserted_primary_key
    url = rollout.plan.get("webhook")
    if url is not None:
        put_notice(connection, url, int(key[0] if key else 0), make_event(rollout, change))


def _from_change_row(row: sa.RowMapping) -> RolloutChange:
    delivery = say_delivery(row["status"], row["n_attempts"], row["problem"])
    return RolloutChange(**{name: row[name] for name in _CHANGE_FIELDS}, delivery=delivery)
