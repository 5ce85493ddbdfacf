"""The application that scores a job: the version's, or a copy that the control app makes for it and takes away."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import ray
from ray import serve
from ray.serve.schema import ApplicationStatus, ReplicaState

from batch.jobs.prepare import WORKER_CPUS, JobPlan
from batch.record import DriverRecord
from batch.view import explain_absence
from serve_app.deployments.apps.apps import START_TIMEOUT_S, describe_app
from serve_app.deployments.calls.handles import parse_version_app, pool_app, version_app
from serve_app.deployments.options import DeploymentOptions, pool_options
from serve_app.errors import BadRequestError, InvariantError, NotReadyError
from serve_app.jobs.core.record import PoolWish
from serve_app.jobs.core.spec import JobSpec

POLL_S: Final = 0.25
MOST_CALLS: Final = 4
"""Calls that a worker has under way at most."""
_ABSENT: Final = ("DELETING", "DEPLOY_FAILED", "NOT_STARTED")
REPLICA_CPUS: Final = sum(options.num_cpus for options in pool_options(1).values())
"""CPUs Ray reserves for one replica of each deployment."""


def choose_app(
    plan: JobPlan, spec: JobSpec, record: DriverRecord, say: Callable[[str], None]
) -> tuple[str, float | None]:
    """Return the application that scores, and the CPUs that it may still come to need; None for the usual.

    Raises
    ------
    BadRequestError
        There is no room for one replica of each deployment of a pool, and a worker.
    InvariantError, NotReadyError
        The pool does not run, see `await_pool`.
    """
    if spec.is_shared:
        return version_app(plan.model, plan.version), None
    resources = ray.available_resources()
    n_default = max(1, min(8, int(ray.cluster_resources().get("CPU", 1))))
    replicas, message = fit_replicas(spec.pool_replicas, resources.get("CPU", 0.0), n_default)
    if message:
        say(message)
    app = pool_app(plan.model, plan.version, record.job_id)
    record.want_pool(PoolWish(app, plan.model, plan.version, replicas))
    say(f"starting {app}, up to {replicas} replicas of each deployment")
    await_pool(app, record.pool_problem)
    return app, (replicas - 1) * REPLICA_CPUS


def fit_replicas(asked: int | None, n_free: float, n_default: int) -> tuple[int, str]:
    """Return how many replicas of each deployment fit beside a worker, and a message when fewer than asked.

    Raises
    ------
    BadRequestError
        Not one fits: asking for it anyway would wait for ever.
    """
    n_wanted = asked or n_default
    n_fit = int((n_free - WORKER_CPUS) / REPLICA_CPUS + 1e-9)
    if n_fit < 1:
        raise BadRequestError(
            f"no room for a pool: {n_free:g} CPUs are free, {REPLICA_CPUS + WORKER_CPUS:g} are needed for it and a "
            "worker. Use --pool shared, wait for other jobs, or start the service with more CPUs (SCORECAT_NUM_CPUS)"
        )
    if n_fit >= n_wanted:
        return n_wanted, ""
    return n_fit, f"a pool of up to {n_fit} replicas in place of {n_wanted}: {n_free:g} CPUs are free"


def await_pool(app: str, read_problem: Callable[[], str], timeout_s: float = START_TIMEOUT_S) -> None:
    """Return when the pool runs.

    Raises
    ------
    InvariantError
        It cannot be made, or does not start; quotes the cluster.
    NotReadyError
        It is not there in time.
    """
    give_up_at = time.monotonic() + timeout_s
    while time.monotonic() < give_up_at:
        found = serve.status().applications.get(app)
        if found is not None and found.status is ApplicationStatus.RUNNING:
            return
        if found is not None and found.status is ApplicationStatus.DEPLOY_FAILED:
            raise InvariantError(f"the pool {app} does not start: {describe_app(found)}")
        if problem := read_problem():
            raise InvariantError(f"the pool {app} cannot be made: {problem}")
        time.sleep(POLL_S)
    raise NotReadyError(
        f"the pool {app} did not run within {timeout_s:g} s: see `scorecat status`, or use --pool shared", 60.0
    )


def check_deployed(app: str) -> None:
    """Raise NotReadyError unless the application is there and able to answer, or coming back."""
    there = _list_apps()
    if app not in there:
        named = ", ".join(sorted(name for name in there if "-v" in name)) or "none"
        raise NotReadyError(
            f"the version's application {app} is not deployed (deployed: {named}). What is scored stays; "
            "continue with --resume once it is back, or with --resume --pool dedicated, which brings its own",
            60.0,
        )


def check_can_begin(model: str, version: int) -> None:
    """Raise NotReadyError unless a new job can be scored by the version's own application."""
    if reason := explain_absence(model, version, _list_apps()):
        raise NotReadyError(reason, 60.0)


def _list_apps() -> list[str]:
    applications = serve.status().applications
    return [name for name, app in applications.items() if app.status not in _ABSENT]


def count_calls(app: str, n_workers: int) -> int:
    """Return how many calls each worker may have under way; a pool of the job's own may grow, a version's not."""
    if parse_version_app(app) is None:
        return MOST_CALLS
    states = serve.status().applications[app].deployments["CatBoostModel"].replica_states
    return share_calls(states.get(ReplicaState.RUNNING, 0), n_workers)


def share_calls(n_replicas: int, n_workers: int) -> int:
    """Return how many calls each worker may have under way at the replicas of a version.

    Together no more than these replicas are meant to have. That keeps them busy, and Serve starts none beside them:
    one costs some 5 s of CPU and 200 MB, for a job that the machine's cores limit anyway.
    """
    n_calls = int(n_replicas * DeploymentOptions().target_ongoing_requests)
    return max(1, min(MOST_CALLS, n_calls // n_workers))
