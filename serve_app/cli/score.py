"""``scorecat score``: submit a batch job to the running cluster and follow it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from typing import Any, Final

import typer

from batch.options import (
    DEFAULT_LIMIT,
    DEFAULT_PATIENCE_S,
    ExplainOption,
    InputArgument,
    KeepOption,
    MappingOption,
    MaxRejectedOption,
    ModelOption,
    OutputArgument,
    PartitionOption,
    PatienceOption,
    Pool,
    PoolOption,
    PoolReplicasOption,
    ResumeOption,
    WorkersOption,
)
from batch.view import describe_resume, describe_summary, make_absolute, open_bar
from serve_app.adapters.job_folders import JobFolders
from serve_app.cli.console import JsonOption, err, out, print_json
from serve_app.cli.status import read_spec
from serve_app.core.errors import NotReadyError
from serve_app.deployments.local_cluster import ClusterSpec, cluster_environment
from serve_app.service.jobs import name_job
from serve_app.settings import PREFIX, Settings, load_settings

POLL_S: Final = 0.5
STOP_S: Final = 20.0
"""How long a job that was asked to stop may take to say how to go on."""


def score(
    input: InputArgument,  # noqa: A002 - the name people read in --help
    output: OutputArgument,
    model: ModelOption = None,
    mapping: MappingOption = None,
    keep: KeepOption = None,
    partition_by: PartitionOption = None,
    explain: ExplainOption = 0,
    max_rejected: MaxRejectedOption = DEFAULT_LIMIT,
    workers: WorkersOption = None,
    patience_s: PatienceOption = DEFAULT_PATIENCE_S,
    pool: PoolOption = Pool.SHARED,
    pool_replicas: PoolReplicasOption = None,
    resume: ResumeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score a large table with the running service's deployments, as a job that can be resumed."""
    settings = load_settings()
    spec = read_spec(settings)
    options: dict[str, Any] = {
        "--model": model,
        "--mapping": None if mapping is None else mapping.absolute(),
        "--keep": keep,
        "--partition-by": partition_by,
        "--explain": explain,
        "--max-rejected": max_rejected,
        "--workers": workers,
        "--patience-s": patience_s,
        "--pool": pool.value,
        "--pool-replicas": pool_replicas,
    }
    places = [make_absolute(input), make_absolute(output)]
    arguments = ["--json", *(["--resume"] if resume else [])]
    arguments += [f"{name}={value}" for name, value in options.items() if value is not None]
    client, job_id = _submit(spec, settings, [*arguments, "--", *places])
    try:
        _follow(client, job_id, JobFolders(settings.job_dir))
    except KeyboardInterrupt:
        _stop(client, job_id)
        err.print(f"stopped: {describe_resume(input, output)}", markup=False)
        raise typer.Exit(130) from None
    _finish(client, job_id, places[1], as_json)


def _submit(spec: ClusterSpec, settings: Settings, arguments: list[str]) -> tuple[Any, str]:
    os.environ.update(cluster_environment(spec))  # before Ray is imported: it reads them at import
    from ray.job_submission import JobSubmissionClient

    from serve_app.deployments.job_runner import AGENT_S, submit_driver

    # A job's variables are shown to everyone who can list jobs: keys of object stores are not among them. The
    # job inherits those that `scorecat up` was started with.
    variables = {k: v for k, v in os.environ.items() if k.startswith(PREFIX) or k == "PYTHONPATH"}
    variables |= {f"{PREFIX}HOME": str(settings.home)}
    if settings.registry is not None:
        variables[f"{PREFIX}REGISTRY"] = str(settings.registry_root)
    job_id = name_job(time.time())
    try:
        client = JobSubmissionClient(spec.job_address)
    except (ConnectionError, RuntimeError) as exc:
        raise NotReadyError(f"no job can be submitted to {spec.job_address}: see `scorecat status` ({exc})") from exc
    submit_driver(client, job_id, arguments, variables, AGENT_S)
    err.print(f"job {job_id}", markup=False)
    return client, job_id


def _follow(client: Any, job_id: str, folders: JobFolders) -> None:
    """Show the job's progress until it ends."""
    with open_bar(err) as (bar, task):
        while not client.get_job_status(job_id).is_terminal():
            if err.is_terminal and (done := _read_progress(folders, job_id)):
                bar.update(task, completed=done["share"], text=_describe(done), refresh=True)
            time.sleep(POLL_S)


def _read_progress(folders: JobFolders, job_id: str) -> dict[str, Any] | None:
    with contextlib.suppress(Exception):  # a picture of the job must not end it
        beat = folders.find(job_id).beat
        return dict(beat.progress) if beat and beat.progress else None
    return None


def _describe(fields: dict[str, Any]) -> str:
    from batch.transforms.progress import Progress as Done

    return str(Done(**{**fields, "share": 0.0})).replace(" · 0 %", "")


def _stop(client: Any, job_id: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    client.stop_job(job_id)
    deadline_s = time.monotonic() + STOP_S
    while not client.get_job_status(job_id).is_terminal() and time.monotonic() < deadline_s:
        time.sleep(POLL_S)


def _finish(client: Any, job_id: str, output: str, as_json: bool) -> None:
    """Print what the job said at its end and leave with its exit code."""
    log: str = client.get_job_logs(job_id)
    said = [line for line in log.splitlines() if line.startswith(("set aside", "missing", "unit ", "not complete"))]
    summary, error = _read_results(log)
    for line in dict.fromkeys(said):
        err.print(line, markup=False)
    if error is not None:
        if as_json:
            print_json({"error": error, "job_id": job_id})
        err.print(f"error: {error['detail']}", style="red", markup=False)
        raise typer.Exit(error.get("exit_code", 1))
    if summary is None:
        err.print(log[-3000:], markup=False)
        raise typer.Exit(1)
    if as_json:
        print_json({**summary, "job_id": job_id, "output": output})
    else:
        out.print(describe_summary(summary, output), markup=False)
    if not summary["is_complete"]:
        raise typer.Exit(1)


def _read_results(log: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the summary and the error that a job's log ends with."""
    summary = error = None
    for line in log.splitlines():
        with contextlib.suppress(ValueError):
            value = json.loads(line) if line.startswith("{") else None
            if isinstance(value, dict):
                summary = value if "rows_read" in value else summary
                error = value.get("error", error)
    return summary, error
