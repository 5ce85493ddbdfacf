"""The control app: one replica that owns the rollouts and the batch jobs of the whole cluster."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ray.serve import Application

from serve_app.cluster.ray_internals import bind_to_node_address
from serve_app.deployments.apps.job_runner import RayJobRunner
from serve_app.deployments.apps.pool_apps import ServePoolApps
from serve_app.deployments.apps.version_apps import ServeVersionApps
from serve_app.deployments.meters import RayJobMeter
from serve_app.deployments.tenants import Tenant, list_methods
from serve_app.errors import InvariantError
from serve_app.jobs.adapters.output_folder import count_committed
from serve_app.jobs.adapters.places import AllowedPlaces
from serve_app.jobs.adapters.record_folders import JobFolders
from serve_app.jobs.service.control import JobControl, JobLimits, resolve_model
from serve_app.models.adapters.registry_open import open_registry
from serve_app.models.service.registry import CHAMPION, Registry
from serve_app.notices.sql_outbox import SqlOutbox
from serve_app.notices.webhook import Webhooks
from serve_app.rollouts.adapters.sql_store import SqlRolloutStore
from serve_app.rollouts.service.control import RolloutControl
from serve_app.runtime.json_logs import log_json_lines
from serve_app.runtime.rounds import Rounds
from serve_app.scoring.adapters.split_file import SplitFile
from serve_app.settings import Settings
from serve_app.storage.disk_reserve import DiskReserve
from serve_app.storage.sql_engine import build_engine

TICK_S: Final = 0.5
RECONCILE_S: Final = 1.0
JOBS_S: Final = 1.0
TICK_LIMIT_S: Final = 60.0
RECONCILE_LIMIT_S: Final = 300.0
"""A round that takes longer hangs. Reconciling may fetch a package from a bucket."""


class ControlApp:
    """The deployment; its methods are sync, so Serve runs them in threads.

    Parameters
    ----------
    settings : Settings
        Their model scores jobs that name none.
    served : str
        Model whose rollouts these are.
    job_roots : tuple of str
        Where jobs asked for over HTTP may read and write.
    build : callable
        Returns the application of a model version for the directory of its package.
    build_pool : callable
        Returns that of a batch job's own copy, for a directory and the most replicas.
    """

    def __init__(
        self,
        settings: Settings,
        served: str,
        job_roots: tuple[str, ...],
        build: Callable[[Path], Application],
        build_pool: Callable[[Path, int], Application],
    ) -> None:
        bind_to_node_address()
        log_json_lines(settings.log_dir / f"controller-{os.getpid()}.jsonl")
        mover = settings.user or f"controller@{socket.gethostname()}"
        registry = open_registry(settings.registry_root, cache=settings.package_cache, by=mover)
        reserve, engine = DiskReserve(settings.database.with_suffix(".reserve")), build_engine(settings.database)
        webhooks = Webhooks(SqlOutbox(engine))
        rollouts = RolloutControl(
            SqlRolloutStore(engine, reserve),
            SplitFile(settings.split_path, reserve),
            registry,
            ServeVersionApps(registry, build),
            webhooks.wake,
            model=served,
            pins=settings.pins,
        )
        webhooks.wake()  # a process that died may have left something to tell
        jobs = _create_jobs(settings, job_roots, registry, ServePoolApps(registry, build_pool))
        self._tenants: Mapping[Tenant, Any] = {"rollouts": rollouts, "jobs": jobs}
        self._rounds = [
            Rounds("tick", rollouts.tick, TICK_S, TICK_LIMIT_S),
            Rounds("reconcile", rollouts.reconcile, RECONCILE_S, RECONCILE_LIMIT_S),
            Rounds("jobs", jobs.tick, JOBS_S, RECONCILE_LIMIT_S),
        ]
        for rounds in self._rounds:
            rounds.start()

    def check_health(self) -> None:
        """Raise InvariantError when a thread has died or hangs; Serve then replaces this replica."""
        for rounds in self._rounds:
            rounds.check()

    def ping(self) -> None:
        """Return."""

    def call(self, tenant: Tenant, method: str, /, *arguments: Any, **named: Any) -> Any:
        """Call a method of a tenant's protocol, the only ones that can be called, see `Rollouts` and `Jobs`."""
        if method not in list_methods(tenant):
            raise InvariantError(f"{tenant} have no method {method} that can be called")
        return getattr(self._tenants[tenant], method)(*arguments, **named)


def _create_jobs(
    settings: Settings, job_roots: tuple[str, ...], registry: Registry, pools: ServePoolApps
) -> JobControl:
    return JobControl(
        JobFolders(settings.job_dir),
        RayJobRunner(settings.home),
        pools,
        AllowedPlaces(job_roots).check,
        lambda asked: resolve_model(asked, settings.model, registry.resolve, CHAMPION),
        RayJobMeter(),
        JobLimits(settings.job_slots, settings.job_queue, settings.job_keep_hours * 3600),
        count_committed,
    )
