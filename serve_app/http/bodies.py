"""Bodies of requests, read and unpacked up to a limit: a few kilobytes may ask for gigabytes."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from typing import Final

from starlette.types import Receive

from serve_app.errors import MalformedBodyError, PayloadTooLargeError, UnsupportedEncodingError, UnsupportedMediaError

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
CSV: Final = "text/csv"
ARROW: Final = "application/vnd.apache.arrow.stream"
PARQUET: Final = "application/vnd.apache.parquet"
ACCEPTED: Final = "gzip, deflate"
"""Content encodings that are read, as ``Accept-Encoding`` of a refusal says them."""
PLAIN: Final = frozenset({b"", b"identity"})
_GZIP: Final = frozenset({b"gzip", b"x-gzip"})
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
PIECE_BYTES: Final = 16 * 1024
"""What is handed to zlib at a time: at the end of each stream it copies the rest."""
MAX_MEMBERS: Final = 10_000
"""Streams in a row that are read as one body; a few bytes are enough for one that holds nothing."""
INLINE_BYTES: Final = 4 * 1024
"""Bodies up to here unpack to at most 4 MB, in some milliseconds; larger ones are unpacked in a thread."""


def read_media(content_type: str) -> str:
    """Return what a Content-Type header says, without parameters; raises UnsupportedMediaError for another charset."""
    media, _, parameters = content_type.lower().partition(";")
    for part in parameters.split(";"):
        name, _, value = part.strip().partition("=")
        if name == "charset" and value.strip("\"' ") not in {"utf-8", "utf8", "us-ascii"}:
            raise UnsupportedMediaError(f"send text as utf-8, not {value[:40]}")
    return media.strip()


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], limit_bytes: int) -> bytes:
    """Read the body, and unpack it when it comes compressed.

    Raises
    ------
    PayloadTooLargeError
        It has more than `limit_bytes`, as it came or unpacked; no more than those were kept.
    UnsupportedEncodingError, UnsupportedMediaError
        It is compressed in a way that is not read here.
    MalformedBodyError
        The connection was closed first, or it is not what Content-Encoding says.
    """
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    if encoding in PLAIN:
        return await _receive_body(receive, limit_bytes)
    _check_encoding(encoding)
    body = await _receive_body(receive, limit_bytes)
    if len(body) <= INLINE_BYTES:
        return unpack(body, encoding, limit_bytes)
    return await asyncio.to_thread(unpack, body, encoding, limit_bytes)


def check_announced(declared: bytes, limit_bytes: int) -> None:
    """Raise PayloadTooLargeError when a ``Content-Length`` says that the body has more."""
    if declared.isdigit() and int(declared) > limit_bytes:
        raise PayloadTooLargeError(f"the body may have {limit_bytes} bytes, {int(declared)} were announced")


async def _receive_body(receive: Receive, limit_bytes: int) -> bytes:
    chunks: list[bytes] = []
    n_bytes = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MalformedBodyError("the connection was closed before the whole body arrived")
        chunk = message.get("body", b"")
        n_bytes += len(chunk)
        if n_bytes > limit_bytes:
            raise PayloadTooLargeError(f"the body may have {limit_bytes} bytes, more arrived")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _check_encoding(encoding: bytes) -> None:
    """Raise UnsupportedEncodingError unless bodies of this ``Content-Encoding``, in lower case, can be read."""
    if encoding not in PLAIN and encoding not in _GZIP and encoding != b"deflate":
        named = encoding[:40].decode("latin-1")
        raise UnsupportedEncodingError(f"send the body with Content-Encoding gzip or deflate, or without, not {named}")


def unpack(body: bytes, encoding: bytes, limit_bytes: int) -> bytes:
    """Return what a body of an encoding that `read_body` lets pass was before it was compressed.

    Parameters
    ----------
    body : bytes
        Several gzip members in a row are one body; an empty body stays one.
    encoding : bytes
    limit_bytes : int
        No more than this and one byte is ever unpacked.

    Raises
    ------
    PayloadTooLargeError
        There is more.
    MalformedBodyError
        The stream is damaged, cut short, or followed by something else.

    Notes
    -----
    ``deflate`` is zlib's format (RFC 9110); some clients send the raw stream, which is told by its first two bytes.
    """
    parts: list[bytes] = []
    room, at = limit_bytes + 1, 0  # the byte too many tells
    for _ in range(MAX_MEMBERS if encoding in _GZIP else 1):
        if at == len(body):
            break
        found, at = _unpack_stream(body, at, encoding, room)
        parts += found
        room -= sum(map(len, found))
        if room <= 0:
            raise PayloadTooLargeError(f"the body may have {limit_bytes} bytes unpacked, there are more")
    if at < len(body):
        name = encoding.decode("latin-1")
        raise MalformedBodyError(f"{len(body) - at} bytes follow the {name} stream of the body")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _unpack_stream(body: bytes, at: int, encoding: bytes, room: int) -> tuple[list[bytes], int]:
    """Return what the stream that begins at a byte of the body holds, at most `room` bytes, and where it ends."""
    name = encoding.decode("latin-1")
    stream = zlib.decompressobj(_choose_bits(body[at : at + 2], encoding))
    parts: list[bytes] = []
    while not stream.eof:
        piece = body[at : at + PIECE_BYTES]
        if not piece:
            raise MalformedBodyError(f"the body ends before its {name} stream does: it was cut short")
        try:
            parts.append(stream.decompress(piece, room))
        except zlib.error as exc:
            raise MalformedBodyError(f"the body is not {name}, as Content-Encoding says, or it is damaged") from exc
        room -= len(parts[-1])
        if room <= 0:
            break
        at += len(piece) - len(stream.unused_data)
    return parts, at


def _choose_bits(head: bytes, encoding: bytes) -> int:
    if encoding in _GZIP:
        return _GZIP_BITS
    is_zlib = head[0] & 0x0F == zlib.DEFLATED and int.from_bytes(head, "big") % 31 == 0
    return _ZLIB_BITS if is_zlib else _RAW_BITS
