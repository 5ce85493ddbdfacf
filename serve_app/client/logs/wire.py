"""A lean HTTP/1.1 transport for load: httpx's own spends most of a core on its pool and locks.

One row through ``httpx.AsyncHTTPTransport`` with 32 connections took 3.6 ms of CPU on a busy machine, of
which 0.1 ms was `AsyncClient`: the pool looks at every connection for every request (poll, getpeername),
and httpcore tries to import the absent sniffio for every lock. See docs/client.md for the figures.
"""

from __future__ import annotations

import asyncio
from typing import Final

import httpx

MAX_HEAD_BYTES: Final = 64 * 1024
_DIGITS: Final = frozenset(b"0123456789")

RawHeaders = list[tuple[bytes, bytes]]


class ResponseParser:
    """Bytes of one HTTP/1.1 answer to a POST, as they come.

    Attributes
    ----------
    status : int
        0 until the head is complete.
    headers : list of (bytes, bytes)
    body : bytearray
    keeps_open : bool
        Whether the connection may carry another request.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: RawHeaders = []
        self.body = bytearray()
        self.keeps_open = True
        self._buffer = bytearray()
        self._n_left: int | None = None
        self._is_chunked = False

    def feed(self, data: bytes) -> bool:
        """Take bytes; True when the answer is whole.

        Raises
        ------
        ValueError
            This is not HTTP/1.1.
        """
        self._buffer += data
        while self.status == 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > MAX_HEAD_BYTES:
                    raise ValueError("the head of the answer is too long")
                return False
            self._parse_head(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
        if self._is_chunked:
            return self._take_chunks()
        self.body += self._buffer
        self._buffer.clear()
        if self._n_left is not None and len(self.body) > self._n_left:
            raise ValueError("more bytes came than the answer announced")
        return self._n_left is not None and len(self.body) == self._n_left

    def end(self) -> bool:
        """Take the end of the connection; True when the answer is whole by it."""
        return self.status > 0 and self._n_left is None and not self._is_chunked

    def _parse_head(self, head: bytes) -> None:
        first, *lines = head.split(b"\r\n")
        version, _, rest = first.partition(b" ")
        if version not in {b"HTTP/1.1", b"HTTP/1.0"} or not _DIGITS.issuperset(rest[:3]) or len(rest) < 3:  # noqa: PLR2004 digits of a status
            raise ValueError(f"the answer starts with {first[:40]!r}")
        status = int(rest[:3])
        if status < 200:  # noqa: PLR2004 an interim answer: the real one follows
            return
        self.status = status
        self.keeps_open = version == b"HTTP/1.1"
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon:
                raise ValueError(f"the answer has the header line {line[:40]!r}")
            self._take_header(name.lower(), value.strip())
        if status in {204, 304}:
            self._n_left = 0

    def _take_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))
        if name == b"content-length":
            if not value or not _DIGITS.issuperset(value):
                raise ValueError(f"the answer has the length {value[:40]!r}")
            self._n_left = int(value)
        elif name == b"transfer-encoding":
            self._is_chunked = value.lower() == b"chunked"
        elif name == b"connection" and value.lower() == b"close":
            self.keeps_open = False

    def _take_chunks(self) -> bool:
        while True:
            line_end = self._buffer.find(b"\r\n")
            if line_end < 0:
                return False
            n_bytes = int(bytes(self._buffer[:line_end]).partition(b";")[0], 16)
            start, end = line_end + 2, line_end + 2 + n_bytes
            if n_bytes == 0:
                # Trailers, if any, end with an empty line.
                return self._buffer.endswith(b"\r\n\r\n")
            if len(self._buffer) < end + 2:
                return False
            self.body += self._buffer[start:end]
            del self._buffer[: end + 2]


class Connection(asyncio.Protocol):
    """One connection; carries one request at a time."""

    def __init__(self) -> None:
        self.is_open = False
        self._transport: asyncio.Transport | None = None
        self._parser: ResponseParser | None = None
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket."""
        self._transport = transport  # type: ignore[assignment]
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Pass bytes on to the answer they belong to."""
        if self._parser is None:
            self.close()  # bytes nobody asked for
            return
        try:
            is_whole = self._parser.feed(data)
        except ValueError as exc:
            self._finish(httpx.RemoteProtocolError(str(exc)))
            return
        if is_whole:
            self._finish(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the request under way, if any."""
        self.is_open = False
        if self._parser is not None:
            lost = httpx.ReadError(f"the connection was lost: {exc or 'closed by the service'}")
            self._finish(None if exc is None and self._parser.end() else lost)

    async def exchange(self, payload: bytes, timeout_s: float | None) -> ResponseParser:
        """Send a request and return its answer.

        Raises
        ------
        httpx.TransportError
            There is none; the connection is of no use any more.
        """
        if self._transport is None or not self.is_open:
            raise httpx.WriteError("the connection is closed")
        loop = asyncio.get_running_loop()
        parser = self._parser = ResponseParser()
        self._waiter = loop.create_future()
        timer = None
        if timeout_s is not None:
            timer = loop.call_later(timeout_s, self._finish, httpx.ReadTimeout("no answer in time"))
        self._transport.write(payload)
        try:
            await self._waiter
        finally:
            if timer is not None:
                timer.cancel()
            self._parser = None
        return parser

    def close(self) -> None:
        """Close at once."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def _finish(self, failure: httpx.TransportError | None) -> None:
        if self._waiter is None or self._waiter.done():
            return
        if failure is None:
            self._waiter.set_result(None)
        else:
            self._waiter.set_exception(failure)


class DirectTransport(httpx.AsyncBaseTransport):
    """Plain HTTP/1.1 over kept connections, as many as there are requests at once; no proxies, no TLS."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int], list[Connection]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its whole answer."""
        if request.url.scheme != "http":
            raise httpx.UnsupportedProtocol("this transport speaks plain HTTP only", request=request)
        origin = (request.url.host, request.url.port or 80)
        timeout_s = request.extensions.get("timeout", {}).get("read")
        connection = await self._connect(origin, timeout_s)
        try:
            answer = await connection.exchange(_dump_request(request), timeout_s)
        except BaseException:
            connection.close()
            raise
        if answer.keeps_open:
            self._idle.setdefault(origin, []).append(connection)
        else:
            connection.close()
        return httpx.Response(answer.status, headers=answer.headers, content=bytes(answer.body))

    async def aclose(self) -> None:
        """Close all connections."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    async def _connect(self, origin: tuple[str, int], timeout_s: float | None) -> Connection:
        idle = self._idle.get(origin, [])
        while idle:
            connection = idle.pop()
            if connection.is_open:
                return connection
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(Connection, *origin)
        except TimeoutError as exc:
            raise httpx.ConnectTimeout("no connection in time") from exc
        except OSError as exc:
            raise httpx.ConnectError(str(exc)) from exc
        return connection


def _dump_request(request: httpx.Request) -> bytes:
    head = [request.method.encode(), b" ", request.url.raw_path, b" HTTP/1.1\r\n"]
    for name, value in request.headers.raw:
        head += (name, b": ", value, b"\r\n")
    return b"".join((*head, b"\r\n", request.content))
