"""The lines of an event log as events for ``POST /v1/events``, each with an id."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

REQUEST_EVENTS: Final = 2_000
"""Events of one request, which the service records in one transaction: 19,000 a second with 1,000 at a time."""

_ID_DIGITS: Final = 20
DropUnsendable = Callable[[pa.RecordBatch], tuple[pa.RecordBatch, NDArray[np.bool_], dict[str, int]]]
_TEXT: Final = ("event_type", "product_id", "category_id", "category_code", "brand", "user_id", "user_session")


@dataclass(frozen=True, slots=True)
class LogPart:
    """Some lines of a file that follow each other.

    Attributes
    ----------
    table : Table
        The events to send: the published columns, ids as text, times with their zone, and ``event_id``.
    lines : ndarray of int64, shape (n_events,)
        Line of each event in its file, from 0.
    n_lines : int
        Lines this part takes, those that cannot be sent included.
    dropped : dict of str to int
        Those that cannot be sent, by the reason they are no events for.
    """

    table: pa.Table
    lines: NDArray[np.int64]
    n_lines: int
    dropped: dict[str, int]


def split_log(
    batches: Iterable[pa.RecordBatch],
    digest: str,
    drop: DropUnsendable,
    first_line: int = 0,
    size: int = REQUEST_EVENTS,
) -> Iterator[LogPart]:
    """Yield the lines of one file as events, a request at a time.

    Parameters
    ----------
    batches : iterable of RecordBatch
        See `serve_app.events.adapters.log_files.EventLog.batches`.
    digest : str
        Of the file's bytes, hex. An event without ``event_id`` is named ``<digest>:<line>``, so that the same
        line of the same file is the same event whenever it is sent.
    drop : callable
        Says which lines a service can be asked about, see `serve_app.events.core.event_rows.drop_unsendable`.
    first_line : int
        Lines before it are left out.
    size : int
        Lines of one part.
    """
    at = 0
    for batch in batches:
        start = min(max(first_line - at, 0), batch.num_rows)
        for offset in range(start, batch.num_rows, size):
            yield _as_events(batch.slice(offset, size), at + offset, digest, drop)
        at += batch.num_rows


def _as_events(batch: pa.RecordBatch, first_line: int, digest: str, drop: DropUnsendable) -> LogPart:
    lines = np.arange(first_line, first_line + batch.num_rows)
    batch, keep, dropped = drop(batch)
    ids = pc.binary_join_element_wise(digest[:_ID_DIGITS], pa.array(lines).cast(pa.string()), ":")
    columns = {name: batch.column(name).cast(pa.string()) for name in _TEXT}
    columns["event_time"] = batch.column("event_time").cast(pa.timestamp("s", "UTC"))
    columns["price"] = batch.column("price")
    columns["event_id"] = pc.coalesce(batch.column("event_id"), ids) if "event_id" in batch.schema.names else ids
    table = pa.table(columns)
    return LogPart(table if keep.all() else table.filter(pa.array(keep)), lines[keep], batch.num_rows, dropped)
