"""A lean HTTP/1.1 transport for load: httpx's own spends most of a core on its pool and locks.

One row through ``httpx.AsyncHTTPTransport`` with 32 connections took 3.6 ms of CPU on a busy machine, of
which 0.1 ms was `AsyncClient`: the pool looks at every connection for every request (poll, getpeername),
and httpcore tries to import the absent sniffio for every lock. See docs/client.md for the figures.
"""

from __future__ import annotations

import asyncio
from typing import Final

import httptools
import httpx

MAX_HEAD_BYTES: Final = 64 * 1024
_LENGTHS: Final = frozenset({b"content-length", b"transfer-encoding"})
"""Headers of an answer that says itself where it ends."""


class ResponseParser:
    """Bytes of one HTTP/1.1 answer to a POST, as they come; the parser is the one that uvicorn reads requests with.

    Attributes
    ----------
    status : int
        0 until the head is complete.
    headers : list of (bytes, bytes)
    body : bytearray
    keeps_open : bool
        Whether the connection may carry another request after the whole answer.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.keeps_open = False
        self._n_bytes = 0
        self._is_whole = False
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> bool:
        """Take bytes; True when the answer is whole.

        Raises
        ------
        ValueError
            This is not HTTP/1.1.
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            raise ValueError(f"the answer is no HTTP: {exc}, at {data[:40]!r}") from exc
        self._n_bytes += len(data)
        if self.status == 0 and self._n_bytes > MAX_HEAD_BYTES:
            raise ValueError("the head of the answer is too long")
        return self._is_whole

    def end(self) -> bool:
        """Take the end of the connection; True when the answer is whole by it."""
        return self.status > 0 and _LENGTHS.isdisjoint(name for name, _ in self.headers)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Keep the status; an interim answer has none that counts, and the real one follows."""
        status = self._parser.get_status_code()
        if status >= 200:  # noqa: PLR2004
            self.status = status
        else:
            self.headers.clear()

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body."""
        self.body += data

    def on_message_complete(self) -> None:
        """Note the end of the answer."""
        self._is_whole = self.status > 0
        self.keeps_open = self._parser.should_keep_alive()


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
