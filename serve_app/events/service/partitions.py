"""An event log brought into groups of whole users that fit in memory, each sorted by time."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.errors import InvalidDataError
from serve_app.events.core.columns import EventColumns
from serve_app.events.core.event_rows import PURCHASE, SEEN_BEFORE, clean_events, price_cents

MEMORY_ROWS: Final = 4_000_000
"""Events kept in memory before the log is spilled by user; about 150 bytes an event."""

N_PARTITIONS: Final = 64
SPILL_ROWS: Final = 1_000_000
"""Events gathered before they are handed to the partitions, so that each gets a few thousand at once."""


class EventSource(Protocol):
    """A log that can be read."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the lines in their order, see `serve_app.events.adapters.log_files.EventLog.batches`."""
        ...


class Spill(Protocol):
    """A temporary place for events by partition."""

    def append(self, partition: int, batch: pa.RecordBatch) -> None:
        """Write a batch at the end of a partition."""
        ...

    def partitions(self) -> list[int]:
        """Finish writing and return the partitions that hold rows."""
        ...

    def read(self, partition: int) -> pa.Table:
        """Return a partition's rows in the order they were appended."""
        ...


@dataclass(slots=True)
class LogSummary:
    """What was read.

    Attributes
    ----------
    n_lines : int
        Lines of the log, the header not counted.
    n_events : int
        Lines that are events.
    dropped : Counter
        Lines left out by reason.
    first_s, last_s : int
        Time of the first and the last event, seconds since 1970 UTC.
    """

    n_lines: int = 0
    n_events: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    first_s: int = np.iinfo(np.int64).max
    last_s: int = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Partition:
    """All events of some users, sorted by (event_time, position in the log).

    Attributes
    ----------
    events : EventColumns
        The numbers history is made of.
    table : Table
        The columns of the log in the same order, ids and names dictionary-encoded, and ``position``.
    """

    events: EventColumns
    table: pa.Table


def read_partitions(
    source: EventSource, spill: Spill, summary: LogSummary, *, memory_rows: int = MEMORY_ROWS
) -> Iterator[Partition]:
    """Read a log and yield it user group by user group.

    Parameters
    ----------
    source : EventSource
    spill : Spill
        Used only when the log has more than `memory_rows` events.
    summary : LogSummary
        Filled while reading, complete when the first partition is yielded.
    memory_rows : int
        Events that may be held in memory.

    Raises
    ------
    InvalidDataError
        The log cannot be read or holds no event at all.
    """
    held: list[pa.RecordBatch] = []
    n_held, spilled = 0, False
    for batch in _read_clean(source, summary):
        held.append(batch)
        n_held += batch.num_rows
        if n_held >= (SPILL_ROWS if spilled else memory_rows):
            _spill(held, spill)
            held, n_held, spilled = [], 0, True
    if summary.n_events == 0:
        raise InvalidDataError(f"the log holds no event ({summary.n_lines} lines, dropped: {dict(summary.dropped)})")
    if not spilled:
        yield _sort_partition(pa.Table.from_batches(held), summary)
        return
    if held:
        _spill(held, spill)
    del held
    for number in spill.partitions():
        yield _sort_partition(spill.read(number), summary)


def split_users(partition: Partition, n_events: int) -> Iterator[Partition]:
    """Yield a partition in parts of whole users, of some `n_events` events each; the same parts every time."""
    events = partition.events
    part_of_user = (np.cumsum(np.bincount(events.user)) - 1) // n_events
    part = part_of_user[events.user]
    for number in np.unique(part):
        keep = part == number
        columns = {f.name: getattr(events, f.name)[keep] for f in fields(EventColumns)}
        yield Partition(EventColumns(**columns), partition.table.filter(pa.array(keep)).combine_chunks())


