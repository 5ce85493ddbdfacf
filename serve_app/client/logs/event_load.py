"""A log sent as events, request after request in the log's order, and what came of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from serve_app.client.clients import Client
from serve_app.client.events import STATUSES
from serve_app.client.logs.log_events import LogPart
from serve_app.errors import InvalidDataError, InvalidRowError, PayloadTooLargeError

EXAMPLES: Final = 3
"""Lines that are named for each reason."""

REASONS: Final = 50
"""Reasons that are told apart; a service that gives more is summed under the last."""

UNNAMED: Final = "a request has more such events than the service names"

_NUMBER = re.compile(r"\d[\d,.]*")
_SETTLED: Final = frozenset({"recorded", "duplicate", "dropped"})


@dataclass(slots=True)
class UnrecordedReason:
    """Why events were not recorded.

    Attributes
    ----------
    detail : str
        What the service said of the first one; of the others only the numbers may differ.
    n : int
        Events it was said of.
    lines : list of str
        The first of them, as ``file:line``, lines counted from 1 without a header.
    """

    detail: str
    n: int = 0
    lines: list[str] = field(default_factory=list)


@dataclass(slots=True)
class EventLoadReport:
    """What came of a load, as it goes on.

    Attributes
    ----------
    counts : Counter
        Events that the service answered for, by status.
    reasons : dict
        Why, by status and reason, for statuses other than ``recorded`` and ``duplicate``.
    n_skipped : int
        Lines that an earlier load had sent.
    seconds : float
        From the first request to the last answer.
    """

    counts: Counter[str] = field(default_factory=Counter)
    reasons: dict[tuple[str, str], UnrecordedReason] = field(default_factory=dict)
    n_skipped: int = 0
    seconds: float = 0.0

    @property
    def n_events(self) -> int:
        """Lines that came to an outcome."""
        return sum(self.counts.values())

    @property
    def is_whole(self) -> bool:
        """Whether all that are events by the rules of a log count now."""
        return all(status in _SETTLED for status, n in self.counts.items() if n)

    def add_reason(self, status: str, detail: str, place: str, n: int = 1) -> None:
        """Count events that were not recorded for a reason."""
        key = status, _NUMBER.sub("#", detail)
        if key not in self.reasons and len(self.reasons) >= REASONS:
            key, detail = (status, "…"), "other reasons"
        reason = self.reasons.setdefault(key, UnrecordedReason(detail))
        reason.n += n
        if len(reason.lines) < EXAMPLES:
            reason.lines.append(place)

    def to_json(self) -> dict[str, Any]:
        """Return the report as one JSON object."""
        return {
            **{status: self.counts[status] for status in STATUSES},
            "lines": self.n_events,
            "skipped": self.n_skipped,
            "seconds": round(self.seconds, 3),
            "events_per_s": round(self.n_events / self.seconds, 1) if self.seconds else 0.0,
            "reasons": [
                {"status": status, "detail": r.detail, "events": r.n, "lines": r.lines}
                for (status, _), r in self.reasons.items()
            ],
        }


class EventLoad:
    """Sends the parts of a log one after the other: events count in the order they arrive.

    Parameters
    ----------
    client : Client
    report : EventLoadReport
        Is filled while parts are answered.
    rate : float or None
        Events a second, at most.
    now, sleep : callable
        A clock of seconds, and a wait of seconds.
    """

    def __init__(
        self,
        client: Client,
        report: EventLoadReport,
        rate: float | None,
        now: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._client = client
        self._report = report
        self._rate = rate
        self._now = now
        self._sleep = sleep
        self._started_s = now()
        self._n_sent = 0

    def send(self, name: str, parts: Iterable[LogPart], note: Callable[[int], None]) -> None:
        """Send the parts of one file.

        Parameters
        ----------
        name : str
            The file's, for people.
        parts : iterable of LogPart
        note : callable
            Is told how many lines further a load would go on, after each answer.

        Raises
        ------
        ScorecatError
            A request got no answer: what was sent before is recorded and noted.
        """
        for part in parts:
            if self._rate is not None:
                self._sleep(max(0.0, self._started_s + self._n_sent / self._rate - self._now()))
            self._send_part(name, part)
            self._n_sent += part.n_lines
            self._report.seconds = self._now() - self._started_s
            note(part.n_lines)

    def _send_part(self, name: str, part: LogPart) -> None:
        if part.table.num_rows:
            self._send_events(name, part.table, part.lines.tolist())
        for reason, n in part.dropped.items():
            self._report.counts["dropped"] += n
            self._report.add_reason("dropped", reason, name, n)

    def _send_events(self, name: str, table: pa.Table, lines: list[int]) -> None:
        """Send events; when the whole request is refused for what some of them hold, in halves."""
        try:
            answer = self._client.send_events(table)
        except (InvalidRowError, InvalidDataError, PayloadTooLargeError) as error:
            if table.num_rows == 1:
                detail = error.errors[0].detail if error.errors else error.detail
                self._report.counts["rejected"] += 1
                self._report.add_reason("rejected", detail, f"{name}:{lines[0] + 1}")
                return
            half = table.num_rows // 2
            self._send_events(name, table.slice(0, half), lines[:half])
            self._send_events(name, table.slice(half), lines[half:])
            return
        self._report.counts.update(answer.counts)
        unnamed = Counter({s: n for s, n in answer.counts.items() if s not in {"recorded", "duplicate"}})
        for error_of_event in answer.errors:
            status = error_of_event.status
            if status in unnamed:
                unnamed[status] -= 1
                self._report.add_reason(status, error_of_event.detail, f"{name}:{lines[error_of_event.index] + 1}")
        for status, n in unnamed.items():
            if n > 0:
                self._report.add_reason(status, UNNAMED, f"{name}:{lines[0] + 1}-{lines[-1] + 1}", n)
