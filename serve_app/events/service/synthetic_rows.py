"""Generated events as columns: joined, sorted by time, written in the published form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.events.core.event_rows import EVENT_TYPES
from serve_app.events.service.synthetic_shop import Catalogue

_HEX: Final = np.frombuffer("".join(f"{i:02x}" for i in range(256)).encode(), dtype=np.uint8).reshape(256, 2)
_DASHES: Final = (8, 13, 18, 23)
_UUID_CHARS: Final = 36


@dataclass(frozen=True, slots=True)
class Events:
    """Events as numbers.

    Attributes
    ----------
    time_s : ndarray of int64, shape (n,)
        Seconds since 1970 UTC.
    kind : ndarray of uint8, shape (n,)
        Index into `EVENT_TYPES`.
    product, session : ndarray of int64, shape (n,)
        Index into the catalogue, and into `session_ids`.
    user : ndarray of int32, shape (n,)
    session_ids : ndarray of uint8, shape (n_sessions, 16)
    """

    time_s: NDArray[np.int64]
    kind: NDArray[np.uint8]
    product: NDArray[np.int64]
    user: NDArray[np.int32]
    session: NDArray[np.int64]
    session_ids: NDArray[np.uint8]

    def take(self, rows: NDArray[np.int64]) -> Events:
        """Return some of the events."""
        columns = {name: getattr(self, name)[rows] for name in ("time_s", "kind", "product", "user", "session")}
        return Events(**columns, session_ids=self.session_ids)


def join_events(first: Events | None, second: Events) -> Events:
    """Return the events of both; only the sessions of `first` that have events are kept."""
    if first is None or len(first.time_s) == 0:
        return second
    kept, session = np.unique(first.session, return_inverse=True)
    return Events(
        np.concatenate([first.time_s, second.time_s]),
        np.concatenate([first.kind, second.kind]),
        np.concatenate([first.product, second.product]),
        np.concatenate([first.user, second.user]),
        np.concatenate([session, second.session + len(kept)]),
        np.concatenate([first.session_ids[kept], second.session_ids]),
    )


def sort_events(events: Events, end_s: int) -> tuple[Events, Events]:
    """Sort by time, and split off what lies after the end of the chunk."""
    bits = len(events.time_s).bit_length()
    keys = np.sort(events.time_s << bits | np.arange(len(events.time_s)))
    rows = keys & ((1 << bits) - 1)
    n_ready = int(np.searchsorted(keys, end_s << bits))
    return events.take(rows[:n_ready]), events.take(rows[n_ready:])


def _format_sessions(ids: NDArray[np.uint8], session: NDArray[np.int64]) -> pa.Array:
    """Format 16 random bytes a session as the 8-4-4-4-12 form of a UUID, one for each event."""
    out = np.empty((len(ids), _UUID_CHARS), dtype=np.uint8)
    out[:, _DASHES] = ord("-")
    places = [i for i in range(_UUID_CHARS) if i not in _DASHES]
    out[:, places] = _HEX[ids].reshape(len(ids), 32)
    text = out[session]
    offsets = np.arange(len(session) + 1, dtype=np.int32) * _UUID_CHARS
    return pa.StringArray.from_buffers(len(session), pa.py_buffer(offsets), pa.py_buffer(text))


def _names(codes: NDArray[np.int64], names: list[str]) -> pa.Array:
    """Return names by code; a code without a name is null."""
    is_null = (codes < 0) | (codes >= len(names))
    return pa.array(names).take(pa.array(codes, mask=is_null))


def to_batch(events: Events, catalogue: Catalogue) -> pa.RecordBatch:
    """Return the events in the published columns, ``event_time`` as int64 seconds since 1970 UTC."""
    category = catalogue.category[events.product]
    return pa.RecordBatch.from_pydict(
        {
            "event_time": events.time_s,
            "event_type": _names(events.kind.astype(np.int64), list(EVENT_TYPES)),
            "product_id": 1_000_003 + 7 * events.product,
            "category_id": 1_500_000_000_000_000_000 + 1_000_003 * category,
            "category_code": _names(category, catalogue.codes),
            "brand": _names(catalogue.brand[events.product], catalogue.brands),
            "price": catalogue.price[events.product],
            "user_id": 100_000_000 + events.user.astype(np.int64),
            "user_session": _format_sessions(events.session_ids, events.session),
        }
    )
