"""Look at an Arrow IPC stream's message headers before Arrow allocates what they ask for.

A stream's compressed buffers may ask for a thousand times their size, and pyarrow has no limit to
set. Headers are flatbuffers; the three fields needed here are read by hand.

References
----------
Arrow columnar format, "IPC Streaming Format" and ``format/Message.fbs``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import pyarrow as pa

from serve_app.errors import MalformedBodyError, PayloadTooLargeError, UnsupportedMediaError

_DICTIONARY_BATCH: Final = 2
_RECORD_BATCH: Final = 3
_DICTIONARY_DATA: Final = 1
_HEADER_TYPE, _HEADER = 1, 2
_LENGTH, _COMPRESSION = 0, 3


def read_stream(body: bytes, max_rows: int, check: Callable[[pa.Table], None]) -> pa.Table:
    """Return the table of a stream that `check_stream` lets pass, and `check`, which may raise what Arrow raises.

    Raises
    ------
    MalformedBodyError
        Not an Arrow IPC stream, cut short, or damaged.
    """
    try:
        check_stream(body, max_rows)
        with pa.ipc.open_stream(body) as reader:
            table = reader.read_all()
        check(table)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError, pa.ArrowNotImplementedError, UnicodeDecodeError) as exc:
        raise MalformedBodyError(f"the body is not a whole Arrow IPC stream: {exc}") from exc
    return table


def check_stream(body: bytes, max_rows: int) -> None:
    """Refuse streams with compressed buffers, more than `max_rows` rows, or bytes behind them; reads only headers.

    Raises
    ------
    UnsupportedMediaError
        Buffers are compressed.
    PayloadTooLargeError
        More rows than allowed.
    MalformedBodyError
        Not an Arrow IPC stream, or not one alone.
    """
    n_rows = 0
    try:
        source = pa.BufferReader(body)
        reader = pa.ipc.MessageReader.open_stream(source)
        for message in reader:
            header = _read_batch(message.metadata.to_pybytes())
            if header is None:
                continue
            is_rows, length, compressed = header
            if compressed:
                raise UnsupportedMediaError("send Arrow IPC streams with uncompressed buffers")
            n_rows += length if is_rows else 0
            if not 0 <= n_rows <= max_rows:
                raise PayloadTooLargeError(f"one request may have {max_rows} rows, the stream has more: send slices")
    except (struct.error, IndexError, OverflowError) as exc:
        raise MalformedBodyError("the body is not an Arrow IPC stream: a message header is damaged") from exc
    if source.tell() < len(body):
        raise MalformedBodyError(f"{len(body) - source.tell()} bytes follow the Arrow IPC stream: send one a request")


def _read_batch(data: bytes) -> tuple[bool, int, bool] | None:
    """Return (is rows, not a dictionary; length; has compressed buffers), None for other messages."""
    message = struct.unpack_from("<I", data)[0]
    kind = _field(data, message, _HEADER_TYPE)
    header = _field(data, message, _HEADER)
    if kind is None or header is None or data[kind] not in {_DICTIONARY_BATCH, _RECORD_BATCH}:
        return None
    table: int | None = _follow(data, header)
    if data[kind] == _DICTIONARY_BATCH:
        inner = _field(data, _follow(data, header), _DICTIONARY_DATA)
        table = None if inner is None else _follow(data, inner)
    if table is None:
        raise IndexError
    length = _field(data, table, _LENGTH)
    n_rows = struct.unpack_from("<q", data, length)[0] if length is not None else 0
    return data[kind] == _RECORD_BATCH, n_rows, _field(data, table, _COMPRESSION) is not None


def _follow(data: bytes, position: int) -> int:
    return int(position + struct.unpack_from("<I", data, position)[0])


def _field(data: bytes, table: int, index: int) -> int | None:
    """Return the position of a field of a flatbuffers table, None when it is absent."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if vtable < 0:
        raise IndexError
    size = struct.unpack_from("<H", data, vtable)[0]
    slot = 4 + 2 * index
    if slot + 2 > size:
        return None
    offset = struct.unpack_from("<H", data, vtable + slot)[0]
    return table + offset if offset else None
