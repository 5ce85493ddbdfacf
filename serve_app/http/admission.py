"""What is decided about a request before its handler, and how it is answered when it is refused.

A request comes in by one of three entrances: the fast lane past ASGI, the route of one row past FastAPI, and FastAPI
with all others. Each opens an `Exchange` and lets it be admitted first; body, deadline and routing a handler has from
the exchange alone. What may come in at all is said in `Admission.admit`, by route and closed by default: a route that
nobody thought of gets the smallest limits.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson
from starlette.types import Receive

from serve_app.errors import (
    BadRequestError,
    DeadlineExceededError,
    InvariantError,
    NotReadyError,
    ScorecatError,
    UnsupportedMediaError,
)
from serve_app.http.bodies import JSON, check_announced, read_body, read_media
from serve_app.http.problems import CONTENT_TYPE, describe_problem

Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, bytes, Headers]
"""Status, body, and all headers but the length."""

HOT_PATH: Final = "/predict_purchase"
JSON_TYPE: Final = JSON.encode()
MAX_ROW_BYTES: Final = 256 * 1024
"""Far above any row (the widest has 25 members and three ids of 512 characters)."""
MAX_BULK_BYTES: Final = 32 * 1024 * 1024
MAX_RECORD_BYTES: Final = 1024 * 1024
"""A thousand named users with ids of 512 characters are half of it."""
_MAX_BYTES: Final = {
    "/invocations": MAX_BULK_BYTES,
    "/v2/": MAX_BULK_BYTES,
    "/v1/events": MAX_BULK_BYTES,
    "/v1/rollouts": MAX_RECORD_BYTES,
    "/v1/jobs": MAX_RECORD_BYTES,
}
"""Bodies by what their path begins with; all others have `MAX_ROW_BYTES`."""
_SMALL_DIGITS: Final = 5
"""Digits of a length that every route takes."""
LONGEST_TIMEOUT_S: Final = 60.0
DEADLINE_MARGIN_S: Final = 0.02
_REQUEST_ID: Final = re.compile(rb"[\x21-\x7e]{1,128}")
_MAX_VERSION_DIGITS: Final = 9

logger = logging.getLogger("scorecat.http")


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


class Admission:
    """Lets requests in, the same at every entrance of a Gateway.

    Parameters
    ----------
    access_log : AccessLog
    meter : Meter
    timeout_s : float
        Deadline of requests that name none, seconds.
    """

    def __init__(self, access_log: AccessLog, meter: Meter, timeout_s: float) -> None:
        self.access_log = access_log
        self.meter = meter
        self.timeout_s = min(timeout_s, LONGEST_TIMEOUT_S)

    def open(self, method: str, path: str, headers: dict[bytes, bytes]) -> Exchange:
        """Begin an exchange, whatever is asked: what is refused is answered and logged, too."""
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()
        return Exchange(self, method, path, headers, request_id, time.perf_counter(), path)

    def admit(self, exchange: Exchange) -> None:
        """Raise a ScorecatError when no handler may see the request.

        The fast lane leaves what is refused here to the next entrance, which asks again.
        """
        declared = exchange.headers.get(b"content-length", b"0")
        if len(declared) > _SMALL_DIGITS:
            check_announced(declared, exchange.max_body_bytes)


@dataclass(slots=True)
class Exchange:
    """One request on its way to an answer.

    Attributes
    ----------
    admission : Admission
    method, path : str
    headers : dict of bytes to bytes
        Request headers, names in lower case; of a repeated header the last.
    request_id : str
        The caller's ``X-Request-Id`` when it has 1 to 128 printable ASCII characters, else a new one.
    started_s : float
        `time.perf_counter` at the start.
    route : str
        By which it is counted: the path, unless the route is documented with parameters.
    version : int or None
        Model version that answered, for the log.
    """

    admission: Admission
    method: str
    path: str
    headers: dict[bytes, bytes]
    request_id: str
    started_s: float
    route: str
    version: int | None = None

    @property
    def max_body_bytes(self) -> int:
        """What a body may have, as it came and unpacked."""
        return next((most for path, most in _MAX_BYTES.items() if self.path.startswith(path)), MAX_ROW_BYTES)

    def find_deadline(self) -> float:
        """Return when the answer is due, in event-loop time: by ``X-Request-Timeout-Seconds`` or the default.

        Answers leave `DEADLINE_MARGIN_S` before that, ahead of the proxy's own plain-text answer.

        Raises
        ------
        BadRequestError
            The header is no number above 0.
        """
        # The proxy renames the header, see `serve_app.cluster.proxy_front`, and may leave it empty.
        given = self.headers.get(b"x-scorecat-timeout-seconds") or self.headers.get(b"x-request-timeout-seconds")
        left_s = self.admission.timeout_s
        if given is not None:
            try:
                seconds = float(given)
            except ValueError:
                seconds = -1.0
            if not seconds > 0:
                raise BadRequestError("X-Request-Timeout-Seconds must be a number of seconds above 0")
            left_s = min(seconds, LONGEST_TIMEOUT_S)
        arrived = self.headers.get(b"x-scorecat-arrived-ms", b"")
        waited_s = time.time() - int(arrived) / 1000 if arrived.isdigit() else 0.0
        if 0 < waited_s < LONGEST_TIMEOUT_S:  # else the proxy's clock is off, which counts as no wait
            left_s -= waited_s
        return asyncio.get_running_loop().time() + left_s - DEADLINE_MARGIN_S

    def read_number(self, name: str, what: str, max_digits: int = _MAX_VERSION_DIGITS) -> int | None:
        """Return the whole number that a header is, None without it; raises BadRequestError when it is no `what`."""
        given = self.headers.get(name.lower().encode())
        if given is None:
            return None
        if not given.isdigit() or len(given) > max_digits:
            raise BadRequestError(f"{name} must be {what}, not {given[:40].decode('latin-1')!r}")
        return int(given)

    def read_pin(self) -> int | None:
        """Return the version that ``X-Model-Version`` names, or None; raises BadRequestError when it is no number."""
        return self.read_number("X-Model-Version", "a version's number")

    def read_routing(self) -> tuple[str | None, int | None]:
        """Return the user that ``X-User-Id`` names, or None, and the version of `read_pin`."""
        user = self.headers.get(b"x-user-id")
        return (user.decode("utf-8", "surrogateescape") if user else None), self.read_pin()

    def check_json(self) -> None:
        """Raise UnsupportedMediaError unless the body is JSON in UTF-8; one without a type is taken for it."""
        given = self.headers.get(b"content-type", JSON_TYPE)
        if given == JSON_TYPE:
            return
        media = read_media(given.decode("latin-1"))
        if media != JSON and not media.endswith("+json"):
            raise UnsupportedMediaError(f"send {JSON}, not {media or 'nothing'}")

    async def read_body(
        self, receive: Receive, deadline_at: float, late: str = "before the request's deadline"
    ) -> bytes:
        """Return the whole body, see `serve_app.http.bodies.read_body`, up to what the route takes.

        Raises DeadlineExceededError when it is not there at `deadline_at`, event-loop time; `late` says when that is.
        """
        try:
            async with asyncio.timeout_at(deadline_at):
                return await read_body(receive, self.headers, self.max_body_bytes)
        except TimeoutError as exc:
            raise DeadlineExceededError(f"the body did not arrive {late}", 1.0) from exc

    def refuse(self, exc: Exception) -> Answer:
        """Return the problem that an exception is to the caller, and count it; what is our fault is logged."""
        error = exc if isinstance(exc, ScorecatError) else InvariantError("unexpected")
        if not isinstance(error, (BadRequestError, NotReadyError)):
            logger.error("request %s failed", self.request_id, exc_info=exc)
        status, members, extra = describe_problem(error, self.request_id)
        if self.version is not None:
            extra.append((b"x-model-version", b"%d" % self.version))
        return self.answer_problem(status, error.code, members, extra)

    def answer_problem(self, status: int, code: str, members: dict[str, Any], extra: Headers) -> Answer:
        """Return the answer with a problem's members, and count it."""
        self.admission.meter.count_problem(self.route, code)
        if self.path.startswith("/v2"):  # the Open Inference Protocol has a member of its own for all of it
            rules = "".join(f"; {e['pointer']}: {e['detail']}" for e in members.get("errors", []))
            members["error"] = f"{members['detail']}{rules}"
        return status, orjson.dumps(members), [(b"content-type", CONTENT_TYPE), *extra]

    def log(self, status: int) -> None:
        """Write the line of this exchange to the access log, and count it."""
        duration_s = time.perf_counter() - self.started_s
        self.admission.meter.count_request(self.route, status, self.version, duration_s)
        self.admission.access_log.record(self.request_id, self.method, self.path, status, duration_s, self.version)
