"""``scorecat score``: submit a batch job to the running cluster and follow it."""

from __future__ import annotations

import dataclasses
import os
import shlex
import signal
import time
from pathlib import Path
from typing import Any, Final

import typer

from batch.jobs.prepare import plan_job
from batch.options import takes_spec
from batch.transforms.summary import RejectLimit
from batch.view import explain_absence, open_progress
from serve_app.cli.jobs.score_end import Followed, finish
from serve_app.cluster.environment import cluster_environment
from serve_app.cluster.running import list_apps, read_spec
from serve_app.cluster.spec import ClusterSpec
from serve_app.errors import NotReadyError
from serve_app.jobs.adapters.output_folder import OutputFolder
from serve_app.jobs.adapters.record_folders import JobFolders
from serve_app.jobs.core.spec import JobSpec
from serve_app.jobs.service.control import name_job
from serve_app.models.service.registry import CHAMPION
from serve_app.settings import PREFIX, Settings, load_settings
from serve_app.storage.file_listing import describe_left_out
from serve_app.terminal.console import err
from serve_app.wiring import find_default, open_settings_registry

POLL_S: Final = 0.5
STOP_S: Final = 20.0
"""How long a job that was asked to stop may take to say how to go on."""


@takes_spec
def score(spec: JobSpec, mapping: Path | None, go_on: str, as_json: bool) -> None:
    """Score a large table with the running service's deployments, as a job that can be resumed."""
    settings = load_settings()
    cluster = read_spec(settings)
    model, version = check_job(settings, spec)
    if spec.is_shared and not spec.resume:
        _check_deployed(cluster, model, version)
    asked = spec if spec.resume else dataclasses.replace(spec, model=spec.model or model)
    client, job_id = _submit(cluster, settings, asked.to_arguments(str(mapping.absolute()) if mapping else ""))
    show_log = shlex.join(["ray", "job", "logs", "--address", cluster.job_address, job_id])
    _await(client, Followed(job_id, spec.output, go_on, show_log, JobFolders(settings.job_dir)), as_json)


def check_job(settings: Settings, spec: JobSpec) -> tuple[str, int]:
    """Return the model and version that will score: mistakes are said at once, and no job is made of them.

    Raises
    ------
    BadRequestError, ConflictError, NotFoundError
        As the job itself would end; see `batch.jobs.prepare`.

    Notes
    -----
    Only places of this machine are looked at: the cluster may have keys of an object store that are not here.
    """
    if spec.max_rejected is not None:
        RejectLimit.parse(spec.max_rejected)
    registry = open_settings_registry(settings)
    model = spec.model or find_default(settings, registry)
    if any("://" in place for place in ([spec.output] if spec.resume else [spec.input, spec.output])):
        name, _, chosen = model.partition("@")
        return name, registry.resolve(name, chosen or CHAMPION)
    plan, _ = plan_job(spec, model, OutputFolder(spec.output), registry)
    if plan.not_read and not spec.resume:
        err.print(describe_left_out(plan.not_read), markup=False)
    return plan.model, plan.version


def _await(client: Any, job: Followed, as_json: bool) -> None:
    try:
        _follow(client, job)
    except KeyboardInterrupt:
        _stop(client, job.id)
        err.print(f"stopped: {job.describe_way_on()}", markup=False, soft_wrap=True)
        raise typer.Exit(130) from None
    finish(job, client, as_json=as_json)


def _check_deployed(spec: ClusterSpec, model: str, version: int) -> None:
    """Raise NotReadyError when the cluster says that the version's application is not there; the job asks again."""
    apps = list_apps(spec)
    if apps and (reason := explain_absence(model, version, apps)):
        raise NotReadyError(reason, 60.0)


def _submit(spec: ClusterSpec, settings: Settings, arguments: list[str]) -> tuple[Any, str]:
    os.environ.update(cluster_environment(spec))  # before Ray is imported: it reads them at import
    from serve_app.deployments.apps.job_runner import (  # noqa: PLC0415 - imports Ray, which reads its environment then
        AGENT_S,
        open_submissions,
        submit_driver,
    )

    # A job's variables are shown to everyone who can list jobs: keys of object stores are not among them. The
    # job inherits those that `scorecat up` was started with.
    variables = {k: v for k, v in os.environ.items() if k.startswith(PREFIX) or k == "PYTHONPATH"}
    variables |= {f"{PREFIX}HOME": str(settings.home)}
    if settings.registry is not None:
        variables[f"{PREFIX}REGISTRY"] = str(settings.registry_root)
    job_id = name_job(time.time())
    client = open_submissions(spec.job_address)
    submit_driver(client, job_id, arguments, variables, AGENT_S)
    err.print(f"job {job_id}", markup=False)
    return client, job_id


def _follow(client: Any, job: Followed) -> None:
    """Show the job's progress until it ends."""
    with open_progress() as show:
        while not client.get_job_status(job.id).is_terminal():
            record = job.find_record()
            if record is not None and record.beat is not None and record.beat.progress is not None:
                show(record.beat.progress)
            time.sleep(POLL_S)


def _stop(client: Any, job_id: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    client.stop_job(job_id)
    deadline_s = time.monotonic() + STOP_S
    while not client.get_job_status(job_id).is_terminal() and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
