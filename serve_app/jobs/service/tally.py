"""Counts what jobs do, from their records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from serve_app.jobs.core.record import ENDED, JobRecord, JobRows, JobState
from serve_app.jobs.service.ports import JobMeter

LIVE: Final[tuple[JobState, ...]] = ("queued", "starting", "running")


class JobTally:
    """Compares records with what they said before; one thread at a time.

    Parameters
    ----------
    meter : JobMeter
    since_s : float
        What was done before is not counted again.
    """

    def __init__(self, meter: JobMeter, since_s: float) -> None:
        self._meter = meter
        self._since_s = since_s
        self._rows: dict[str, JobRows] = {}
        self._ended: set[str] = set()

    def take(self, records: Sequence[JobRecord], now_s: float) -> None:
        """Count what has come since the last time."""
        states = {record.order.id: record.state(now_s) for record in records}
        for kind in LIVE:
            self._meter.set_jobs(kind, Counter(states.values())[kind])
        for record in records:
            job_id = record.order.id
            if record.beat is not None and job_id not in self._ended:
                self._count_rows(record)
            if states[job_id] in ENDED and job_id not in self._ended:
                self._ended.add(job_id)
                self._rows.pop(job_id, None)
                if (record.ended_at_s(now_s) or 0.0) >= self._since_s:
                    self._meter.count_ended(states[job_id])
        self._ended &= set(states)

    def _count_rows(self, record: JobRecord) -> None:
        job_id, beat = record.order.id, record.beat
        if beat is None or not beat.model:
            return
        known = self._rows.get(job_id)
        if known is None:
            known = beat.rows_before if beat.began_at_s >= self._since_s else beat.rows
        self._rows[job_id] = beat.rows
        for kind in ("scored", "rejected"):
            n = getattr(beat.rows, kind) - getattr(known, kind)
            if n > 0:
                self._meter.count_rows(beat.model, beat.version, kind, n)
