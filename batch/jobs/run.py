"""Drive a job: Ray Data hands the units to workers, results come back as they are done."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import psutil
import pyarrow.parquet as pq
import ray
import ray.data
from ray.exceptions import RayError

from batch.jobs.apps import check_deployed, count_calls
from batch.jobs.prepare import WORKER_CPUS, JobPlan, describe, with_workers
from batch.jobs.progress_actor import ProgressActor
from batch.jobs.worker import NICENESS, ScoreWorker
from batch.record import DriverRecord, StoppedError
from batch.transforms.summary import RejectLimit, write_time
from serve_app.errors import InvalidDataError, InvariantError, NotReadyError, ScorecatError
from serve_app.jobs.adapters.output_folder import COMMIT, SUMMARY, OutputFolder
from serve_app.jobs.core.commits import SetAside, UnitTally
from serve_app.jobs.core.progress import Progress, RateMeter
from serve_app.jobs.core.record import JobRows
from serve_app.jobs.core.spec import DEFAULT_PATIENCE_S, JobSpec
from serve_app.models.core.manifest import Manifest
from serve_app.storage.locations import open_location

CPUS_OF_WORKER: Final = 2
"""CPUs that one worker keeps busy: reading and writing is a third of the work, the rest is the replicas'."""
SPARE_CPUS: Final = 0.4
"""Left for replicas that the load of the job may call for."""
START_TIMEOUT_S: Final = 90.0
"""A first worker is there by then (it takes 3-6 s), or the cluster has no room for one."""
GONE_S: Final = 10.0
"""Workers end within some tenths of a second of their driver's leaving."""
POLL_S: Final = 0.5
CHECK_S: Final = 5.0
"""How often the driver looks whether the version is still deployed."""
MAX_FAILED: Final = 3
"""Units given up in a row before the job ends: replicas that are gone do not come back for the next either."""


