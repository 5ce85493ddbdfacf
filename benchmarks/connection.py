"""One HTTP/1.1 keep-alive connection that checks its answers; as little parsing as that takes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from benchmarks.load import Load


@dataclass(frozen=True, slots=True)
class Row:
    """A request as bytes, and the answer it must get."""

    request: bytes
    answer: dict


def parse_answer(data: bytes | bytearray):
    """Return (status, body, whether the server closes), or None while bytes are missing."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(data[:end]).lower()
    at = head.find(b"\r\ncontent-length:")
    if not head.startswith(b"http/1.") or at < 0:
        raise ValueError(f"not an answer with a length: {head[:200]!r}")
    stop = head.find(b"\r\n", at + 2)
    length = int(head[at + 17 : stop if stop > 0 else end])
    if len(data) < end + 4 + length:
        return None
    return int(head[9:12]), bytes(data[end + 4 : end + 4 + length]), b"\r\nconnection: close" in head


def find_fault(row: Row, status: int, body: bytes) -> str:
    """Say what is wrong with an answer; floats are compared to the last bit."""
    if status != 200:
        return f"status {status}: {body[:200]!r}"
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return f"not JSON: {body[:200]!r}"
    return "" if answer == row.answer else f"expected {row.answer}, got {answer}"


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._data = bytearray()
        self.transport: asyncio.Transport | None = None
        self.row: Row | None = None
        self.due_s = self.sent_s = 0.0

    def connection_made(self, transport) -> None:
        self.transport = transport

    def send(self, row: Row, due_s: float, now_s: float) -> None:
        self.row, self.due_s, self.sent_s = row, due_s, now_s
        self.transport.write(row.request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        try:
            answer = parse_answer(self._data)
        except ValueError as error:
            self._load.fail(str(error))
            self.row = None
            self.transport.abort()
            return
        if answer is None or self.row is None:
            return
        may_wait = self._load.is_refusable and b"\r\nretry-after:" in self._data.lower()
        self._data.clear()
        row, self.row = self.row, None
        status, body, closes = answer
        if closes:
            self.transport.close()
        if status == 503 and may_wait:
            self._load.take_refusal(self, reusable=not closes)
        else:
            self._load.take_answer(self, find_fault(row, status, body), reusable=not closes)

    def connection_lost(self, exc) -> None:
        if self.row is not None:
            self.row = None
            self._load.fail(f"connection lost before the answer: {exc or 'closed'}")
        self._load.forget(self)
