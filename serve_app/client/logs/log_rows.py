"""The view and cart lines of an event log as requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from serve_app.client.rows import SATURDAY

SCORED_TYPES: Final = ("view", "cart")
CHUNK_ROWS: Final = 1024
"""Rows made at once: a few milliseconds of work beside the sender."""
_COPIED: Final = ("user_id", "user_session", "product_id", "category_id", "category_code", "brand", "price")
_NAMES: Final = ("user_id", "session_id", *_COPIED[2:], "hour", "day_of_week", "is_weekend", "event_time")
"""A request's names for those columns, and for what follows from the time."""


def encode_log(batches: Iterable[pa.RecordBatch]) -> Iterator[list[bytes]]:
    """Yield the view and cart lines as the JSON of requests, a chunk at a time.

    Parameters
    ----------
    batches : iterable of RecordBatch
        The published columns, ``event_time`` as int64 seconds since 1970 UTC; ``event_id`` where there is one.

    Notes
    -----
    Nothing is left out or mended: a line without a price above 0, a session or a time is for the
    service to reject.
    """
    for batch in batches:
        kept = batch.filter(pc.is_in(batch.column("event_type"), value_set=pa.array(SCORED_TYPES)))
        for start in range(0, kept.num_rows, CHUNK_ROWS):
            yield encode_events(kept.slice(start, CHUNK_ROWS))


def encode_events(batch: pa.RecordBatch, **extra: Any) -> list[bytes]:
    """Return every line of a batch as the JSON of a request, which gets the members `extra` too."""
    at = batch.column("event_time").cast(pa.timestamp("s"))
    day = pc.day_of_week(at)
    columns = [
        *(batch.column(name) for name in _COPIED),
        pc.hour(at),
        day,
        pc.cast(pc.greater_equal(day, SATURDAY), pa.int8()),
        pc.strftime(at, "%Y-%m-%dT%H:%M:%SZ"),
    ]
    names = list(_NAMES)
    if "event_id" in batch.schema.names:
        names.append("event_id")
        columns.append(batch.column("event_id"))
    values = (column.to_pylist() for column in columns)
    return [orjson.dumps(dict(zip(names, row, strict=True)) | extra) for row in zip(*values, strict=True)]
