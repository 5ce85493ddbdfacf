"""What is sent to the live service of a log, user by user."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serve_app.client.logs.log_rows import encode_events
from serve_app.events.core.event_rows import EVENT_TYPES, PURCHASE
from serve_app.events.service.partitions import Partition
from serve_app.features.core.row_keys import MAX_ID_LENGTH

WEEK_S: Final = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Step:
    """One event of a user.

    Attributes
    ----------
    row : int or None
        Its number among the rows that are scored; None for a purchase.
    body : bytes
        The request that scores and records the row.
    event : dict or None
        The purchase.
    """

    row: int | None
    body: bytes = b""
    event: dict[str, Any] | None = None


def shift_of(last_s: int, now_s: int) -> int:
    """Return by how many whole weeks to move a log so that it ends in the week before now, seconds.

    Hour, day of week and every duration stay what they are, and nothing is past retention that need not be.
    """
    return (now_s - last_s) // WEEK_S * WEEK_S


def plan_steps(partition: Partition, prefix: str, shift_s: int) -> list[list[Step]]:
    """Return what to send for every user of a partition, the users with most events first.

    Parameters
    ----------
    partition : Partition
    prefix : str
        Begins all ids of users, sessions, products and events, so that they are nobody else's: history counts
        equal ids and never looks into them, so that no feature changes.
    shift_s : int
        Added to every time, whole weeks.
    """
    kinds = partition.table.column("event_type").to_numpy()
    events = _rename(partition, prefix, shift_s)
    is_row = kinds != PURCHASE
    bodies = iter(encode_events(events.filter(pa.array(is_row)), observe=True))
    bought = events.filter(pa.array(~is_row))
    times = bought.column("event_time").cast(pa.timestamp("s", "UTC"))
    purchases = iter(bought.set_column(bought.schema.get_field_index("event_time"), "event_time", times).to_pylist())
    users: dict[int, list[Step]] = {}
    n_rows = 0
    for user, is_scored in zip(partition.events.user.tolist(), is_row.tolist(), strict=True):
        step = Step(n_rows, next(bodies)) if is_scored else Step(None, event=next(purchases))
        n_rows += is_scored
        users.setdefault(user, []).append(step)
    return sorted(users.values(), key=len, reverse=True)


def _rename(partition: Partition, prefix: str, shift_s: int) -> pa.RecordBatch:
    table = partition.table
    columns = {}
    for name in ("user_id", "user_session", "product_id", "category_id", "category_code", "brand"):
        column = table.column(name).combine_chunks().dictionary_decode().cast(pa.string())
        columns[name] = (
            _begin_with("", column) if name.startswith(("category", "brand")) else _begin_with(prefix, column)
        )
    columns["event_time"] = pa.array(partition.events.time_s + shift_s)
    columns["event_type"] = pa.array(EVENT_TYPES).take(table.column("event_type").combine_chunks())
    columns["price"] = table.column("price").combine_chunks()
    columns["event_id"] = _begin_with(prefix, table.column("position").combine_chunks().cast(pa.string()))
    return pa.RecordBatch.from_pydict(columns)


def _begin_with(prefix: str, column: pa.Array) -> pa.Array:
    renamed = pc.binary_join_element_wise(prefix, column, "")
    if (pc.max(pc.utf8_length(renamed)).as_py() or 0) <= MAX_ID_LENGTH:
        return renamed
    return pa.array([None if name is None else rename(prefix, name) for name in column.to_pylist()], pa.string())


def rename(prefix: str, name: str) -> str:
    """Return the name an id of the log is sent under; where the service takes none that long, a digest stands in."""
    if len(prefix) + len(name) <= MAX_ID_LENGTH:
        return prefix + name
    return prefix + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def read_positions(partition: Partition) -> list[int]:
    """Return the line in the log of every row that is scored, in order."""
    keep = partition.table.column("event_type").to_numpy() != PURCHASE
    lines: list[int] = np.asarray(partition.table.column("position").to_numpy())[keep].tolist()
    return lines
