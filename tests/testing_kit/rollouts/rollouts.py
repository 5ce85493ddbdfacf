"""Rollouts without a cluster: fakes of the ports, a clock moved by hand, Gateways that count made-up traffic."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.notices.ports import Outbox
from serve_app.notices.sql_outbox import SqlOutbox
from serve_app.rollouts.adapters.sql_store import SqlRolloutStore
from serve_app.rollouts.core.plan import Metric, Plan
from serve_app.rollouts.service.control import RolloutControl
from serve_app.rollouts.service.ports import Report, StartRollout, VersionApps
from serve_app.rollouts.service.split import begin_split
from serve_app.scoring.adapters.split_file import SplitFile
from serve_app.scoring.core.counters import ArmCounters
from serve_app.scoring.core.shadow import ShadowCounters
from serve_app.scoring.core.split import N_GROUPS, Split, parse_split
from serve_app.scoring.service.ports import AppState
from serve_app.storage.sql_engine import build_engine

QUICK_PLAN = Plan(
    steps=(10.0, 50.0, 100.0),
    interval_s=5.0,
    initial_delay_s=0.0,
    deploy_timeout_s=60.0,
    bake_time_s=10.0,
    rollback_window_s=100.0,
    webhook="https://hooks.example/rollouts",
    metrics=(Metric("errors", alpha=0.03, limit=0.1, interval_s=2.0),),
)

SLOW_PLAN = dataclasses.replace(QUICK_PLAN, interval_s=1000.0)
HOLDING_PLAN = dataclasses.replace(QUICK_PLAN, bake_time_s=1000.0)


@dataclass
class FakeClock:
    """Seconds since the epoch, moved by hand; somebody may set it by `set_by_s`, and time goes on as before."""

    now_s: float = 1_800_000_000.0
    set_by_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s + self.set_by_s

    def steady(self) -> float:
        return self.now_s


@dataclass
class FakeApps(VersionApps):
    """Apps that run one look after they were created.

    `stuck` versions stay starting; `refusals` and `troubles` are raised by `create` and `prove`.
    """

    by_version: dict[int, AppState] = field(default_factory=dict)
    model: str = "purchase"
    stuck: set[int] = field(default_factory=set)
    refusals: dict[int, Exception] = field(default_factory=dict)
    troubles: dict[int, Exception] = field(default_factory=dict)
    created: list[int] = field(default_factory=list)
    deleted: list[int] = field(default_factory=list)
    proved: list[int] = field(default_factory=list)

    def states(self) -> dict[tuple[str, int], AppState]:
        seen = {(self.model, version): state for version, state in self.by_version.items()}
        for version, state in list(self.by_version.items()):
            if state.status == "starting" and version not in self.stuck:
                self.by_version[version] = AppState("running")
            if state.status == "deleting":
                del self.by_version[version]
        return seen

    def create(self, model: str, version: int) -> None:
        self.created.append(version)
        if version in self.refusals:
            raise self.refusals[version]
        if version not in self.by_version or self.by_version[version].status == "failed":
            self.by_version[version] = AppState("starting")

    def delete(self, model: str, version: int) -> None:
        self.deleted.append(version)
        self.by_version[version] = AppState("deleting")

    def prove(self, model: str, version: int) -> None:
        self.proved.append(version)
        if version in self.troubles:
            raise self.troubles[version]


@dataclass
class IdleNotifier:
    """Counts how often it was woken, and shows what waits for webhooks."""

    outbox: Outbox
    n_wakes: int = 0

    @property
    def events(self) -> list[Mapping[str, Any]]:
        return [{"url": notice.url, **notice.event} for notice in self.outbox.waiting()]

    def wake(self) -> None:
        self.n_wakes += 1


def count_requests(n: int, n_errors: int = 0, *, seed: int = 0, score: float = 0.05) -> ArmCounters:
    """Return counters of n requests of as many users, the first `n_errors` of them failed."""
    rng, counters = np.random.default_rng(seed), ArmCounters()
    groups, latencies = rng.permutation(n) % N_GROUPS, 0.02 * rng.lognormal(0, 0.5, n)
    for k in range(n):
        if k < n_errors:
            counters.count_error("user-hash", int(groups[k]))
        else:
            counters.count_answer("user-hash", int(groups[k]), float(latencies[k]), score)
    return counters


class RolloutWorld:
    """A served model with its rollouts on one machine; seconds pass when `run` says so.

    Attributes
    ----------
    error_shares : dict of int to float
        Share of requests that a version fails.
    shadow : ShadowCounters or None
        What a Gateway counts of a shadow every second.
    """

    def __init__(self, folder: Path, package_dir: Path, n_versions: int = 3) -> None:
        self.path = folder / "state" / "rollouts.db"
        engine = build_engine(self.path)
        self.store, self.outbox = SqlRolloutStore(engine), SqlOutbox(engine)
        self.sink = SplitFile(folder / "state" / "split.json")
        self.registry = DirectoryRegistry(folder / "registry", by="test")
        for _ in range(n_versions):
            self.registry.publish("purchase", package_dir)
        self.registry.move_alias("purchase", "champion", 1)
        self.apps, self.notifier, self.clock = (
            FakeApps({1: AppState("running")}),
            IdleNotifier(self.outbox),
            FakeClock(),
        )
        self.error_shares: dict[int, float] = {}
        self.shadow: ShadowCounters | None = None
        self._owed: dict[int, float] = {}
        begin_split(self.store, self.sink, "purchase", 1, pins=False)
        self.control = self.restart()

    def restart(self, **options: Any) -> RolloutControl:
        """Replace the control by a new one on the same store, as after a crash."""
        self.control = RolloutControl(
            self.store,
            self.sink,
            self.registry,
            self.apps,
            self.notifier.wake,
            **{"model": "purchase", "clock": self.clock, "steady": self.clock.steady, **options},
        )
        return self.control

    def start(self, version: str = "2", plan: Plan | None = QUICK_PLAN, **asked: Any) -> dict[str, Any]:
        return self.control.start(StartRollout(version=version, plan=plan, **asked), "Ada", "")

    @property
    def split(self) -> Split:
        """What Gateways see."""
        record = SplitFile(self.sink._path).read()
        assert record is not None
        return parse_split(record)

    def report(self, rate: int = 200) -> None:
        """Report one second of traffic, dealt by the split that Gateways see."""
        split = self.split
        arms = {}
        for version, share in split.shares.items() if rate else ():
            n = round(rate * share)
            self._owed[version] = self._owed.get(version, 0.0) + n * self.error_shares.get(version, 0.0)
            n_errors = min(n, int(self._owed[version]))
            self._owed[version] -= n_errors
            arms[version] = count_requests(n, n_errors, seed=int(self.clock.now_s) % 1000 + version)
        self.control.report(Report("gateway-1", split.revision, arms, self.shadow if split.shadow else None))

    def run(self, seconds: float, rate: int = 200) -> None:
        """Let seconds pass: a round, a report and two ticks in each."""
        for _ in range(round(seconds)):
            self.control.reconcile()
            self.control.tick()
            self.clock.now_s += 0.5
            self.report(rate)
            self.control.tick()
            self.clock.now_s += 0.5

    def run_until(self, rollout_id: int, phase: str, limit_s: int = 200, rate: int = 200) -> dict[str, Any]:
        """Let seconds pass until a rollout is in a phase, and return it."""
        for _ in range(limit_s):
            described = self.control.describe(rollout_id)
            if described["phase"] == phase:
                return described
            self.run(1, rate)
        raise AssertionError(f"after {limit_s} s the rollout is {described['phase']}: {described['why']}")

    def bring(self, phase: str) -> None:
        """Start rollout 1 and bring it into a phase that is not its failure."""
        plans = {"promoting": HOLDING_PLAN, "succeeded": QUICK_PLAN}
        self.start(plan=plans.get(phase, SLOW_PLAN))
        if phase == "deploying":
            return
        self.run_until(1, "progressing")
        if phase == "paused":
            self.control.command(1, "pause", "Ada", "")
        elif phase == "rolled_back":
            self.control.command(1, "abort", "Ada", "")
        elif phase in plans:
            self.run_until(1, phase)
            self.run(1)

    def phases(self, rollout_id: int) -> list[str]:
        """Return the phases of a rollout's history, without repetition."""
        told = [change["to"] for change in self.control.history(rollout_id)]
        return [phase for k, phase in enumerate(told) if k == 0 or phase != told[k - 1]]
