"""Shop events on their way in: what a request brings, what became of it, and who records it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from serve_app.errors import DeadlineExceededError, NotReadyError, OverloadedError, ScorecatError
from serve_app.history.service.live_history import LiveEvent, LiveHistory, Recorded
from serve_app.runtime.log_once import LogOnce
from serve_app.runtime.microbatch import BatchLimits, MicroBatcher

MAX_EVENTS: Final = 20_000
"""Events of one request, which are one commit: a second or so in which other writers wait."""
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""Bodies that may wait in one Gateway; more are refused."""
LIMITS: Final = BatchLimits(max_rows=64, max_queued_rows=1024, eager_batches=1, max_batches=1)
MAX_ERRORS: Final = 100
"""Errors an answer names; the others are counted."""
COUNTED: Final = ("recorded", "duplicate", "dropped", "conflict", "refused", "rejected")

logger = logging.getLogger("scorecat.state")

IntakeStatus = Literal["recorded", "duplicate", "dropped", "conflict", "refused", "rejected"]


@dataclass(frozen=True, slots=True)
class ParsedEvents:
    """The events of a body.

    Attributes
    ----------
    events : list of LiveEvent
    indices : list of int
        Place of each in the body.
    rejected : list of (int, str)
        Place of what is no event, because a member has the wrong type, and why.
    """

    events: list[LiveEvent]
    indices: list[int]
    rejected: list[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class UnrecordedEvent:
    """Why an event was not recorded."""

    index: int
    status: IntakeStatus
    detail: str


@dataclass(frozen=True, slots=True)
class Intake:
    """What became of the events of a request.

    Attributes
    ----------
    counts : dict of str to int
        By each of `COUNTED`.
    errors : list of UnrecordedEvent
        The first `MAX_ERRORS` events that are neither recorded nor duplicates, in the body's order.
    n_errors : int
        How many there are.
    newest_s : int or None
        Time of the newest event that was recorded and says its time, seconds since 1970 UTC.
    """

    counts: dict[str, int]
    errors: list[UnrecordedEvent] = field(default_factory=list)
    n_errors: int = 0
    newest_s: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the answer to the request."""
        errors = [{"index": e.index, "status": e.status, "detail": e.detail} for e in self.errors]
        left = self.n_errors - len(self.errors)
        more = {"errors_omitted": left, "errors_limit": MAX_ERRORS} if left else {}
        return {**self.counts, "errors": errors, **more}


def summarize(parsed: ParsedEvents, outcomes: Sequence[Recorded]) -> Intake:
    """Return what became of the events of a body, given that of its readable ones."""
    counts = Counter({"rejected": len(parsed.rejected)}) + Counter(o.status for o in outcomes)
    errors = [UnrecordedEvent(index, "rejected", detail) for index, detail in parsed.rejected]
    newest_s = None
    for index, event, outcome in zip(parsed.indices, parsed.events, outcomes, strict=True):
        if outcome.status not in {"recorded", "duplicate"}:
            errors.append(UnrecordedEvent(index, outcome.status, outcome.detail))
        elif outcome.status == "recorded" and event.time_s is not None:
            newest_s = event.time_s if newest_s is None else max(newest_s, event.time_s)
    errors.sort(key=lambda e: e.index)
    return Intake({name: counts[name] for name in COUNTED}, errors[:MAX_ERRORS], len(errors), newest_s)


@dataclass(frozen=True, slots=True)
class EventsBody:
    """Events as they came."""

    media: str
    content: bytes


Work = EventsBody | LiveEvent
Result = Intake | Recorded | ScorecatError


def write_events(
    history: LiveHistory, parse: Callable[[str, bytes], ParsedEvents], works: Sequence[Work]
) -> list[Result]:
    """Record bodies and single events in their order, and return what became of each.

    Those of one group are one commit; a group is as many as make up to `MAX_EVENTS` events. When the store
    fails, nothing of the group is stored and each of it gets the error.
    """
    results: dict[int, Result] = {}
    parsed: dict[int, ParsedEvents] = {}
    for k, work in enumerate(works):
        try:
            parsed[k] = (
                ParsedEvents([work], [0], []) if isinstance(work, LiveEvent) else parse(work.media, work.content)
            )
        except ScorecatError as exc:
            results[k] = exc
    group: dict[int, ParsedEvents] = {}
    for k, each in parsed.items():
        if group and sum(len(one.events) for one in group.values()) + len(each.events) > MAX_EVENTS:
            results |= _write_group(history, works, group)
            group = {}
        group[k] = each
    results |= _write_group(history, works, group)
    return [results[k] for k in range(len(works))]


def _write_group(history: LiveHistory, works: Sequence[Work], group: Mapping[int, ParsedEvents]) -> dict[int, Result]:
    try:
        outcomes = history.record([event for each in group.values() for event in each.events])
    except ScorecatError as exc:
        return dict.fromkeys(group, exc)
    results: dict[int, Result] = {}
    for k, each in group.items():
        mine, outcomes = outcomes[: len(each.events)], outcomes[len(each.events) :]
        results[k] = mine[0] if isinstance(works[k], LiveEvent) else summarize(each, mine)
    return results


class EventSink:
    """Records events durably: those of concurrent requests together, one commit for all that wait, one under way.

    Every call raises NotReadyError while the store cannot be written.

    Parameters
    ----------
    write : callable
        ``await write(works)`` does what `serve_app.history.service.intake.write_events` does, beside the event loop.
    """

    def __init__(self, write: Callable[[Sequence[Work]], Awaitable[Sequence[Result]]]) -> None:
        self._write = write
        self._batcher: MicroBatcher[Work, Intake | Recorded] = MicroBatcher(self._run, LIMITS)
        self._n_bytes = 0
        self._trouble = LogOnce(logger)

    async def record(self, media: str, body: bytes, deadline_at: float) -> Intake:
        """Record the events of a body before `deadline_at` (event-loop time), in one commit.

        Raises
        ------
        BadRequestError
            The body is not what its content type says, or has too many events.
        """
        if self._n_bytes and self._n_bytes + len(body) > MAX_WAITING_BYTES:
            raise OverloadedError("more events wait than can be written in time", 1.0)
        self._n_bytes += len(body)
        try:
            found = await self._submit(EventsBody(media, body), deadline_at)
        finally:
            self._n_bytes -= len(body)
        assert isinstance(found, Intake)
        return found

    async def observe(self, event: LiveEvent, deadline_at: float) -> Recorded:
        """Record one event before `deadline_at`."""
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
