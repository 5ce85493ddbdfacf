"""Events of concurrent requests recorded together, one commit for all that wait; one commit under way at a time."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from serve_app.errors import DeadlineExceededError, NotReadyError, OverloadedError, ScorecatError
from serve_app.history.service.intake import MAX_EVENTS, EventSink, Intake, ParsedEvents, summarize
from serve_app.history.service.live_history import LiveEvent, LiveHistory, Recorded
from serve_app.runtime.log_once import LogOnce
from serve_app.runtime.microbatch import BatchLimits, MicroBatcher

MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""Bodies that may wait in one Gateway; more are refused."""
logger = logging.getLogger("scorecat.state")
LIMITS: Final = BatchLimits(max_rows=64, max_queued_rows=1024, eager_batches=1, max_batches=1)


@dataclass(frozen=True, slots=True)
class Body:
    """Events as they came."""

    media: str
    content: bytes


Work = Body | LiveEvent
Result = Intake | Recorded | ScorecatError


def write_events(
    history: LiveHistory, parse: Callable[[str, bytes], ParsedEvents], works: Sequence[Work]
) -> list[Result]:
    """Record bodies and single events in their order, and return what became of each.

    Those of one group are one commit; a group is as many as make up to `MAX_EVENTS` events. When the store
    fails, nothing of the group is stored and each of it gets the error.
    """
    parsed: list[ParsedEvents | ScorecatError] = []
    for work in works:
        try:
            parsed.append(
                ParsedEvents([work], [0], []) if isinstance(work, LiveEvent) else parse(work.media, work.content)
            )
        except ScorecatError as exc:
            parsed.append(exc)
    results: list[Result] = [each if isinstance(each, ScorecatError) else Intake({}) for each in parsed]
    group: list[int] = []
    n_events = 0
    for k, each in enumerate(parsed):
        if isinstance(each, ScorecatError):
            continue
        if group and n_events + len(each.events) > MAX_EVENTS:
            _write_group(history, works, parsed, group, results)
            group, n_events = [], 0
        group.append(k)
        n_events += len(each.events)
    _write_group(history, works, parsed, group, results)
    return results


def _write_group(
    history: LiveHistory,
    works: Sequence[Work],
    parsed: Sequence[ParsedEvents | ScorecatError],
    group: Sequence[int],
    results: list[Result],
) -> None:
    batches = [(k, each) for k in group if not isinstance(each := parsed[k], ScorecatError)]
    try:
        outcomes = history.record([event for _, each in batches for event in each.events])
    except ScorecatError as exc:
        for k in group:
            results[k] = exc
        return
    at = 0
    for k, each in batches:
        mine = outcomes[at : at + len(each.events)]
        at += len(mine)
        results[k] = mine[0] if isinstance(works[k], LiveEvent) else summarize(each, mine)


class EventWriter(EventSink):
    """Gathers the events of concurrent requests for one function that writes.

    Parameters
    ----------
    write : callable
        ``await write(works)`` does what `write_events` does, beside the event loop.
    """

    def __init__(self, write: Callable[[Sequence[Work]], Awaitable[Sequence[Result]]]) -> None:
        self._write = write
        self._batcher: MicroBatcher[Work, Intake | Recorded] = MicroBatcher(self._run, LIMITS)
        self._n_bytes = 0
        self._trouble = LogOnce(logger)

    async def record(self, media: str, body: bytes, deadline_at: float) -> Intake:
        """Record the events of a body, see `EventSink.record`."""
        if self._n_bytes and self._n_bytes + len(body) > MAX_WAITING_BYTES:
            raise OverloadedError("more events wait than can be written in time", 1.0)
        self._n_bytes += len(body)
        try:
            found = await self._submit(Body(media, body), deadline_at)
        finally:
            self._n_bytes -= len(body)
        assert isinstance(found, Intake)
        return found

    async def observe(self, event: LiveEvent, deadline_at: float) -> Recorded:
        """Record one event, see `EventSink.observe`."""
        found = await self._submit(event, deadline_at)
        assert isinstance(found, Recorded)
        return found

    async def _submit(self, work: Work, deadline_at: float) -> Intake | Recorded:
        try:
            return await self._batcher.submit(work, deadline_at)
        except DeadlineExceededError as exc:
            raise DeadlineExceededError(
                "it is not known yet whether the events were stored: send them again, events with an event_id "
                "count once",
                1.0,
            ) from exc

    async def _run(self, works: Sequence[Work], _: float) -> Sequence[Intake | Recorded | Exception]:
        try:
            results = list(await self._write(works))
        except ScorecatError as exc:
            self._note([exc])
            raise
        self._note(results)
        return results

    def _note(self, results: Sequence[Result]) -> None:
        """Log why the store cannot be written, once for each reason, and that it can be again."""
        failed = next((r for r in results if isinstance(r, NotReadyError)), None)
        if failed is not None:
            if self._trouble.is_new(failed):
                logger.error("events are not recorded: %s", failed)
        elif not all(isinstance(r, ScorecatError) for r in results) and self._trouble.clear():
            logger.warning("events are recorded again")
