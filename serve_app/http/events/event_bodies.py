"""Bodies of ``POST /v1/events``: one JSON object, a JSON array, NDJSON, an Arrow IPC stream."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa

from serve_app.errors import InvalidDataError, MalformedBodyError, PayloadTooLargeError, UnsupportedMediaError
from serve_app.events.core.event_rows import ID_COLUMNS
from serve_app.features.core.arrow_types import (
    NUMBERS,
    TIMES,
    as_ids,
    as_plain,
    longest_bytes,
    meaning_of,
    stored_values,
)
from serve_app.features.core.cells import show_value
from serve_app.features.core.event_times import TIME_RULE, parse_time, read_times
from serve_app.features.core.row_keys import MAX_ID_LENGTH
from serve_app.features.core.whole_numbers import whole_text
from serve_app.history.service.intake import MAX_EVENTS, ParsedEvents
from serve_app.history.service.live_history import LiveEvent
from serve_app.http.bodies import ARROW, JSON, NDJSON, read_media
from serve_app.http.schemas import ID_LIMIT, ID_NUMBER_RULE
from serve_app.http.tables.ipc_limits import read_stream

_NAMES: Final = (*ID_COLUMNS, "event_type", "price", "event_time")
"""Members that are read; the other published columns are not part of history."""
_BOM: Final = b"\xef\xbb\xbf"
"""What some writers put before UTF-8."""
_UNREADABLE: Final = object()
_CHARACTER_BYTES: Final = 4
"""Of the longest character in UTF-8."""


def choose_event_media(content_type: str) -> str:
    """Return the form of a body for a Content-Type header; raises UnsupportedMediaError."""
    media = read_media(content_type) or JSON
    if media not in PARSERS:
        raise UnsupportedMediaError(f"send {JSON}, {NDJSON} or {ARROW}, not {media[:80]}")
    return media


def parse_events(media: str, body: bytes) -> ParsedEvents:
    """Parse a body; a member of the wrong type rejects its event and no other.

    Raises
    ------
    MalformedBodyError
        The body is not what its type says.
    PayloadTooLargeError
        More than `MAX_EVENTS` events.
    InvalidDataError
        An Arrow column has a type that cannot mean its member.
    """
    return PARSERS[media](body)


def _parse_json(body: bytes) -> ParsedEvents:
    try:
        value = orjson.loads(body.removeprefix(_BOM))
    except orjson.JSONDecodeError as exc:
        raise MalformedBodyError(f"the body is not valid JSON: {exc}") from exc
    if not isinstance(value, (dict, list)):
        raise MalformedBodyError("the body must be one event, a JSON object, or an array of them")
    records = [value] if isinstance(value, dict) else value
    _check_number(len(records))
    return _collect(records)


def _parse_ndjson(body: bytes) -> ParsedEvents:
    _check_number(body.count(b"\n"))
    lines = [line for line in body.removeprefix(_BOM).split(b"\n") if line.strip()]
    _check_number(len(lines))
    return _collect(_loads(line) for line in lines)


def _loads(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return _UNREADABLE


def _parse_arrow(body: bytes) -> ParsedEvents:
    table = read_stream(body, MAX_EVENTS, lambda table: table.validate(full=True))
    _check_number(table.num_rows)
    twice = [name for name in _NAMES if table.column_names.count(name) > 1]
    if twice:
        raise InvalidDataError(f"the column {twice[0]} is there twice")
    if not set(_NAMES) & set(table.column_names):
        raise InvalidDataError(f"the table has no column of an event: {_MEMBERS}")
    columns = [_read_column(table, name) for name in _NAMES]
    return _collect(dict(zip(_NAMES, row, strict=True)) for row in zip(*columns, strict=True))


def _read_column(table: pa.Table, name: str) -> list[Any]:
    if name not in table.column_names:
        return [None] * table.num_rows
    # What is refused is refused before it is decoded: a short body may say one long text in every row.
    return [value for chunk in table.column(name).chunks for value in _read_chunk(name, chunk)]


def _read_chunk(name: str, column: pa.Array) -> list[Any]:
    meaning = meaning_of(column.type)
    _check_lengths(name, column)
    found: list[Any]
    if name in ID_COLUMNS:
        text, outside = as_ids(name, column)
        found = text.to_pylist()
        for row in [] if outside is None else np.flatnonzero(outside):  # the number itself, which rejects its event
            found[row] = int(found[row])
    elif name == "price" and meaning in NUMBERS:
        found = as_plain(column).cast(pa.float64(), safe=False).to_pylist()
    elif name == "event_time" and meaning in TIMES:
        found = _read_times(as_plain(column))
    elif name == "event_type" and meaning in {"text", "null"}:
        found = as_plain(column).to_pylist()
    else:
        wanted = {"price": "numbers", "event_time": "times"}.get(name, "strings")
        raise InvalidDataError(f"column {name} must hold {wanted}, not {str(column.type)[:80]}")
    return found


def _read_times(column: pa.Array) -> list[Any]:
    times, bad = read_times(column)
    found = [None if value is None else _Seconds(value) for value in times.to_pylist()]
    for row in bad:  # the text itself, which rejects its event
        found[row] = column[row].as_py()
    return found


class _Seconds(int):
    """A time that is seconds since 1970 already; a plain number in JSON is none."""


def _check_lengths(name: str, column: pa.Array) -> None:
    longest, unit = longest_bytes(column), "bytes"
    if MAX_ID_LENGTH < longest <= MAX_ID_LENGTH * _CHARACTER_BYTES:
        texts = stored_values(column).to_pylist()
        longest, unit = max(len(text) for text in texts if text is not None), "characters"
    if longest > MAX_ID_LENGTH:
        raise InvalidDataError(f"column {name} has a string of {longest} {unit}; at most {MAX_ID_LENGTH} characters")


def _check_number(n: int) -> None:
    if n > MAX_EVENTS:
        raise PayloadTooLargeError(f"one request may have {MAX_EVENTS} events: send slices")


def _collect(records: Iterable[Any]) -> ParsedEvents:
    events: list[LiveEvent] = []
    indices: list[int] = []
    rejected: list[tuple[int, str]] = []
    for index, record in enumerate(records):
        if type(record) is not dict:
            rejected.append((index, "is not valid JSON" if record is _UNREADABLE else "must be a JSON object"))
            continue
        try:
            events.append(_read_event(record))
            indices.append(index)
        except ValueError as exc:
            rejected.append((index, str(exc)))
    return ParsedEvents(events, indices, rejected)


def _read_event(record: dict[str, Any]) -> LiveEvent:
    get = record.get
    user, session, product, category, event = (_read_id(name, get(name)) for name in ID_COLUMNS)
    kind, price, time = get("event_type"), get("price"), get("event_time")
    if kind is not None and (type(kind) is not str or len(kind) > MAX_ID_LENGTH):
        raise ValueError(f"event_type must be a string, got {show_value(kind)}")
    if price is not None and type(price) is not float:
        price = _read_price(price)
    time_s = None if time is None else _read_time(time)
    if user is None and session is None:
        _refuse_stranger(record)
    return LiveEvent(user, session, product, kind, price, time_s, category, event)


_MEMBERS: Final = "an event has event_type, product_id, price, user_id and user_session"


def _refuse_stranger(record: dict[str, Any]) -> None:
    """Raise ValueError for an object that says nothing of an event; mostly it is a wrapper around events."""
    if not any(name in record for name in _NAMES):
        lists = [name for name, value in record.items() if isinstance(value, list)]
        hint = f"; send the list in {show_value(lists[0])} itself, not an object around it" if lists else ""
        raise ValueError(f"is no event: {_MEMBERS}{hint}")


def _read_id(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if type(value) is str:
        if len(value) <= MAX_ID_LENGTH:
            return value
        raise ValueError(f"{name} may have {MAX_ID_LENGTH} characters, it has {len(value)}")
    if type(value) is int and 0 <= value < ID_LIMIT:
        return str(value)
    if type(value) is float and value >= 0 and (text := whole_text(value)):
        return text
    raise ValueError(f"{name} must be a string or {ID_NUMBER_RULE}, got {show_value(value)}")


def _read_price(value: Any) -> float:
    if type(value) is not int:
        raise ValueError(f"price must be a number, got {show_value(value)}")
    return float(value) if abs(value) < 1 << 63 else math.inf


def _read_time(value: Any) -> int:
    if isinstance(value, _Seconds):
        return int(value)
    with contextlib.suppress(ValueError, OverflowError):
        if type(value) is str:
            return parse_time(value)
    raise ValueError(f"event_time {TIME_RULE}, got {show_value(value)}")


PARSERS: Final[dict[str, Callable[[bytes], ParsedEvents]]] = {
    JSON: _parse_json,
    **dict.fromkeys((NDJSON, "application/ndjson", "application/jsonl", "application/jsonlines"), _parse_ndjson),
    ARROW: _parse_arrow,
}
"""Parser by form."""
