"""What the routes work with: put beside each request, so that routes are made once and not for every application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar, cast

from starlette.requests import Request

from serve_app.errors import DeadlineExceededError
from serve_app.history.service.intake import EventSink
from serve_app.http.admission import Exchange, Meter
from serve_app.http.parsing_process import ParsingProcess
from serve_app.jobs.service.ports import Jobs
from serve_app.rollouts.service.ports import Rollouts
from serve_app.scoring.service.table_scoring import TableScorer
from serve_app.scoring.service.traffic import Traffic

INLINE_TEXT_BYTES: Final = 32 * 1024
INLINE_ARROW_BYTES: Final = 4 * 1024 * 1024
"""Bodies up to these (a millisecond or two to parse) are parsed on the event loop, larger ones in a thread:
handing over to a thread takes longer than that."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Services:
    """What an application was made of.

    Attributes
    ----------
    traffic : Traffic
    meter : Meter
    events : EventSink or None
    rollouts : Rollouts or None
    jobs : Jobs or None
        Routes of what is None answer 503.
    tables : TableScorer
    process : ParsingProcess
    """

    traffic: Traffic
    meter: Meter
    events: EventSink | None
    rollouts: Rollouts | None
    jobs: Jobs | None
    tables: TableScorer = field(default_factory=TableScorer)
    process: ParsingProcess = field(default_factory=ParsingProcess)

    async def run(
        self,
        function: Callable[[], T],
        n_bytes: int,
        deadline_at: float,
        *,
        is_arrow: bool = False,
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
        is_arrow : bool
            Of Arrow more is done at once than of text.
        apart : bool
            Run it in the process for large JSON.
        """
        if n_bytes <= (INLINE_ARROW_BYTES if is_arrow else INLINE_TEXT_BYTES) and not apart:
            return function()
        try:
            async with asyncio.timeout_at(deadline_at):
                return await (self.process.run(function) if apart else asyncio.to_thread(function))
        except TimeoutError as exc:
            raise DeadlineExceededError("the table was not read or written before the request's deadline", 1.0) from exc


def services_of(request: Request) -> Services:
    """Return what the application that a request came to was made of."""
    return cast("Services", request.scope["state"]["services"])


def exchange_of(request: Request) -> Exchange:
    """Return the exchange that a request began."""
    return cast("Exchange", request.scope["state"]["exchange"])
