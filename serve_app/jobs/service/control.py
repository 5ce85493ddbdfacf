"""Batch jobs: a queue for those asked for over HTTP, one list of all, and the pools that they hold.

The records are the only memory. Rounds compare what is with what should be, so that a control app that dies loses
nothing: the next one reads the same records.
"""

from __future__ import annotations

import dataclasses
import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from serve_app.errors import (
    ConflictError,
    InvalidDataError,
    NotFoundError,
    NotReadyError,
    QueueFullError,
    ScorecatError,
)
from serve_app.jobs.core.record import ENDED, Committed, JobOrder, JobRecord
from serve_app.jobs.core.spec import JobSpec
from serve_app.jobs.service.ports import JobMeter, JobRunner, JobStore, PoolApps
from serve_app.jobs.service.report import describe_briefly, describe_job
from serve_app.jobs.service.tally import JobTally
from serve_app.runtime.log_once import LogOnce

STOP_S: Final = 20.0
"""A driver that was told to end has so long to do so by itself."""
LOOK_S: Final = 10.0
"""How often a submitted job that has not spoken yet is asked for, and pools while none is wanted."""
SETTLED_S: Final = 10.0
"""So long after its driver's last word no worker of a job writes any more."""
RETRY_AFTER_S: Final = 60.0
"""For a full queue, when nothing is known of how long the jobs ahead take."""

logger = logging.getLogger("scorecat.jobs")


@dataclasses.dataclass(frozen=True, slots=True)
class JobLimits:
    """How many jobs, and how long they are remembered.

    Attributes
    ----------
    n_slots : int
        Queued jobs are started while fewer run.
    n_waiting : int
        Jobs that may wait.
    keep_s : float
        After its end a job's record, and the output that belongs to it, is kept so long.
    """

    n_slots: int = 1
    n_waiting: int = 10
    keep_s: float = 7 * 24 * 3600.0


