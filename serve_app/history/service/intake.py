"""Shop events on their way in: what a request brings, what became of it, and who records it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from serve_app.history.service.live_history import LiveEvent, Recorded

MAX_EVENTS: Final = 20_000
"""Events of one request, which are one commit: a second or so in which other writers wait."""
MAX_ERRORS: Final = 100
"""Errors an answer names; the others are counted."""
COUNTED: Final = ("recorded", "duplicate", "dropped", "conflict", "refused", "rejected")

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


class EventSink(Protocol):
    """Records events durably; every call raises NotReadyError while the store cannot be written."""

    async def record(self, media: str, body: bytes, deadline_at: float) -> Intake:
        """Record the events of a body before `deadline_at` (event-loop time), in one commit.

        Raises
        ------
        BadRequestError
            The body is not what its content type says, or has too many events.
        """
        ...

    async def observe(self, event: LiveEvent, deadline_at: float) -> Recorded:
        """Record one event before `deadline_at`."""
        ...
