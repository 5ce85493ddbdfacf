"""The few lines of ASGI the hot route needs: read a body, send an answer, log it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from serve_app.errors import (
    BadRequestError,
    MalformedBodyError,
    PayloadTooLargeError,
    ScorecatError,
    UnsupportedMediaError,
)
from serve_app.http.compression import PLAIN, check_encoding, unpack_body
from serve_app.http.problems import CONTENT_TYPE, describe_problem, dump_problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON: Final = b"application/json"
LONGEST_TIMEOUT_S: Final = 60.0
DEADLINE_MARGIN_S: Final = 0.02
_REQUEST_ID: Final = re.compile(rb"[\x21-\x7e]{1,128}")


class AccessLog(Protocol):
    """Takes one line a request; must never block or raise."""

    def record(
        self, request_id: str, method: str, path: str, status: int, duration_s: float, version: int | None
    ) -> None:
        """Keep a line for later writing."""
        ...


class Meter:
    """Counts what the routes refuse and ignore; must never block or raise. This one keeps nothing."""

    def count_request(self, route: str, status: int, version: int | None, duration_s: float) -> None:
        """Count an answered request: by the route as it is documented, and the version that answered."""

    def count_problem(self, route: str, code: str) -> None:
        """Count an answer with a problem: by the route as it is documented, and the error's code."""

    def count_ignored_columns(self, route: str, n: int) -> None:
        """Count columns of a table that are no feature."""

    def count_events(self, route: str, kind: str, n: int) -> None:
        """Count shop events by what became of them."""

    def note_delay(self, route: str, delay_s: float) -> None:
        """Keep how old the newest event of a request was when it arrived."""


@dataclass(slots=True)
class Exchange:
    """One request on its way to an answer: what was asked, and the means to answer once.

    Attributes
    ----------
    scope, receive, send
        ASGI.
    request_id : str
        The caller's ``X-Request-Id`` when it has 1 to 128 printable ASCII characters, else a new one.
    headers : dict of bytes to bytes
        Request headers, names in lower case; of a repeated header the last.
    started_s : float
        `time.perf_counter` at the start.
    version : int or None
        Model version that answered, for the log.
    """

    scope: Scope
    receive: Receive
    send: Send
    request_id: str
    headers: dict[bytes, bytes]
    started_s: float
    access_log: AccessLog
    meter: Meter
    version: int | None = None

    @classmethod
    def open(cls, scope: Scope, receive: Receive, send: Send, access_log: AccessLog, meter: Meter) -> Exchange:
        """Start an exchange for an HTTP scope."""
        headers = dict(scope["headers"])
        return cls(scope, receive, send, read_request_id(headers), headers, time.perf_counter(), access_log, meter)

    async def answer(self, status: int, body: bytes, extra: Headers, content_type: bytes = JSON) -> None:
        """Send a whole answer and log it."""
        headers: Headers = [
            (b"content-type", content_type),
            (b"content-length", str(len(body)).encode()),
            *extra,
        ]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
        self.log(status)

    async def answer_error(self, error: ScorecatError) -> None:
        """Send an error as problem details, and count it."""
        self.meter.count_problem(self.scope["path"], error.code)
        status, members, extra = describe_problem(error, self.request_id)
        if self.version is not None:
            extra = [*extra, (b"x-model-version", str(self.version).encode())]
        await self.answer(status, dump_problem(members), extra, CONTENT_TYPE)

    def log(self, status: int, route: str | None = None) -> None:
        """Write the line of this exchange to the access log, and count it by its route, by default its path."""
        duration_s = time.perf_counter() - self.started_s
        self.meter.count_request(route or self.scope["path"], status, self.version, duration_s)
        self.access_log.record(
            self.request_id, self.scope["method"], self.scope["path"], status, duration_s, self.version
        )


def read_request_id(headers: dict[bytes, bytes]) -> str:
    """Return the caller's ``X-Request-Id`` when it has 1 to 128 printable ASCII characters, else a new one."""
    given = headers.get(b"x-request-id", b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()


def check_json(headers: dict[bytes, bytes]) -> None:
    """Raise UnsupportedMediaError unless the body is JSON in UTF-8; a body without a type is taken for it."""
    if headers.get(b"content-type") == JSON:
        return
    media, _, parameters = headers.get(b"content-type", JSON).lower().partition(b";")
    media = media.strip()
    if not (media == JSON or media.endswith(b"+json")):
        raise UnsupportedMediaError(f"send application/json, not {media.decode('latin-1') or 'nothing'}")
    if b"charset" in parameters and b"utf-8" not in parameters and b"utf8" not in parameters:
        raise UnsupportedMediaError("send JSON as UTF-8")


async def read_body(receive: Receive, headers: dict[bytes, bytes], limit_bytes: int) -> bytes:
    """Read the body, and unpack it when it comes compressed.

    Raises
    ------
    PayloadTooLargeError
        It has more than `limit_bytes`, as it came or unpacked; no more than those were kept.
    UnsupportedEncodingError
        It is compressed in a way that is not read here.
    MalformedBodyError
        The connection was closed first, or it is not what Content-Encoding says.
    """
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    if encoding in PLAIN:
        return await _receive_body(receive, headers, limit_bytes)
    check_encoding(encoding)
    return await unpack_body(await _receive_body(receive, headers, limit_bytes), encoding, limit_bytes)


async def _receive_body(receive: Receive, headers: dict[bytes, bytes], limit_bytes: int) -> bytes:
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise PayloadTooLargeError(f"the body may have {limit_bytes} bytes, {int(declared)} were announced")
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


def read_pin(headers: dict[bytes, bytes]) -> int | None:
    """Return the version that ``X-Model-Version`` names, or None; raises BadRequestError when it is no number."""
    given = headers.get(b"x-model-version")
    if given is None:
        return None
    if not given.isdigit() or len(given) > 9:  # noqa: PLR2004 - more than any version
        raise BadRequestError(f"X-Model-Version must be a version's number, not {given[:40].decode('latin-1')!r}")
    return int(given)


def read_routing(headers: dict[bytes, bytes]) -> tuple[str | None, int | None]:
    """Return the user that ``X-User-Id`` names, or None, and the version of `read_pin`."""
    user = headers.get(b"x-user-id")
    return (user.decode("utf-8", "surrogateescape") if user else None), read_pin(headers)


def read_timeout_s(headers: dict[bytes, bytes], default_s: float, longest_s: float) -> float:
    """Return the seconds a request has for its answer: ``X-Request-Timeout-Seconds`` or the default.

    Answers leave `DEADLINE_MARGIN_S` before that, ahead of the proxy's own plain-text answer.

    Raises
    ------
    BadRequestError
        The header is no number above 0.
    """
    # The proxy renames the header, see `serve_app.cluster.proxy_front`, and may leave it empty.
    given = headers.get(b"x-scorecat-timeout-seconds") or headers.get(b"x-request-timeout-seconds")
    seconds = default_s
    if given is not None:
        try:
            seconds = float(given)
        except ValueError:
            seconds = -1.0
        if not seconds > 0:
            raise BadRequestError("X-Request-Timeout-Seconds must be a number of seconds above 0")
    return min(seconds, longest_s) - DEADLINE_MARGIN_S - _waited_s(headers)


def _waited_s(headers: dict[bytes, bytes]) -> float:
    """Return how long the request waited since the proxy got it; a clock that is off counts as no wait."""
    arrived = headers.get(b"x-scorecat-arrived-ms", b"")
    waited_s = time.time() - int(arrived) / 1000 if arrived.isdigit() else 0.0
    return waited_s if 0 < waited_s < LONGEST_TIMEOUT_S else 0.0
