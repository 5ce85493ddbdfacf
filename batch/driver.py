"""What a job's driver does with Ray; imported when Ray's environment is set, see `batch.score.connected`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from batch.jobs.asked import DEFAULT_PATIENCE_S, RunOptions
from batch.jobs.pool import await_pool, plan_pool
from batch.jobs.prepare import JobPlan
from batch.jobs.run import SPARE_CPUS, Job, check_can_begin
from batch.record import DriverRecord
from batch.transforms.summary import RejectLimit
from serve_app.deployments.calls.handles import version_app
from serve_app.jobs.adapters.output_folder import OutputFolder
from serve_app.jobs.core.commits import UnitTally
from serve_app.models.core.manifest import Manifest
from serve_app.terminal.console import err

__all__ = ["build_job", "check_can_begin", "choose_app"]


def choose_app(
    plan: JobPlan, record: DriverRecord, options: RunOptions, say: Callable[[str], None]
) -> tuple[str, float | None]:
    """Return the application that scores, and the CPUs to leave for its growth; None for the usual."""
    if options.is_shared:
        return version_app(plan.model, plan.version), None
    wish, spare_cpus = plan_pool(record.job_id, plan.model, plan.version, options.pool_replicas, say)
    record.want_pool(wish)
    err.print(f"starting {wish.app}, up to {wish.replicas} replicas of each deployment")
    await_pool(wish.app, record.pool_problem)
    return wish.app, spare_cpus


def build_job(
    plan: JobPlan, tally: UnitTally, manifest: Manifest, folder: OutputFolder, limit: RejectLimit, options: RunOptions,
    show: Any, app: str, spare_cpus: float | None,
) -> Job:  # fmt: skip
    """Return the job, ready to be run."""
    spare = SPARE_CPUS if spare_cpus is None else spare_cpus
    patience_s = options.patience_s or DEFAULT_PATIENCE_S
    return Job(plan, tally, manifest, folder, app, limit, options.workers, patience_s, show, err.print, spare)
