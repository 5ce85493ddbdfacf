"""``scorecat score``: submit a batch job to the running cluster and follow it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import signal
import time
from pathlib import Path
from typing import Any, Final

import typer

from batch.jobs.asked import Asked, RunOptions
from batch.options import (
    ExplainOption,
    InputArgument,
    KeepOption,
    MappingOption,
    MaxRejectedOption,
    ModelOption,
    OutputArgument,
    PartitionOption,
    PatienceOption,
    PoolOption,
    PoolReplicasOption,
    ResumeOption,
    WorkersOption,
    read_asked,
)
from batch.transforms.deployed import explain_absence
from batch.transforms.progress import Progress
from batch.view import make_absolute, name_program, open_bar
from serve_app.cli.jobs.score_checks import check_job
from serve_app.cli.jobs.score_end import Followed, finish
from serve_app.cluster.environment import cluster_environment
from serve_app.cluster.running import list_apps, read_spec
from serve_app.cluster.spec import ClusterSpec
from serve_app.errors import NotReadyError
from serve_app.jobs.adapters.record_folders import JobFolders
from serve_app.jobs.core.record import resume_command
from serve_app.jobs.service.control import name_job
from serve_app.settings import PREFIX, Settings, load_settings
from serve_app.terminal.console import JsonOption, err

POLL_S: Final = 0.5
LINE_S: Final = 10.0
"""Where no terminal is, progress is a line this often."""
STOP_S: Final = 20.0
"""How long a job that was asked to stop may take to say how to go on."""


def score(
    input: InputArgument,  # noqa: A002 - the name people read in --help
    output: OutputArgument,
    model: ModelOption = None,
    mapping: MappingOption = None,
    keep: KeepOption = None,
    partition_by: PartitionOption = None,
    explain: ExplainOption = None,
    max_rejected: MaxRejectedOption = None,
    workers: WorkersOption = None,
    patience_s: PatienceOption = None,
    pool: PoolOption = None,
    pool_replicas: PoolReplicasOption = None,
    resume: ResumeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score a large table with the running service's deployments, as a job that can be resumed."""
    settings = load_settings()
    spec = read_spec(settings)
    asked = read_asked(input, model, mapping, keep, partition_by, explain)
    run = RunOptions(max_rejected, workers, patience_s, pool, pool_replicas)
    name, version = check_job(settings, asked, output, run, resume=resume)
    if run.is_shared and not resume:
        _check_deployed(spec, name, version)
    places = [make_absolute(input), make_absolute(output)]
    asked = asked if resume else dataclasses.replace(asked, model=asked.model or name)
    arguments = _list_arguments(asked, run, mapping, keep, partition_by, resume=resume)
    client, job_id = _submit(spec, settings, [*arguments, "--", *places])
    show_log = shlex.join(["ray", "job", "logs", "--address", spec.job_address, job_id])
    job = Followed(
        job_id, places[1], resume_command(input, output, name_program()), show_log, JobFolders(settings.job_dir)
    )
    _await(client, job, as_json)


def _list_arguments(
    asked: Asked, run: RunOptions, mapping: Path | None, keep: str | None, partition_by: str | None, *, resume: bool
) -> list[str]:
    """Return what was said as arguments of ``python -m batch.score``; what was not said is left to that."""
    options: dict[str, Any] = {
        "--model": asked.model,
        "--mapping": None if mapping is None else mapping.absolute(),
        "--keep": keep,
        "--partition-by": partition_by,
        "--explain": asked.explain,
        **{f"--{name.replace('_', '-')}": value for name, value in dataclasses.asdict(run).items()},
    }
    said = [f"{name}={value}" for name, value in options.items() if value is not None]
    return ["--json", *(["--resume"] if resume else []), *said]


def _await(client: Any, job: Followed, as_json: bool) -> None:
    try:
        _follow(client, job)
    except KeyboardInterrupt:
        _stop(client, job.id)
        err.print(f"stopped: {job.describe_way_on()}", markup=False, soft_wrap=True)
        raise typer.Exit(130) from None
    finish(job, client.get_job_logs(job.id), as_json=as_json)


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
    """Show the job's progress until it ends: a bar on a terminal, a line now and then elsewhere."""
    said_s = time.monotonic()
    with open_bar(err) as (bar, task):
        while not client.get_job_status(job.id).is_terminal():
            is_due = err.is_terminal or time.monotonic() - said_s >= LINE_S
            if is_due and (done := _read_progress(job)) is not None:
                said_s = time.monotonic()
                bar.update(task, completed=done.share, text=done.describe(with_share=False), refresh=True)
                if not err.is_terminal:
                    err.print(str(done), markup=False)
            time.sleep(POLL_S)


def _read_progress(job: Followed) -> Progress | None:
    record = job.find_record()
    found = record.beat.progress if record and record.beat else None
    with contextlib.suppress(TypeError):  # of another release
        return None if found is None else Progress(**found)
    return None


def _stop(client: Any, job_id: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    client.stop_job(job_id)
    deadline_s = time.monotonic() + STOP_S
    while not client.get_job_status(job_id).is_terminal() and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
