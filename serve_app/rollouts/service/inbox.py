"""Reports of Gateways that wait to be counted."""

from __future__ import annotations

from collections import deque
from typing import Final

from serve_app.rollouts.service.ports import Report
from serve_app.rollouts.service.running_rollout import COUNTED, RunningRollout
from serve_app.scoring.core.split import Split

COUNT_EVERY_S: Final = 1.0
"""Reports are stored that often at most; more often only when a measurement is due."""
MAX_REPORTS: Final = 10_000
"""Reports that wait; more are lost, oldest first, which no comparison minds."""
SILENT_AFTER_S: Final = 5.0
"""A Gateway reports every second; one that was not heard of for so long is gone."""
STALE_AFTER_S: Final = 100.0
"""A Gateway that still counts under another split so long after a change does not follow it; no request lives longer
than 90 s."""


class ReportInbox:
    """Takes reports from any thread; everything else is called by one at a time."""

    def __init__(self) -> None:
        self._waiting: deque[Report] = deque(maxlen=MAX_REPORTS)
        self._counted_s = 0.0
        self._stale: Report | None = None
        self._followed: dict[str, dict[int, float]] = {}

    def add(self, report: Report, now_s: float) -> None:
        """Take in a report at a time of a clock that only grows; never waits."""
        known = self._followed.get(report.gateway, {})
        lately = {revision: at_s for revision, at_s in known.items() if now_s - at_s <= SILENT_AFTER_S}
        self._followed[report.gateway] = {**lately, report.revision: now_s}
        self._waiting.append(report)

    def explain_waiting(self, revision: int, now_s: float) -> str:
        """Return which Gateways do not follow a revision of the split yet; empty when all do."""
        lively = {
            name: seen
            for name, seen in list(self._followed.items())
            if any(now_s - at_s <= SILENT_AFTER_S for at_s in seen.values())
        }
        behind = sorted(name for name, seen in lively.items() if revision not in seen)
        if behind:
            return f"{', '.join(behind)} of {len(lively)} Gateways do not follow revision {revision} of the split yet"
        return "" if lively else "no Gateway was heard of"

    def clear(self) -> None:
        """Forget everything: it belongs to no rollout."""
        self._waiting.clear()
        self._stale = None

    def take(self, running: RunningRollout, split: Split, now_s: float, *, is_due: bool) -> list[Report]:
        """Return the waiting reports of the current split when it is time to count them; others are dropped.

        Of the split before the last seconds come late; counted into the new shares they would spoil them.
        """
        if not is_due and 0.0 <= now_s - self._counted_s < COUNT_EVERY_S:
            return []
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if running.state.phase not in COUNTED:
            return []
        current = [report for report in taken if report.revision == split.revision]
        if current:
            self._counted_s, self._stale = now_s, None
        elif taken and now_s >= running.state.since_s + STALE_AFTER_S:
            self._stale = taken[-1]
        return current

    def explain_missing(self) -> str | None:
        """Return why a measurement has no counters, once: of a Gateway that follows another split."""
        stale, self._stale = self._stale, None
        if stale is None:
            return None
        return f"Gateway {stale.gateway} still follows revision {stale.revision} of the split"