def _read_clean(source: EventSource, summary: LogSummary) -> Iterator[pa.RecordBatch]:
    for lines in source.batches():
        position = pa.array(np.arange(summary.n_lines, summary.n_lines + lines.num_rows))
        batch, dropped = clean_events(lines.append_column("position", position))
        summary.n_lines += lines.num_rows
        summary.n_events += batch.num_rows
        summary.dropped.update(dropped)
        if batch.num_rows:
            time_s = batch.column("event_time").to_numpy()
            summary.first_s = min(summary.first_s, int(time_s.min()))
            summary.last_s = max(summary.last_s, int(time_s.max()))
            yield batch


def _spill(held: list[pa.RecordBatch], spill: Spill) -> None:
    table = pa.Table.from_batches(held).combine_chunks()
    number = hash_ids(table.column("user_id").combine_chunks()) % N_PARTITIONS
    order = np.argsort(number, kind="stable")
    ends = np.searchsorted(number[order], np.arange(N_PARTITIONS + 1))
    table = table.take(pa.array(order)).combine_chunks()
    for partition in range(N_PARTITIONS):
        first, end = int(ends[partition]), int(ends[partition + 1])
        for batch in table.slice(first, end - first).to_batches():
            spill.append(partition, batch)


def hash_ids(ids: pa.Array) -> NDArray[np.int64]:
    """Return a stable, non-negative hash of ids, equal for an id stored as text or as a number."""
    encoded = ids.dictionary_encode()
    values = encoded.dictionary.cast(pa.string()).to_pylist()
    hashes = np.fromiter((zlib.crc32(value.encode()) for value in values), np.int64, len(values))
    out: NDArray[np.int64] = hashes[encoded.indices.to_numpy(zero_copy_only=False)]
    return out


def _sort_partition(table: pa.Table, summary: LogSummary) -> Partition:
    table = table.combine_chunks()
    time_s = table.column("event_time").to_numpy()
    if (np.diff(time_s) < 0).any():
        order = np.argsort(time_s, kind="stable")
        table, time_s = table.take(pa.array(order)).combine_chunks(), time_s[order]
    if "event_id" in table.column_names:
        table, n_seen = _drop_seen(table)
        summary.dropped.update({SEEN_BEFORE: n_seen} if n_seen else {})
        summary.n_events -= n_seen
        time_s = table.column("event_time").to_numpy()
    codes = {name: table.column(name).combine_chunks().dictionary_encode() for name in _CODED}
    for name, column in codes.items():
        table = table.set_column(table.column_names.index(name), name, column)
    user, session = _codes(codes["user_id"]), _codes(codes["user_session"])
    events = EventColumns(
        user=user,
        session=_session_codes(user, session),
        product=_codes(codes["product_id"]),
        category=_codes(codes["category_id"]),
        time_s=time_s,
        price_cents=price_cents(table.column("price").to_numpy()),
        is_purchase=table.column("event_type").to_numpy() == PURCHASE,
    )
    return Partition(events, table)


_CODED: Final = ("user_id", "user_session", "product_id", "category_id", "category_code", "brand")


def _codes(column: pa.DictionaryArray) -> NDArray[np.int64]:
    indices = column.indices
    filled = indices.fill_null(-1) if indices.null_count else indices
    return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.int64)


def _session_codes(user: NDArray[np.int64], session: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one dense code for each pair of user and session id."""
    owner = np.empty(int(session.max()) + 1, dtype=np.int64)
    owner[session] = user
    if (owner[session] == user).all():
        return session
    pairs = session * (int(user.max()) + 1) + user
    codes: NDArray[np.int64] = np.unique(pairs, return_inverse=True)[1].astype(np.int64)
    return codes


def _drop_seen(table: pa.Table) -> tuple[pa.Table, int]:
    """Drop rows whose event_id an earlier row has; rows without one are all kept."""
    ids = table.column("event_id").combine_chunks().dictionary_encode().indices
    codes = np.asarray(ids.fill_null(-1).to_numpy(zero_copy_only=False))
    _, first = np.unique(codes, return_index=True)
    keep = codes < 0
    keep[first] = True
    n_seen = int(np.count_nonzero(~keep))
    return (table.filter(pa.array(keep)).combine_chunks() if n_seen else table), n_seen
