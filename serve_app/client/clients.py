"""`Client` and `AsyncClient`: the I/O of `Calls`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Self, TypeVar

import httpx

from serve_app.client.calls import Calls, Clocks, Reply, Steps, Wait
from serve_app.client.events import Events, RecordedEvents
from serve_app.client.frames import FrameT
from serve_app.client.rows import Prediction, RowLike
from serve_app.runtime.trust import choose_trust

DEFAULT_TIMEOUT_S: Final = 5.0
DEFAULT_RETRIES: Final = 3
DEFAULT_MAX_ROWS: Final = 10_000
DEFAULT_CONNECTIONS: Final = 100
T = TypeVar("T")


class Client:
    """A client of one service; safe to share between threads. Close it, or use it in ``with``.

    Parameters
    ----------
    url : str
        Where the service is, for example ``http://127.0.0.1:8000``.
    timeout_s : float
        Deadline of calls that name none, retries and waits included. The service learns what is left
        of it; connecting, sending and waiting for bytes each end with it at the latest.
    retries : int
        Tries after the first, on 429, 503 and failed connections, and only as far as the deadline
        allows. A row that may have been scored, and events with ids, are safe to send again.
    max_rows : int
        Rows in one request of `predict_frame`.
    max_connections : int
        Connections kept open.
    headers : mapping or None
        Sent with every request.
    transport : httpx.BaseTransport or None
        In place of the network: for tests.
    sleep : callable
        Waits so many seconds.
    clocks : Clocks
        Where time and chance come from.

    Raises
    ------
    BadRequestError
        `url` is no HTTP URL, or a number is out of range.
    """

    def __init__(
        self,
        url: str,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retries: int = DEFAULT_RETRIES,
        *,
        max_rows: int = DEFAULT_MAX_ROWS,
        max_connections: int = DEFAULT_CONNECTIONS,
        headers: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clocks: Clocks = Clocks(),  # noqa: B008 frozen
    ) -> None:
        self._calls = Calls(url, timeout_s, retries, max_rows, headers, clocks)
        self._http = httpx.Client(transport=transport, limits=_limits(max_connections), verify=choose_trust(url))
        self._sleep = sleep

    @property
    def n_retries(self) -> int:
        """Tries after the first, over all calls so far."""
        return self._calls.n_retries

    def predict(self, row: RowLike, *, detail: bool = False, deadline_s: float | None = None) -> Prediction:
        """Score one row.

        Parameters
        ----------
        row : Row, mapping or bytes
            A row, the members of the request by name, or their JSON.
        detail : bool
            Ask for every feature and where it came from.
        deadline_s : float or None
            Seconds for the whole call; default `timeout_s`.

        Raises
        ------
        BadRequestError
            Change what was sent; `InvalidRowError` names each field.
        NotReadyError
            Try again after `retry_after_s`; `DeadlineExceededError` when the time was up.
        InvariantError
            The service is broken, or is not scorecat.
        """
        return self._run(self._calls.score_row(row, detail=detail, deadline_s=deadline_s))

    def predict_frame(self, frame: FrameT, *, deadline_s: float | None = None) -> FrameT:
        """Score a frame; rows are sent `max_rows` at a time.

        Parameters
        ----------
        frame : pandas.DataFrame, pyarrow.Table or pyarrow.RecordBatch
            One column for each member of a row.
        deadline_s : float or None
            Seconds for the whole frame; default `timeout_s` for each slice.

        Returns
        -------
        The same kind of frame, its rows in the same order (and with the same index), with columns
        probability (float64, null for a rejected row), recommendation (string), version (int64) and
        error (string, null when the row was scored).

        Raises
        ------
        As `predict`; a rejected row is no error, its `error` says why.
        """
        return self._run(self._calls.score_frame(frame, deadline_s=deadline_s))

    def send_events(self, events: Events, *, deadline_s: float | None = None) -> RecordedEvents:
        """Record shop events, in their order, in one request and one transaction of the service.

        Parameters
        ----------
        events : frame, mapping or sequence of mappings
            Members: the published columns of a log (``event_time`` with a zone, or null for now), and
            ``event_id``, by which an event that is sent again counts once.
        deadline_s : float or None
            Seconds for the whole call; default `timeout_s`.

        Raises
        ------
        As `predict`; an event that is not recorded is no error, the answer says why. When a connection
        was lost, events without id may have been recorded: they are not sent again.
        """
        return self._run(self._calls.send_events(events, deadline_s=deadline_s))

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, steps: Steps[T]) -> T:
        reply: Reply = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as done:
                value: T = done.value
                return value
            if isinstance(step, Wait):
                self._sleep(step.seconds)
                reply = None
                continue
            try:
                reply = self._http.send(step.request)
            except httpx.RequestError as failure:
                reply = failure


class AsyncClient:
    """`Client` for asyncio: the same parameters, calls, answers and errors; `sleep` is awaited."""

    def __init__(
        self,
        url: str,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retries: int = DEFAULT_RETRIES,
        *,
        max_rows: int = DEFAULT_MAX_ROWS,
        max_connections: int = DEFAULT_CONNECTIONS,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clocks: Clocks = Clocks(),  # noqa: B008 frozen
    ) -> None:
        self._calls = Calls(url, timeout_s, retries, max_rows, headers, clocks)
        self._http = httpx.AsyncClient(transport=transport, limits=_limits(max_connections), verify=choose_trust(url))
        self._sleep = sleep

    @property
    def n_retries(self) -> int:
        """Tries after the first, over all calls so far."""
        return self._calls.n_retries

    async def predict(self, row: RowLike, *, detail: bool = False, deadline_s: float | None = None) -> Prediction:
        """Score one row: see `Client.predict`."""
        return await self._run(self._calls.score_row(row, detail=detail, deadline_s=deadline_s))

    async def predict_frame(self, frame: FrameT, *, deadline_s: float | None = None) -> FrameT:
        """Score a frame: see `Client.predict_frame`."""
        return await self._run(self._calls.score_frame(frame, deadline_s=deadline_s))

    async def send_events(self, events: Events, *, deadline_s: float | None = None) -> RecordedEvents:
        """Record shop events: see `Client.send_events`."""
        return await self._run(self._calls.send_events(events, deadline_s=deadline_s))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _run(self, steps: Steps[T]) -> T:
        reply: Reply = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as done:
                value: T = done.value
                return value
            if isinstance(step, Wait):
                await self._sleep(step.seconds)
                reply = None
                continue
            try:
                reply = await self._http.send(step.request)
            except httpx.RequestError as failure:
                reply = failure


def _limits(max_connections: int) -> httpx.Limits:
    return httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections)
