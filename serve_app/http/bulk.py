"""What the routes for many rows share: reading the body, parsing off the event loop, scoring."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from starlette.requests import Request

from serve_app.core.errors import BadRequestError, DeadlineExceededError
from serve_app.core.features import FeatureSpec
from serve_app.core.outputs import Extra
from serve_app.http.asgi import LONGEST_TIMEOUT_S, read_body, read_timeout_s
from serve_app.http.columns import ParsedTable
from serve_app.http.parsing_process import MIN_BYTES, ParsingProcess
from serve_app.http.table_formats import parse_arrow, parse_json
from serve_app.service.scoring import Scoring, VersionScorer
from serve_app.service.table_scoring import TableScorer, TableScores

MAX_BODY_BYTES: Final = 32 * 1024 * 1024
INLINE_TEXT_BYTES: Final = 32 * 1024
INLINE_BINARY_BYTES: Final = 4 * 1024 * 1024
"""Bodies up to these (a millisecond or two to parse) are parsed on the event loop, larger ones in a thread:
handing over to a thread takes longer than that."""

T = TypeVar("T")


class Bulk:
    """Scores the tables of requests.

    Parameters
    ----------
    scoring : Scoring
    timeout_s : float
        Deadline of requests that name none, seconds.
    """

    def __init__(self, scoring: Scoring, timeout_s: float) -> None:
        self.scoring = scoring
        self._tables = TableScorer()
        self._process = ParsingProcess()
        self._timeout_s = timeout_s

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

    async def parse(
        self,
        parser: Callable[[bytes, Sequence[FeatureSpec]], ParsedTable],
        body: bytes,
        features: Sequence[FeatureSpec],
        deadline_at: float,
    ) -> ParsedTable:
        """Run one of `serve_app.http.table_formats.PARSERS` where it disturbs other requests least."""
        if parser is parse_json and len(body) > MIN_BYTES:
            return await self.run_apart(deadline_at, parser, body, features)
        return await self.run(lambda: parser(body, features), len(body), is_binary=parser is parse_arrow)

    async def run_apart(self, deadline_at: float, function: Callable[..., T], *arguments: object) -> T:
        """Run a module-level function in the process for large JSON, before the deadline."""
        try:
            async with asyncio.timeout_at(deadline_at):
                return await self._process.run(function, *arguments)
        except TimeoutError as exc:
            raise DeadlineExceededError("the body was not parsed before the request's deadline", 1.0) from exc

    @staticmethod
    async def run(function: Callable[[], T], n_bytes: int, *, is_binary: bool = False) -> T:
        """Run a parser or writer, in a thread when there is much to do."""
        limit = INLINE_BINARY_BYTES if is_binary else INLINE_TEXT_BYTES
        return function() if n_bytes <= limit else await asyncio.to_thread(function)

    async def score(
        self, scorer: VersionScorer, parsed: ParsedTable, deadline_at: float, extras: Sequence[Extra] = ()
    ) -> TableScores:
        """Score a parsed table."""
        return await self._tables.score(scorer, parsed.batch, deadline_at, parsed.errors, extras)


def parse_content_length(value: str | None) -> int | None:
    """Return ``Inference-Header-Content-Length`` as a number; raises BadRequestError."""
    if value is None:
        return None
    if not value.isdecimal():
        raise BadRequestError(f"Inference-Header-Content-Length must be a whole number, not {value[:40]!r}")
    return int(value)
