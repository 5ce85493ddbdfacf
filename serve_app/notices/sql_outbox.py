"""What webhooks are to be told, in the database of the rollouts: stored with the change, so that no crash loses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from serve_app.notices.ports import Notice, NoticeStatus
from serve_app.storage.sql_engine import translated

MAX_PROBLEM: Final = 500

OUTBOX_METADATA: Final = sa.MetaData()
OUTBOX: Final = sa.Table(
    "rollout_notices",
    OUTBOX_METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("change_id", sa.Integer, nullable=False, unique=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("event", sa.JSON, nullable=False),
    sa.Column("status", sa.String(16), nullable=False, index=True),
    sa.Column("n_attempts", sa.Integer, nullable=False),
    sa.Column("problem", sa.Text, nullable=False),
)


def put_notice(connection: Connection, url: str, change_id: int, event: Mapping[str, Any]) -> None:
    """Add what a webhook is to be told, plain JSON, in the transaction that stores the change."""
    values = {"change_id": change_id, "url": url, "event": {**event, "id": change_id}}
    connection.execute(OUTBOX.insert().values(**values, status="waiting", n_attempts=0, problem=""))


def say_delivery(status: str | None, n_attempts: int | None, problem: str | None) -> str:
    """Return what became of a notice in plain words; empty when there was nobody to tell."""
    if status is None:
        return ""
    words = [f"after {n_attempts} attempt{'s' if n_attempts != 1 else ''}"] if n_attempts else []
    words += [problem] if problem and status != "delivered" else []
    return f"{status}{' ' if words else ''}{', '.join(words)}"


class SqlOutbox:
    """A `serve_app.notices.ports.Outbox` beside a `serve_app.rollouts.adapters.sql_store.SqlRolloutStore`.

    Parameters
    ----------
    engine : Engine
        That of the store, which makes the table.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def waiting(self) -> list[Notice]:
        """Return what waits, oldest first."""
        query = sa.select(OUTBOX).where(OUTBOX.c.status == "waiting").order_by(OUTBOX.c.id)
        with translated(self._engine), self._engine.begin() as connection:
            rows = connection.execute(query).mappings().all()
        return [Notice(row["id"], row["url"], row["event"], row["n_attempts"]) for row in rows]

    def settle(self, notice_id: int, status: NoticeStatus, n_attempts: int, problem: str) -> None:
        """Record what became of a notice."""
        values = {"status": status, "n_attempts": n_attempts, "problem": problem[:MAX_PROBLEM]}
        with translated(self._engine), self._engine.begin() as connection:
            connection.execute(OUTBOX.update().where(OUTBOX.c.id == notice_id).values(**values))