@dataclass
class Job:
    """One run of a planned job.

    Attributes
    ----------
    plan : JobPlan
    tally : UnitTally
        What is done already.
    manifest : Manifest
    output : OutputFolder
    app : str
        Serve application that scores.
    limit : RejectLimit
    spec : JobSpec
        How many workers, and how patient they are.
    record : DriverRecord
        Takes progress, and what came of the job.
    show, say : callable
        Take progress, and messages for people.
    spare_cpus : float or None
        Left for replicas that the load of the job may call for; None for `SPARE_CPUS`.
    """

    plan: JobPlan
    tally: UnitTally
    manifest: Manifest
    output: OutputFolder
    app: str
    limit: RejectLimit
    spec: JobSpec
    record: DriverRecord
    show: Callable[[Progress], None]
    say: Callable[[str], None]
    spare_cpus: float | None = None
    _live: dict[int, JobRows] = field(default_factory=dict)
    _n_failed: int = 0
    _span: list[float] = field(default_factory=list)
    _workers: list[tuple[str, int]] = field(default_factory=list)
    _began_at_s: float = field(default_factory=time.time)
    _before: JobRows = field(init=False)

    def __post_init__(self) -> None:
        self._before = self.tally.counts

    def run(self) -> dict[str, Any]:
        """Score what is left and return the summary, which is written too, however the job ends.

        Raises
        ------
        InvalidDataError
            More rows were rejected than allowed.
        NotReadyError
            No room for a worker, or the version is gone.
        InvariantError
            Parts and records do not agree.
        """
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
        try:
            check_deployed(self.app)
            if self.tally.open_units:
                self._score_unless_gone()
            self._check_limit(is_end=True)
        except (Exception, StoppedError):
            with contextlib.suppress(Exception):  # what ended the job is told, whatever comes of looking at its end
                self.stop()
                self.record.note_summary(self.finish())
            raise
        return self.record.note_summary(self.finish())

    def stop(self) -> None:
        """End the workers: what they have not committed by now they never will."""
        ray.shutdown()
        here = socket.gethostname()
        left: list[psutil.Process] = []
        for host, pid in self._workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                left += [psutil.Process(pid)] if host == here else []
        psutil.wait_procs(left, timeout=GONE_S)

    def finish(self) -> dict[str, Any]:
        """Check the counts against the parts, write ``_SUMMARY.json`` and return it."""
        # some were under way when the job was stopped, or done and not heard of
        self.tally.add(self.output.commits([unit.number for unit in self.tally.open_units]))
        summary = describe(self.plan, self.tally)
        summary["rows_this_run"] = self.tally.counts.read - self._before.read
        if summary["is_complete"]:
            check_parts(self.output, self.tally)
        summary["began_at"], summary["ended_at"] = write_time(self._began_at_s), write_time(time.time())
        if self._span:  # what is before is start-up: Ray Data's, and the workers'
            summary["scored_from"], summary["scored_until"] = map(write_time, self._span)
        self.output.write_json(SUMMARY, summary)
        return summary

    def _score_unless_gone(self) -> None:
        """Score what is left; that the version is gone is said in place of what came of it.

        Workers whose replicas were removed fail in as many ways as there are moments to remove them: calls time out,
        handles and shared arrays are not there, units are given up. All of them mean that, and end alike.
        """
        try:
            self._score_open_units()
        except InvalidDataError:
            raise
        except Exception:
            with contextlib.suppress(RayError):
                check_deployed(self.app)
            raise
        if self.tally.failed:
            check_deployed(self.app)

    def _score_open_units(self) -> None:
        spare_cpus = SPARE_CPUS if self.spare_cpus is None else self.spare_cpus
        n_free = ray.available_resources().get("CPU", 0.0)
        n_free -= max(0.0, min(spare_cpus, n_free - WORKER_CPUS))  # the only worker goes before a replica more
        n_default = min(8, int(ray.cluster_resources().get("CPU", 1)) // CPUS_OF_WORKER)
        n_workers, message = with_workers(self.spec.workers, max(n_free, 0.0), WORKER_CPUS, max(1, n_default))
        if message:
            self.say(message)
        units = self.tally.open_units
        progress_actor = ray.remote(num_cpus=0)(ProgressActor).remote()
        outcomes: queue.Queue[dict[str, Any] | BaseException | None] = queue.Queue()
        n_workers = min(n_workers, len(units))
        arguments = (
            self.app, dataclasses.replace(self.plan, units=[]), self.manifest.dump(), self.output.location,
            self.spec.patience_s or DEFAULT_PATIENCE_S, count_calls(self.app, n_workers), progress_actor,
        )  # fmt: skip
        threading.Thread(target=_stream, args=(units, arguments, n_workers, outcomes), daemon=True).start()
        self._follow(progress_actor, outcomes)

    def _follow(self, progress_actor: Any, outcomes: queue.Queue[Any]) -> None:
        started_s = checked_s = time.monotonic()
        looked_s = 0.0
        meter = RateMeter(self.tally.rows_planned)
        while True:
            try:
                outcome = outcomes.get(timeout=POLL_S)
            except queue.Empty:
                outcome = {}
            if outcome is None:
                return
            if isinstance(outcome, BaseException):
                raise InvariantError(f"Ray Data gave up: {outcome}") from outcome
            if outcome:
                self._take(outcome)
            now_s = time.monotonic()
            if now_s - looked_s < POLL_S and outcome:
                continue  # units of a few rows end faster than all of them can be counted
            looked_s = now_s
            with contextlib.suppress(RayError):  # a look that is not answered tells nothing; the next may be
                self._workers, self._live = ray.get(progress_actor.read.remote())
                if now_s - checked_s > CHECK_S:
                    check_deployed(self.app)
                    checked_s = now_s
            if not self._workers and now_s - started_s > START_TIMEOUT_S:
                raise NotReadyError(
                    f"no worker started within {START_TIMEOUT_S:g} s: the cluster has no room for one", 60.0
                )
            self._check_limit(is_end=False)
            self._report(meter, now_s)

    def _take(self, outcome: dict[str, Any]) -> None:
        unit, state = outcome["unit"], outcome["state"]
        if state == "done":
            self._n_failed = 0
            times = [*self._span, *outcome["span"]]
            self._span = [min(times), max(times)]
            self.tally.add(COMMIT.validate_python(c) for c in outcome["commits"])
            return
        self.tally.add(self.output.commits([unit]))  # chunks before the trouble are in the output
        path, reason = self.tally.units[unit].path, outcome["reason"]
        if state == "set_aside":
            self.tally.set_aside[unit] = SetAside(unit, path, reason, self.tally.units[unit].n_rows)
            self.say(f"set aside: {path}: {reason}")
            return
        self.tally.failed[unit] = reason
        self._n_failed += 1
        self.say(f"unit {unit} ({path}) was given up: {reason}")
        if state == "fatal":
            raise InvalidDataError(reason)
        if self._n_failed >= MAX_FAILED:
            raise NotReadyError(f"{self._n_failed} units in a row were given up; the last one: {reason}", 60.0)

    def _counts(self) -> JobRows:
        """Rows done, those of units under way included."""
        total = JobRows()
        for unit in self.tally.units:
            known = sum((c.counts for c in self.tally.commits.get(unit.number, [])), JobRows())
            live = self._live.get(unit.number, JobRows())
            total += live if live.read > known.read and not self.tally.is_done(unit.number) else known
        return total

    def _check_limit(self, *, is_end: bool) -> None:
        counts = self._counts()
        if self.limit.is_broken(counts, is_end=is_end):
            raise InvalidDataError(
                f"{counts.rejected:,} of {counts.read:,} rows were rejected, more than --max-rejected allows "
                f"({self.limit}); see _rejected in {self.output.location}"
            )

    def _report(self, meter: RateMeter, now_s: float) -> None:
        counts = self._counts()
        done = meter.measure(now_s, counts.read, counts.rejected, self.tally.share)
        self.record.show(done)
        self.show(done)


def check_parts(output: OutputFolder, tally: UnitTally) -> None:
    """Raise InvariantError unless every part that a record names is there and holds its rows."""
    system, root = open_location(output.location)
    for commits in tally.commits.values():
        for commit in commits:
            for part in [*commit.files, *([commit.rejected_file] if commit.rejected_file else [])]:
                try:
                    n_rows = pq.read_metadata(f"{root}/{part.path}", filesystem=system).num_rows
                except (OSError, ValueError) as exc:
                    raise InvariantError(f"{part.path} is recorded and cannot be read: {exc}") from exc
                if n_rows != part.rows:
                    raise InvariantError(f"{part.path} holds {n_rows} rows, {part.rows} are recorded")


def _stream(units: list[Any], arguments: tuple[Any, ...], n_workers: int, outcomes: queue.Queue[Any]) -> None:
    """Run Ray Data and put what becomes of each unit into `outcomes`, then None, or the error."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors come back as outcomes
    rows = [{"unit": orjson.dumps(unit).decode()} for unit in units]
    try:
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            ScoreWorker,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=n_workers, max_tasks_in_flight_per_actor=2),
            num_cpus=WORKER_CPUS,
            fn_constructor_args=arguments,
        )
        for row in dataset.iter_rows():
            outcomes.put(orjson.loads(row["outcome"]))
        outcomes.put(None)
    except (RayError, ScorecatError, RuntimeError, ValueError, OSError) as exc:
        outcomes.put(exc)
