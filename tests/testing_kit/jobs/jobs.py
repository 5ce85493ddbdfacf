"""Batch jobs without a cluster: a control on real records, drivers that a test plays, a clock moved by hand."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve_app.errors import NotFoundError
from serve_app.jobs.adapters.output_folder import count_committed
from serve_app.jobs.adapters.places import AllowedPlaces
from serve_app.jobs.adapters.record_folders import JobFolders
from serve_app.jobs.core.record import JobBeat, PoolWish
from serve_app.jobs.core.spec import JobSpec
from serve_app.jobs.service.control import JobControl, JobLimits, resolve_model
from serve_app.jobs.service.ports import JobMeter, JobRunner, PoolApps
from serve_app.scoring.service.ports import AppState
from tests.testing_kit.rollouts.rollouts import FakeClock


@dataclass
class FakeRunner(JobRunner):
    """Keeps what was submitted; `ends` says which processes are over, `trouble` is raised by all calls."""

    submitted: dict[str, list[str]] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    ends: dict[str, str] = field(default_factory=dict)
    trouble: Exception | None = None

    def submit(self, job_id: str, arguments: Sequence[str]) -> None:
        if self.trouble:
            raise self.trouble
        self.submitted[job_id] = list(arguments)

    def stop(self, job_id: str) -> None:
        self.stopped.append(job_id)

    def explain_end(self, job_id: str) -> str | None:
        return self.ends.get(job_id)


@dataclass
class FakePools(PoolApps):
    """Applications that are there as soon as they are made."""

    apps: dict[str, AppState] = field(default_factory=dict)
    refusal: Exception | None = None
    n_looks: int = 0

    def states(self) -> dict[str, AppState]:
        self.n_looks += 1
        return dict(self.apps)

    def create(self, wish: PoolWish) -> None:
        if self.refusal:
            raise self.refusal
        self.apps[wish.app] = AppState("running")

    def delete(self, app: str) -> None:
        del self.apps[app]


@dataclass
class MemoryJobMeter(JobMeter):
    """Adds up what it is told."""

    rows: dict[tuple[str, int, str], int] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    jobs: dict[str, int] = field(default_factory=dict)

    def count_rows(self, model: str, version: int, kind: str, n: int) -> None:
        self.rows[model, version, kind] = self.rows.get((model, version, kind), 0) + n

    def count_ended(self, kind: str) -> None:
        self.ended.append(kind)

    def set_jobs(self, kind: str, n: int) -> None:
        self.jobs[kind] = n


class JobWorld:
    """A home whose folder ``data`` may be used over HTTP and holds ``rows.csv``; version 3 is the champion."""

    def __init__(self, home: Path, **limits: Any) -> None:
        self.home, self.data = home, home / "data"
        self.data.mkdir(parents=True)
        (self.data / "rows.csv").write_text("a\n1\n")
        self.folders, self.clock = JobFolders(home / "jobs"), FakeClock()
        self.runner, self.pools, self.meter = FakeRunner(), FakePools(), MemoryJobMeter()
        self.limits = JobLimits(**limits)
        self.control = self.restart()

    def restart(self) -> JobControl:
        """Replace the control by a new one on the same records, as after a crash."""
        self.meter = MemoryJobMeter()
        places = AllowedPlaces([str(self.data), "s3://bucket/in"])
        self.control = JobControl(
            JobFolders(self.home / "jobs"), self.runner, self.pools, places.check,
            lambda asked: resolve_model(asked, "purchase", self.resolve, "champion"),
            self.meter, self.limits, count_committed, clock=self.clock,
        )  # fmt: skip
        return self.control

    def resolve(self, name: str, wanted: str) -> int:
        if name != "purchase" or wanted not in ("champion", "3"):
            raise NotFoundError(f"there is no {name}@{wanted}")
        return 3

    def ask(self, **members: Any) -> str:
        self.clock.now_s += 0.001
        return str(self.control.start(JobSpec("rows.csv", **members), "anna")["id"])

    def state(self, job_id: str) -> str:
        return str(self.control.describe(job_id)["state"])

    def beat(self, job_id: str, **fields: Any) -> None:
        """Let a driver, which is this process, speak."""
        before = self.folders.find(job_id).beat
        now_s = self.clock()
        before = before or JobBeat("running", socket.gethostname(), os.getpid(), now_s, now_s, "purchase", 3)
        self.folders.write_beat(job_id, dataclasses.replace(before, beat_at_s=now_s, **fields))

    def run(self, job_id: str) -> None:
        """Let a queued job begin."""
        self.control.tick()
        assert job_id in self.runner.submitted
        self.beat(job_id)

    def pass_time(self, seconds: float, *speaking: str) -> None:
        """Let time pass, a round each second; the named drivers go on speaking."""
        for _ in range(round(seconds)):
            self.clock.now_s += 1
            for job_id in speaking:
                self.beat(job_id)
            self.control.tick()