class JobControl:
    """Owns the jobs of one service; every method may be called from any thread.

    Parameters
    ----------
    store : JobStore
    runner : JobRunner
    pools : PoolApps
    check_place : callable
        ``check_place(location, is_input=…, is_new=…)`` returns the place, or raises when it may not be used.
    resolve : callable
        Returns ``name@version`` of a model that is named; raises NotFoundError.
    meter : JobMeter
    limits : JobLimits
    count_committed : callable
        Returns what of a job is in its output, by its place; None where no job is.
    clock : callable
        Seconds since the epoch.
    """

    def __init__(
        self,
        store: JobStore,
        runner: JobRunner,
        pools: PoolApps,
        check_place: Callable[..., str],
        resolve: Callable[[str], str],
        meter: JobMeter,
        limits: JobLimits,
        count_committed: Callable[[str], Committed | None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._runner = runner
        self._pools = pools
        self._check_place = check_place
        self._resolve = resolve
        self._tally = JobTally(meter, clock())
        self._limits = limits
        self._count_committed = count_committed
        self._clock = clock
        self._lock = threading.RLock()
        self._looked_s: dict[str, float] = {}
        self._stopped: set[str] = set()
        self._trouble = LogOnce(logger)

    def start(self, asked: JobSpec, who: str) -> dict[str, Any]:
        """Queue a job and return it; its version is fixed now.

        Raises
        ------
        QueueFullError
            As many wait as may.
        BadRequestError
            A place may not be used; NotFoundError for an input or a model that is not there, ConflictError for an
            output that holds something.
        """
        if asked.resume and not asked.output:
            raise InvalidDataError("a job is resumed where its output is: name that too")
        source = self._check_place(asked.input, is_input=True)
        output = self._check_place(asked.output, is_input=False, is_new=not asked.resume) if asked.output else ""
        # what is resumed has a version already
        model = asked.model if asked.resume else self._resolve(asked.model)
        now_s = self._clock()
        job_id = name_job(now_s)
        spec = dataclasses.replace(asked, input=source, output=output or self._store.place_output(job_id), model=model)
        order = JobOrder(job_id, now_s, "http", who, spec, has_own_output=not output)
        with self._lock:
            states = [(record, record.state(now_s)) for record in self._store.all()]
            n_waiting = sum(state == "queued" for _, state in states)
            if n_waiting >= self._limits.n_waiting:
                raise QueueFullError(
                    f"{n_waiting} jobs wait already, as many as may: try again later",
                    _estimate_wait_s([record for record, state in states if state == "running"]),
                )
            self._store.create(order)
        logger.info("job %s: %s asks to score %s", job_id, who, source)
        return self.describe(job_id)

    def recent(self, limit: int) -> list[dict[str, Any]]:
        """Return jobs, newest first, in short form."""
        now_s = self._clock()
        return [describe_briefly(self._settle(record, now_s), now_s) for record in self._store.all()[::-1][:limit]]

    def describe(self, job_id: str) -> dict[str, Any]:
        """Return a job as plain JSON; raises NotFoundError."""
        now_s = self._clock()
        record = self._settle(self._store.find(job_id), now_s)
        results = self._store.results(job_id) if record.order.has_own_output else {}
        return describe_job(record, now_s, results, self._limits.keep_s)

    def cancel(self, job_id: str, who: str) -> dict[str, Any]:
        """Tell a job to end and return it; what is scored stays, and the job can be resumed.

        Raises
        ------
        ConflictError
            It has ended already.
        """
        with self._lock:
            record, now_s = self._store.find(job_id), self._clock()
            state = record.state(now_s)
            if state in ENDED:
                raise ConflictError(f"job {job_id} has ended already: {state}")
            if record.ruling.cancelled_at_s is None:
                self._amend(job_id, cancelled_at_s=now_s, cancelled_by=who)
                logger.info("job %s: %s cancels it", job_id, who)
        return self.describe(job_id)

    def find_result(self, job_id: str, name: str) -> str:
        """Return the path of a file of a job's own output; raises NotFoundError."""
        return str(self._store.find_result(job_id, name))

    def tick(self) -> None:
        """Start what waits, stop what was told to and does not, keep pools, count, and let old records go."""
        with self._lock:
            records, now_s = self._store.all(), self._clock()
            self._tally.take(records, now_s)
            self._launch(records, now_s)
        for record in records:
            state = record.state(now_s)
            if state == "starting":
                with self._trouble.guard("cannot look at %s", record.order.id):
                    self._look(record, now_s)
            elif state == "running" and record.ruling.cancelled_at_s is not None:
                with self._trouble.guard("cannot stop %s", record.order.id):
                    self._stop(record, now_s)
            elif record.is_without_last_word(now_s):
                with self._trouble.guard("cannot count %s", record.order.id):
                    self._settle(record, now_s)
            ended_at_s = record.ended_at_s(now_s)
            if ended_at_s is not None and now_s - ended_at_s > self._limits.keep_s:
                with self._trouble.guard("cannot remove %s", record.order.id):
                    self._store.remove(record.order.id)
        with self._trouble.guard("cannot keep pools"):
            self._keep_pools(records, now_s)

    def _launch(self, records: Sequence[JobRecord], now_s: float) -> None:
        states = [record.state(now_s) for record in records]
        n_free = self._limits.n_slots - sum(state in ("starting", "running") for state in states)
        waiting = [record for record, state in zip(records, states, strict=True) if state == "queued"]
        for record in waiting[: max(0, n_free)]:
            with self._trouble.guard("cannot start %s", record.order.id):
                self._submit(record)

    def _submit(self, record: JobRecord) -> None:
        job_id, spec = record.order.id, record.order.spec
        mapping = self._store.save_mapping(job_id, spec.mapping) if spec.mapping else ""
        self._runner.submit(job_id, spec.to_arguments(mapping))
        self._amend(job_id, submitted_at_s=self._clock())

    def _look(self, record: JobRecord, now_s: float) -> None:
        """Find out whether a job that was submitted has ended before it could say anything."""
        job_id, ruling = record.order.id, record.ruling
        is_late = ruling.cancelled_at_s is not None and now_s - ruling.cancelled_at_s > STOP_S
        if record.order.origin != "http" or now_s - self._looked_s.get(job_id, now_s - LOOK_S) < LOOK_S:
            return
        self._looked_s[job_id] = now_s
        if is_late:
            self._runner.stop(job_id)
        why = self._runner.explain_end(job_id)
        if why is not None and self._store.find(job_id).beat is None:
            self._amend(job_id, ended_at_s=now_s, problem=why)

    def _stop(self, record: JobRecord, now_s: float) -> None:
        """End a driver that was told to end and goes on, or hangs."""
        job_id = record.order.id
        if now_s - (record.ruling.cancelled_at_s or now_s) > STOP_S and job_id not in self._stopped:
            self._runner.stop(job_id)
            self._stopped.add(job_id)

    def _settle(self, record: JobRecord, now_s: float) -> JobRecord:
        """Return a record with what is committed, where its driver did not say that at its end.

        It is kept once its workers, which may outlive their driver by some seconds, are gone too.
        """
        if record.beat is None or record.ruling.committed or not record.is_without_last_word(now_s):
            return record
        try:
            committed = self._count_committed(record.order.spec.output)
        except ScorecatError as exc:  # an object store that is away: what the driver said last is shown
            if self._trouble.is_new(exc, record.order.id):
                logger.warning("job %s: its output cannot be looked at: %s", record.order.id, exc)
            committed = None
        if committed is None:
            return record
        if now_s - record.beat.beat_at_s > SETTLED_S:
            self._amend(record.order.id, committed=committed)
        return dataclasses.replace(record, ruling=dataclasses.replace(record.ruling, committed=committed))

    def _keep_pools(self, records: Sequence[JobRecord], now_s: float) -> None:
        wanted = {wish.app: (wish, record) for record in records if (wish := record.holds_pool(now_s)) is not None}
        if not wanted and now_s - self._looked_s.get("", 0.0) < LOOK_S:
            return  # asking Serve takes 40 ms of CPU
        states = self._pools.states()
        for app, (wish, record) in wanted.items():
            if app not in states and not record.ruling.pool_problem:
                self._create_pool(wish, record)
        unwanted = [app for app, state in states.items() if app not in wanted and state.status != "deleting"]
        for app in unwanted:
            logger.info("removing %s: the job that held it is over", app)
            self._pools.delete(app)
        if not wanted and not unwanted:
            self._looked_s[""] = now_s
        else:
            self._looked_s.pop("", None)

    def _create_pool(self, wish: Any, record: JobRecord) -> None:
        try:
            self._pools.create(wish)
        except NotReadyError:
            raise  # the next round tries again
        except ScorecatError as exc:
            self._amend(record.order.id, pool_problem=str(exc))
            raise

    def _amend(self, job_id: str, **decided: Any) -> None:
        with self._lock:
            self._store.rule(job_id, dataclasses.replace(self._store.find(job_id).ruling, **decided))


def name_job(now_s: float) -> str:
    """Return an id for a new job; ids sort by time."""
    return f"job-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now_s))}-{secrets.token_hex(3)}"


def resolve_model(asked: str, served: str, resolve: Callable[[str, str], int], champion: str) -> str:
    """Return ``name@version`` of what is asked for; nothing is the champion of the served model."""
    name, _, chosen = (asked or served).partition("@")
    if not name:
        raise NotFoundError(f"{asked!r} names no model: write name, name@version or name@alias")
    return f"{name}@{resolve(name, chosen or champion)}"


def _estimate_wait_s(running: Sequence[JobRecord]) -> float:
    left = [record.beat.progress.left_s for record in running if record.beat and record.beat.progress]
    known = [seconds for seconds in left if seconds is not None]
    return min(max(min(known), 1.0), 3600.0) if known else RETRY_AFTER_S
