"""What the routes for many rows share: reading the body, parsing off the event loop, scoring."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from starlette.requests import Request

from serve_app.errors import BadRequestError, DeadlineExceededError
from serve_app.features.core.typed_columns import ParsedTable
from serve_app.http.asgi import LONGEST_TIMEOUT_S, Meter, read_body, read_routing, read_timeout_s
from serve_app.http.parsing_process import ParsingProcess
from serve_app.models.core.outputs import Extra
from serve_app.scoring.service.route import Route
from serve_app.scoring.service.table_scoring import TableScorer, TableScores
from serve_app.scoring.service.traffic import Traffic

MAX_BODY_BYTES: Final = 32 * 1024 * 1024
INLINE_TEXT_BYTES: Final = 32 * 1024
INLINE_ARROW_BYTES: Final = 4 * 1024 * 1024
"""Bodies up to these (a millisecond or two to parse) are parsed on the event loop, larger ones in a thread:
handing over to a thread takes longer than that."""

T = TypeVar("T")


class Bulk:
    """Scores the tables of requests.

    Parameters
    ----------
    traffic : Traffic
    timeout_s : float
        Deadline of requests that name none, seconds.
    meter : Meter
    """

    def __init__(self, traffic: Traffic, timeout_s: float, meter: Meter) -> None:
        self.traffic = traffic
        self._tables = TableScorer()
        self._process = ParsingProcess()
        self._timeout_s = timeout_s
        self.meter = meter

    def choose(self, request: Request) -> Route:
        """Choose the version that answers the whole request: by ``X-User-Id``, else at random."""
        return self.traffic.choose(*read_routing(dict(request.scope["headers"])))

    def deadline_at(self, request: Request) -> float:
        """Return the request's deadline in event-loop time."""
        headers = dict(request.scope["headers"])
        return asyncio.get_running_loop().time() + read_timeout_s(headers, self._timeout_s, LONGEST_TIMEOUT_S)

    async def read(self, request: Request, deadline_at: float) -> bytes:
        """Read the whole body, up to `MAX_BODY_BYTES`, before the deadline."""
        try:
            async with asyncio.timeout_at(deadline_at):
                return await read_body(request.receive, dict(request.scope["headers"]), MAX_BODY_BYTES)
        except TimeoutError as exc:
            raise DeadlineExceededError("the body did not arrive before the request's deadline", 1.0) from exc

    async def run(
        self,
        function: Callable[[], T],
        n_bytes: int,
        deadline_at: float,
        *,
        inline_bytes: int = INLINE_TEXT_BYTES,
        apart: bool = False,
    ) -> T:
        """Run a parser or writer where it disturbs other requests least, until the deadline.

        Parameters
        ----------
        function : callable
            A `functools.partial` of a module-level function when it is to run apart.
        n_bytes : int
            How much there is to do.
        deadline_at : float
            Event-loop time.
        inline_bytes : int
            Up to here it runs on the event loop, beyond in a thread.
        apart : bool
            Run it in the process for large JSON.
        """
        if n_bytes <= inline_bytes and not apart:
            return function()
        try:
            async with asyncio.timeout_at(deadline_at):
                return await (self._process.run(function) if apart else asyncio.to_thread(function))
        except TimeoutError as exc:
            raise DeadlineExceededError("the table was not read or written before the request's deadline", 1.0) from exc

    async def score(
        self, route: Route, parsed: ParsedTable, deadline_at: float, extras: Sequence[Extra] = ()
    ) -> TableScores:
        """Score a parsed table with the version that was chosen for it."""
        return await route.score_table(self._tables, parsed.batch, deadline_at, extras)


def inline_bytes(is_arrow: bool) -> int:  # noqa: FBT001 - the one thing that is asked
    """Return up to which size a body is read or written on the event loop."""
    return INLINE_ARROW_BYTES if is_arrow else INLINE_TEXT_BYTES


def parse_content_length(value: str | None) -> int | None:
    """Return ``Inference-Header-Content-Length`` as a number; raises BadRequestError."""
    if value is None:
        return None
    if not value.isdecimal() or len(value) > 12:  # noqa: PLR2004 - more than any body
        raise BadRequestError(f"Inference-Header-Content-Length must be a whole number, not {value[:40]!r}")
    return int(value)
