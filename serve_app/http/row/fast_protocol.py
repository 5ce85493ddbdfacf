"""Uvicorn's HTTP protocol with a fast lane: what `FastLane` takes never becomes an ASGI request.

The only place that uses names uvicorn does not promise to keep, see `serve_app.cluster.private_names`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serve_app.http.admission import HOT_PATH, MAX_BULK_BYTES, MAX_ROW_BYTES, Headers
from serve_app.http.row.fast_lane import FastLane

_HOT_URL: Final = HOT_PATH.encode()


def open_fast_lane(lane: FastLane) -> None:
    """Let every uvicorn server that this process starts from now on serve `lane` where it can."""
    FastProtocol.lane = lane
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{FastProtocol.__name__}"  # any import path will do


class FastProtocol(HttpToolsProtocol):
    """One connection.

    A plain request is read whole, handed to the lane and answered in one write. Everything else goes the usual way;
    of a request that the lane does not take the parser's calls are made again.
    """

    lane: ClassVar[FastLane | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hot_body: bytes | None = None
        self._is_pending = False
        self._is_pipelined = False
        self._is_last = False
        self._parts: list[bytes] | None = None

    def on_message_begin(self) -> None:
        """Begin a request; one that does not wait for the answer before it is not read."""
        self._is_pipelined = self._is_last = self._is_pending
        if not self._is_pipelined:
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Add a part of the URL."""
        if not self._is_pipelined:
            self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header."""
        if not self._is_pipelined:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Choose the way of the request."""
        if self._is_pipelined:
            return
        is_idle = self.cycle is None or self.cycle.response_complete
        is_plain = self.url == _HOT_URL and self.parser.get_method() == b"POST" and self.parser.should_keep_alive()
        if self.lane is not None and is_plain and is_idle and not self.expect_100_continue:
            self._hot_body = b""
        else:
            # in one piece: the application gathers it anyway, and would be woken for every piece
            self._parts = [] if 0 < self._declared_bytes() <= MAX_BULK_BYTES else None
            super().on_headers_complete()

    def _declared_bytes(self) -> int:
        """Return how long the body is said to be, 0 when it is not said."""
        lengths = [value for name, value in self.headers if name == b"content-length"]
        return int(lengths[0]) if len(lengths) == 1 and lengths[0].isdigit() else 0

    def on_body(self, body: bytes) -> None:
        """Add a part of the body."""
        if self._is_pipelined:
            return
        if self._hot_body is None:
            if self._parts is None:
                super().on_body(body)
            elif not self.cycle.response_complete:  # else nobody wants it
                self._parts.append(body)
            return
        self._hot_body = self._hot_body + body if self._hot_body else body
        if len(self._hot_body) > MAX_ROW_BYTES:
            self._go_usual_way()

    def on_message_complete(self) -> None:
        """Hand a plain request to the lane."""
        if self._is_pipelined:
            return
        if self._hot_body is not None:
            assert self.lane is not None  # else nothing would have been kept
            self._is_pending = True
            if self.lane.take(self.headers, self._hot_body, self._write):
                self._hot_body = None
                return
            self._is_pending = False
            self._go_usual_way()
        elif self._parts and not self.cycle.response_complete:
            self.cycle.body = b"".join(self._parts)  # type: ignore[assignment] # the cycle makes bytes of it, free now
        self._parts = None
        super().on_message_complete()

    def _go_usual_way(self) -> None:
        body, self._hot_body = self._hot_body, None
        super().on_headers_complete()
        if body:
            super().on_body(body)

    def _write(self, status: int, body: bytes, headers: Headers) -> None:
        """Send the whole answer; one whose caller went away goes nowhere."""
        self._is_pending = False
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        parts = [STATUS_LINE[status]]
        for name, value in (*self.server_state.default_headers, *headers):
            parts += (name, b": ", value, b"\r\n")
        parts += (b"content-length: %d\r\n\r\n" % len(body), body)
        self.transport.write(b"".join(parts))
        if self._is_last:
            self.transport.close()

    def shutdown(self) -> None:
        """Close the connection once what is under way is answered."""
        if self._is_pending:
            self._is_last = True
        else:
            super().shutdown()
