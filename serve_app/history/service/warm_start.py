"""The history of a whole log brought into a store at once, before live events follow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.events.core.event_rows import EVENT_TYPES
from serve_app.events.service.partitions import MEMORY_ROWS, EventSource, LogSummary, Partition, Spill, read_partitions
from serve_app.history.core.final_states import final_states, last_categories
from serve_app.history.service.ports import StateStore, StoredEvent, StoredSession, StoredUser
from serve_app.privacy.pseudonyms import Pseudonyms

CHUNK_SESSIONS: Final = 2_000
"""Sessions stored in one transaction; a user's sessions stay together."""


@dataclass(slots=True)
class LoadReport:
    """What a load did.

    Attributes
    ----------
    summary : LogSummary
        What was read.
    n_users : int
        Users that were stored.
    n_kept : int
        Users that the store knew already and that stay as they were.
    """

    summary: LogSummary
    n_users: int = 0
    n_kept: int = 0


def load_log(
    source: EventSource,
    spill: Spill,
    store: StateStore,
    pseudonyms: Pseudonyms,
    *,
    before_s: int | None = None,
    memory_rows: int = MEMORY_ROWS,
) -> LoadReport:
    """Bring every user of a log to the state after its last event.

    Parameters
    ----------
    source, spill
        The log, and a temporary place for a large one.
    store : StateStore
        Users it knows are left alone, so a load that was interrupted is repeated safely.
    pseudonyms : Pseudonyms
    before_s : int, optional
        Sessions whose latest event is earlier (past retention) are left out.
    memory_rows : int
        Events that may be held in memory.

    Raises
    ------
    InvalidDataError
        The log cannot be read or holds no event.
    NotReadyError
        The store cannot be used; users stored so far are whole and stay.
    """
    report = LoadReport(LogSummary())
    categories: dict[int, tuple[int, int, int]] = {}
    for partition in read_partitions(source, spill, report.summary, memory_rows=memory_rows):
        numbers = {name: _numbers(partition.table, name, pseudonyms) for name in ("product_id", "category_id")}
        chunk: list[StoredUser] = []
        n_sessions = 0
        for user in _stored_users(partition, numbers, pseudonyms, before_s):
            chunk.append(user)
            n_sessions += len(user.sessions)
            if n_sessions >= CHUNK_SESSIONS:
                _store_chunk(store, chunk, report)
                chunk, n_sessions = [], 0
        _store_chunk(store, chunk, report)
        _note_categories(partition, numbers, categories)
    store.load_categories({product: category for product, (_, _, category) in categories.items()})
    return report


def _store_chunk(store: StateStore, chunk: list[StoredUser], report: LoadReport) -> None:
    if not chunk:
        return
    n_new = store.load_states(chunk)
    report.n_users += n_new
    report.n_kept += len(chunk) - n_new


def _stored_users(
    partition: Partition, numbers: dict[str, NDArray[np.int64]], pseudonyms: Pseudonyms, before_s: int | None
) -> Iterator[StoredUser]:
    states = final_states(partition.events, numbers["product_id"], numbers["category_id"])
    user_ids, session_ids = _names(partition.table, "user_id"), _names(partition.table, "user_session")
    # Session codes stand for pairs of user and session id; any row of a session tells its id.
    session_id = np.zeros(len(states.owner), dtype=np.int64)
    session_id[partition.events.session] = _codes(partition.table, "user_session")
    events = _events_by_session(partition, numbers)
    for code, user, sessions in states.each(before_s):
        user_key = pseudonyms.user(user_ids[code])
        stored = []
        for session, state in sessions:
            key = pseudonyms.session(user_key, session_ids[session_id[session]])
            mine = [(pseudonyms.event(e[0]), pseudonyms.content(key, *e[1:])) for e in events.get(session, ())]
            stored.append(StoredSession(key, state, tuple(StoredEvent(*each) for each in mine)))
        yield StoredUser(user_key, user, tuple(stored))


_EventFields = tuple[str, int, int | None, str, float, int]


def _events_by_session(partition: Partition, numbers: dict[str, NDArray[np.int64]]) -> dict[int, list[_EventFields]]:
    """Return what identifies each event that has an id, by session code."""
    out: dict[int, list[_EventFields]] = {}
    if "event_id" not in partition.table.column_names:
        return out
    table, events = partition.table, partition.events
    ids, prices = table.column("event_id").to_pylist(), table.column("price").to_pylist()
    products, kinds = numbers["product_id"][events.product].tolist(), table.column("event_type").to_pylist()
    categories = numbers["category_id"][events.category].tolist() if len(numbers["category_id"]) else [None] * len(ids)
    is_null = (events.category < 0).tolist()
    for row, event_id in enumerate(ids):
        if event_id is not None:
            category = None if is_null[row] else categories[row]
            fields = (event_id, products[row], category, EVENT_TYPES[kinds[row]], prices[row], int(events.time_s[row]))
            out.setdefault(int(events.session[row]), []).append(fields)
    return out


def _note_categories(
    partition: Partition, numbers: dict[str, NDArray[np.int64]], categories: dict[int, tuple[int, int, int]]
) -> None:
    """Keep, over all groups of users, the category each product was last seen with: by time, then position."""
    products, rows = last_categories(partition.events)
    position = partition.table.column("position").to_numpy()
    values = (
        numbers["product_id"][products],
        partition.events.time_s[rows],
        position[rows],
        numbers["category_id"][partition.events.category[rows]],
    )
    for product, *seen in zip(*(v.tolist() for v in values), strict=True):
        found = (seen[0], seen[1], seen[2])
        categories[product] = max(categories.get(product, found), found)


def _names(table: pa.Table, name: str) -> list[str]:
    """Return the ids of a dictionary column by code, as strings."""
    column = table.column(name).combine_chunks()
    found: list[str] = column.dictionary.cast(pa.string()).to_pylist()
    return found


def _codes(table: pa.Table, name: str) -> NDArray[np.int64]:
    indices = table.column(name).combine_chunks().indices
    return np.asarray(indices.to_numpy(zero_copy_only=False), dtype=np.int64)


def _numbers(table: pa.Table, name: str, pseudonyms: Pseudonyms) -> NDArray[np.int64]:
    make = pseudonyms.product if name == "product_id" else pseudonyms.category
    return np.array([make(text) for text in _names(table, name)], dtype=np.int64)
