"""Rows of concurrent requests travel together.

A call between replicas costs about as much CPU for one row as for a hundred, so it is shared.
Nothing waits when the service is idle: the first row leaves at the next turn of the event loop.
While calls are under way rows gather, and leave together when a call returns or after `linger_s`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from serve_app.errors import DeadlineExceededError, InvariantError, OverloadedError

Row = TypeVar("Row")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How rows are gathered.

    Attributes
    ----------
    max_rows : int
        Rows of one batch.
    max_queued_rows : int
        Rows that may wait; one more is refused with `OverloadedError`.
    eager_batches : int
        Batches that may be under way before rows start to gather.
    max_batches : int
        Batches that may be under way at all; more than `eager_batches` only when batches are slow.
    linger_s : float
        Longest time rows gather while fewer than `max_batches` are under way. Slow batches thus
        become many concurrent ones, which is what the autoscaler sees and scales on.
    """

    max_rows: int = 256
    max_queued_rows: int = 2048
    eager_batches: int = 2
    max_batches: int = 16
    linger_s: float = 0.02


@dataclass(slots=True)
class Waiting(Generic[Row, Result]):
    """A row whose caller waits."""

    row: Row
    deadline_at: float
    settle: Callable[[Result | Exception], None] | None
    timer: asyncio.TimerHandle | None = field(default=None, init=False)

    def end(self, outcome: Result | Exception) -> None:
        """Hand the outcome over, once; a row that was given up is not handed any."""
        settle, self.settle = self.settle, None
        if self.timer is not None:
            self.timer.cancel()
        if settle is not None:
            settle(outcome)

    def expire(self) -> None:
        """Tell the caller that it is too late."""
        self.end(DeadlineExceededError("the answer was not ready before the request's deadline", 1.0))


class MicroBatcher(Generic[Row, Result]):
    """Gathers rows into batches for one function.

    Parameters
    ----------
    run : callable
        ``await run(rows, deadline_at)`` returns one result or exception a row, in order;
        `deadline_at` is the latest deadline of the rows, in the event loop's time. An exception it
        raises goes to all rows of the batch.
    limits : BatchLimits
    """

    def __init__(
        self,
        run: Callable[[Sequence[Row], float], Awaitable[Sequence[Result | Exception]]],
        limits: BatchLimits,
    ) -> None:
        self._run = run
        self._limits = limits
        self._waiting: deque[Waiting[Row, Result]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None

    @property
    def n_waiting(self) -> int:
        """Rows that have not left yet and whose caller still waits."""
        return sum(w.settle is not None for w in self._waiting)

    async def submit(self, row: Row, deadline_at: float) -> Result:
        """Send a row with the next batch and return its result.

        Raises
        ------
        OverloadedError
            The queue is full.
        DeadlineExceededError
            `deadline_at` passed first; the row is dropped from the queue when it had not left yet.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        waiting = self.put(row, deadline_at, partial(_resolve, future))
        try:
            return await future
        finally:
            waiting.settle = None  # a caller that went away
            if waiting.timer is not None:
                waiting.timer.cancel()

    def put(self, row: Row, deadline_at: float, settle: Callable[[Result | Exception], None]) -> Waiting[Row, Result]:
        """Send a row with the next batch; `settle` is called with what `submit` returns or raises, by the event loop.

        The same without a task and a future a row, about 5 us of CPU.

        Raises
        ------
        OverloadedError
            The queue is full.
        """
        if len(self._waiting) >= self._limits.max_queued_rows:
            self._waiting = deque(w for w in self._waiting if w.settle is not None)
        if len(self._waiting) >= self._limits.max_queued_rows:
            raise OverloadedError("more rows wait than can be answered in time", 1.0)
        loop = asyncio.get_running_loop()
        waiting: Waiting[Row, Result] = Waiting(row, deadline_at, settle)
        waiting.timer = loop.call_at(deadline_at, waiting.expire)
        self._waiting.append(waiting)
        if self._timer is None:
            eager = len(self._tasks) < self._limits.eager_batches
            self._timer = (
                loop.call_soon(self._dispatch) if eager else loop.call_later(self._limits.linger_s, self._dispatch)
            )
        return waiting

    def _dispatch(self) -> None:
        """Send one batch if any row waits and a place is free, and see to the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if len(self._tasks) >= self._limits.max_batches:
            return  # the next batch to finish dispatches
        batch: list[Waiting[Row, Result]] = []
        while self._waiting and len(batch) < self._limits.max_rows:
            waiting = self._waiting.popleft()
            if waiting.settle is not None:
                batch.append(waiting)
        if batch:
            task = asyncio.get_running_loop().create_task(self._work(batch))
            self._tasks.add(task)
            task.add_done_callback(self._finish)
        if self._waiting:
            loop = asyncio.get_running_loop()
            if len(self._tasks) < self._limits.eager_batches:
                self._timer = loop.call_soon(self._dispatch)
            else:
                self._timer = loop.call_later(self._limits.linger_s, self._dispatch)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._waiting:
            self._dispatch()

    async def _work(self, batch: list[Waiting[Row, Result]]) -> None:
        outcome: Sequence[Result | Exception]
        try:
            outcome = await self._run([w.row for w in batch], max(w.deadline_at for w in batch))
            if len(outcome) != len(batch):
                outcome = [InvariantError(f"{len(outcome)} results came back for {len(batch)} rows")] * len(batch)
        except Exception as exc:  # noqa: BLE001 - it is handed to the callers, whatever it is
            outcome = [exc] * len(batch)
        for waiting, result in zip(batch, outcome, strict=True):
            waiting.end(result)


def _resolve(future: asyncio.Future[Result], outcome: Result | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
