"""The control app: one replica that owns the rollouts, around `serve_app.rollouts.service.control.RolloutControl`."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ray.serve import Application

from serve_app.cluster.bind_node import bind_to_node_address
from serve_app.deployments.apps.job_runner import RayJobRunner
from serve_app.deployments.apps.pool_apps import ServePoolApps
from serve_app.deployments.apps.version_apps import ServeVersionApps
from serve_app.deployments.meters import RayJobMeter
from serve_app.errors import InvariantError
from serve_app.jobs.adapters.committed import count_committed
from serve_app.jobs.adapters.places import AllowedPlaces
from serve_app.jobs.adapters.record_folders import JobFolders
from serve_app.jobs.service.control import JobControl, JobLimits, resolve_model
from serve_app.jobs.service.ports import JobAsked
from serve_app.models.adapters.registry_open import open_registry
from serve_app.models.service.ports import CHAMPION, Registry
from serve_app.notices.sql_outbox import SqlOutbox
from serve_app.notices.webhook import Webhooks
from serve_app.rollouts.adapters.sql_store import SqlRolloutStore
from serve_app.rollouts.service.control import RolloutControl
from serve_app.rollouts.service.ports import Command, Report, StartRollout
from serve_app.runtime.json_logs import log_json_lines
from serve_app.scoring.adapters.split_file import SplitFile
from serve_app.storage.disk_reserve import DiskReserve
from serve_app.storage.sql_engine import build_engine

TICK_S: Final = 0.5
RECONCILE_S: Final = 1.0
JOBS_S: Final = 1.0
TICK_LIMIT_S: Final = 60.0
RECONCILE_LIMIT_S: Final = 300.0
"""A round that takes longer hangs. Reconciling may fetch a package from a bucket."""

logger = logging.getLogger("scorecat.controller")


@dataclass(frozen=True, slots=True)
class ControllerConfig:
    """What the controller is started with; the composition root fills it from the settings.

    Attributes
    ----------
    served : str
        Model whose rollouts these are.
    home, registry_root, package_cache, database, split_path, log_dir, job_dir : str
        State folder, package registry, folder that versions of a remote one are fetched to, file of the
        rollout database, split record, folder of the logs, folder of the records of batch jobs.
    model : str
        Model whose champion scores jobs that name none.
    job_roots : tuple of str
        Where jobs asked for over HTTP may read and write.
    job_limits : JobLimits
    user : str or None
        Who moves aliases, for their history.
    pins : bool
        Whether requests may name their version.
    """

    served: str
    home: str
    registry_root: str
    package_cache: str
    database: str
    split_path: str
    log_dir: str
    job_dir: str
    model: str
    job_roots: tuple[str, ...]
    job_limits: JobLimits
    user: str | None = None
    pins: bool = False


class RolloutController:
    """The deployment; its methods are sync, so Serve runs them in threads.

    Parameters
    ----------
    config : ControllerConfig
    build : callable
        Returns the application of a model version for the directory of its package.
    build_pool : callable
        Returns that of a batch job's own copy, for a directory and the most replicas.
    """

    def __init__(
        self,
        config: ControllerConfig,
        build: Callable[[Path], Application],
        build_pool: Callable[[Path, int], Application],
    ) -> None:
        bind_to_node_address()
        log_json_lines(Path(config.log_dir) / f"controller-{os.getpid()}.jsonl")
        mover = config.user or f"controller@{socket.gethostname()}"
        registry = open_registry(config.registry_root, cache=Path(config.package_cache), by=mover)
        database = Path(config.database)
        reserve, engine = DiskReserve(database.with_suffix(".reserve")), build_engine(database)
        webhooks = Webhooks(SqlOutbox(engine))
        self._control = RolloutControl(
            SqlRolloutStore(engine, reserve),
            SplitFile(Path(config.split_path), reserve),
            registry,
            ServeVersionApps(registry, build),
            webhooks,
            model=config.served,
            pins=config.pins,
        )
        webhooks.wake()  # a process that died may have left something to tell
        self._jobs = _create_jobs(config, registry, ServePoolApps(registry, build_pool))
        self._rounds = [
            Rounds("tick", self._control.tick, TICK_S, TICK_LIMIT_S),
            Rounds("reconcile", self._control.reconcile, RECONCILE_S, RECONCILE_LIMIT_S),
            Rounds("jobs", self._jobs.tick, JOBS_S, RECONCILE_LIMIT_S),
        ]
        for rounds in self._rounds:
            rounds.start()

    def check_health(self) -> None:
        """Raise InvariantError when a thread has died or hangs; Serve then replaces this replica."""
        for rounds in self._rounds:
            rounds.check()

    def ping(self) -> None:
        """Return."""

    def start(self, asked: StartRollout, who: str, why: str) -> dict[str, Any]:
        """See `Rollouts.start`."""
        return self._control.start(asked, who, why)

    def command(self, rollout_id: int, command: Command, who: str, why: str) -> dict[str, Any]:
        """See `Rollouts.command`."""
        return self._control.command(rollout_id, command, who, why)

    def describe(self, rollout_id: int) -> dict[str, Any]:
        """See `Rollouts.describe`."""
        return self._control.describe(rollout_id)

    def recent(self, model: str, limit: int) -> list[dict[str, Any]]:
        """See `Rollouts.recent`."""
        return self._control.recent(model, limit)

    def history(self, rollout_id: int) -> list[dict[str, Any]]:
        """See `Rollouts.history`."""
        return self._control.history(rollout_id)

    def report(self, report: Report) -> None:
        """See `Rollouts.report`."""
        self._control.report(report)

    def start_job(self, asked: JobAsked) -> dict[str, Any]:
        """See `Jobs.start`."""
        return self._jobs.start(asked)

    def recent_jobs(self, limit: int) -> list[dict[str, Any]]:
        """See `Jobs.recent`."""
        return self._jobs.recent(limit)

    def describe_job(self, job_id: str) -> dict[str, Any]:
        """See `Jobs.describe`."""
        return self._jobs.describe(job_id)

    def cancel_job(self, job_id: str, who: str) -> dict[str, Any]:
        """See `Jobs.cancel`."""
        return self._jobs.cancel(job_id, who)

    def find_job_result(self, job_id: str, name: str) -> str:
        """See `Jobs.find_result`."""
        return self._jobs.find_result(job_id, name)


def _create_jobs(config: ControllerConfig, registry: Registry, pools: ServePoolApps) -> JobControl:
    return JobControl(
        JobFolders(Path(config.job_dir)),
        RayJobRunner(Path(config.home)),
        pools,
        AllowedPlaces(config.job_roots).check,
        lambda asked: resolve_model(asked, config.model, registry.resolve, CHAMPION),
        RayJobMeter(),
        config.job_limits,
        count_committed,
    )


class Rounds(threading.Thread):
    """Calls a function again and again; what it raises is logged, once for each text, and the next round comes.

    Parameters
    ----------
    name : str
    function : callable
    pause_s : float
        Between two rounds.
    limit_s : float
        A round that takes longer hangs.
    clock, wait : callable
        Seconds that only grow; waits so many seconds and returns whether to end.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[], None],
        pause_s: float,
        limit_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._function = function
        self._pause_s = pause_s
        self._limit_s = limit_s
        self._clock = clock
        self._wait = wait or threading.Event().wait
        self._began_at = clock()
        self._failure = ""

    def run(self) -> None:
        """Go on until the process ends."""
        is_over = False
        while not is_over:
            self._began_at = self._clock()
            try:
                self._function()
                self._failure = ""
            except Exception as exc:
                if str(exc) != self._failure:
                    logger.exception("a round of %s failed; the next one comes", self.name)
                self._failure = str(exc)
            is_over = self._wait(self._pause_s)

    def check(self) -> None:
        """Raise InvariantError when the thread has died or hangs."""
        if not self.is_alive():
            raise InvariantError(f"the thread of {self.name} has died")
        lasts_s = self._clock() - self._began_at - self._pause_s
        if lasts_s > self._limit_s:
            raise InvariantError(f"a round of {self.name} hangs for {lasts_s:.0f} s")
