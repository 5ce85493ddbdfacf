"""Bodies of ``POST /v1/events``: one JSON object, a JSON array, NDJSON, an Arrow IPC stream."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from serve_app.core.cells import show_value
from serve_app.core.errors import InvalidDataError, MalformedBodyError, PayloadTooLargeError, UnsupportedMediaError
from serve_app.core.history_keys import TIME_RULE, cut_times, parse_time
from serve_app.http.ipc_limits import check_stream
from serve_app.http.schemas import ID_LIMIT, ID_NUMBER_RULE, MAX_ID_LENGTH
from serve_app.service.event_intake import MAX_EVENTS, ParsedEvents
from serve_app.service.live_history import ShopEvent

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
ARROW: Final = "application/vnd.apache.arrow.stream"
_IDS: Final = ("user_id", "user_session", "product_id", "category_id", "event_id")
_NAMES: Final = (*_IDS, "event_type", "price", "event_time")
"""Members that are read; the other published columns are not part of history."""
_UNREADABLE: Final = object()


def choose_event_media(content_type: str) -> str:
    """Return the form of a body for a Content-Type header; raises UnsupportedMediaError."""
    media, _, parameters = content_type.lower().partition(";")
    media = media.strip()
    if "charset" in parameters and "utf-8" not in parameters and "utf8" not in parameters:
        raise UnsupportedMediaError("send text as utf-8")
    if media in {"", JSON}:
        return JSON
    if media in {NDJSON, "application/ndjson", "application/jsonl", "application/jsonlines"}:
        return NDJSON
    if media == ARROW:
        return ARROW
    raise UnsupportedMediaError(f"send {JSON}, {NDJSON} or {ARROW}, not {media[:80]}")


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
        value = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise MalformedBodyError(f"the body is not valid JSON: {exc}") from exc
    if not isinstance(value, (dict, list)):
        raise MalformedBodyError("the body must be one event, a JSON object, or an array of them")
    records = [value] if isinstance(value, dict) else value
    _check_number(len(records))
    return _collect(records)


def _parse_ndjson(body: bytes) -> ParsedEvents:
    _check_number(body.count(b"\n"))
    lines = [line for line in body.split(b"\n") if line.strip()]
    _check_number(len(lines))
    return _collect(_loads(line) for line in lines)


def _loads(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return _UNREADABLE


def _parse_arrow(body: bytes) -> ParsedEvents:
    try:
        check_stream(body, MAX_EVENTS)
        with pa.ipc.open_stream(body) as reader:
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError, pa.ArrowNotImplementedError, UnicodeDecodeError) as exc:
        raise MalformedBodyError(f"the body is not a whole Arrow IPC stream: {exc}") from exc
    _check_number(table.num_rows)
    twice = [name for name in _NAMES if table.column_names.count(name) > 1]
    if twice:
        raise InvalidDataError(f"the column {twice[0]} is there twice")
    columns = [_read_column(table, name) for name in _NAMES]
    return _collect(dict(zip(_NAMES, row, strict=True)) for row in zip(*columns, strict=True))


def _read_column(table: pa.Table, name: str) -> list[Any]:
    if name not in table.column_names:
        return [None] * table.num_rows
    column = table.column(name)
    kind = column.type
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    is_text = pa.types.is_string(plain) or pa.types.is_large_string(plain)
    if name == "price":
        fits = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)
    elif name == "event_time":
        fits = is_text or pa.types.is_timestamp(kind) or pa.types.is_null(kind)
    else:
        fits = is_text or pa.types.is_null(plain) or (name != "event_type" and pa.types.is_integer(plain))
    if not fits:
        wanted = {"price": "numbers", "event_time": "times", "event_type": "strings"}.get(name, "strings or integers")
        raise InvalidDataError(f"column {name} must hold {wanted}, not {str(kind)[:80]}")
    if is_text:
        _check_lengths(name, column)
    if pa.types.is_timestamp(kind):
        return [None if value is None else _Seconds(value) for value in cut_times(column).to_pylist()]
    found: list[Any] = column.to_pylist()
    return found


class _Seconds(int):
    """A time that is seconds since 1970 already; a plain number in JSON is none."""


def _check_lengths(name: str, column: pa.ChunkedArray) -> None:
    for chunk in column.chunks:  # of a dictionary only the values: one long one may stand in every row
        values = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
        longest = pc.max(pc.utf8_length(values)).as_py() or 0
        if longest > MAX_ID_LENGTH:
            raise InvalidDataError(f"column {name} has a string of {longest} characters; at most {MAX_ID_LENGTH}")


def _check_number(n: int) -> None:
    if n > MAX_EVENTS:
        raise PayloadTooLargeError(f"one request may have {MAX_EVENTS} events: send slices")


def _collect(records: Iterable[Any]) -> ParsedEvents:
    events: list[ShopEvent] = []
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


def _read_event(record: dict[str, Any]) -> ShopEvent:
    get = record.get
    user, session, product, category, event = (_read_id(name, get(name)) for name in _IDS)
    kind, price, time = get("event_type"), get("price"), get("event_time")
    if kind is not None and (type(kind) is not str or len(kind) > MAX_ID_LENGTH):
        raise ValueError(f"event_type must be a string, got {show_value(kind)}")
    if price is not None and type(price) is not float:
        price = _read_price(price)
    time_s = None if time is None else _read_time(time)
    return ShopEvent(user, session, product, kind, price, time_s, category, event)


def _read_id(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if type(value) is str:
        if len(value) <= MAX_ID_LENGTH:
            return value
        raise ValueError(f"{name} may have {MAX_ID_LENGTH} characters, it has {len(value)}")
    if type(value) is int and 0 <= value < ID_LIMIT:
        return str(value)
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
    NDJSON: _parse_ndjson,
    ARROW: _parse_arrow,
}
"""Parser by form."""
