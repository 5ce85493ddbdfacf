"""``scorecat score``: submit a batch job to the running cluster and follow it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import sys
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
    ResumeOption,
    WorkersOption,
)
from batch.view import describe_resume, describe_summary, make_absolute, open_bar
from serve_app.cli.console import JsonOption, err, out, print_json
from serve_app.core.errors import NotReadyError
from serve_app.deployments.local_cluster import ClusterSpec, cluster_environment, load_spec
from serve_app.settings import PREFIX, Settings, load_settings

POLL_S: Final = 0.5
AGENT_S: Final = 60.0
"""How long Ray's agent, which starts jobs, may take to be there: it starts later than the service answers."""
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
    resume: ResumeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score a large table with the running service's deployments, as a job that can be resumed."""
    settings = load_settings()
    spec = load_spec(settings.home)
    if spec is None:
        raise NotReadyError(f"nothing runs from {settings.home}: start it with `scorecat up`")
    options: dict[str, Any] = {
        "--model": model,
        "--mapping": None if mapping is None else mapping.absolute(),
        "--keep": keep,
        "--partition-by": partition_by,
        "--explain": explain,
        "--max-rejected": max_rejected,
        "--workers": workers,
        "--patience-s": patience_s,
    }
    places = [make_absolute(input), make_absolute(output)]
    command = [sys.executable, "-m", "batch.score", *places, "--json", *(["--resume"] if resume else [])]
    command += [f"{name}={value}" for name, value in options.items() if value is not None]
    client, job_id = _submit(spec, settings, command, input, output)
    try:
        _follow(client, job_id, places[1])
    except KeyboardInterrupt:
        _stop(client, job_id)
        err.print(f"stopped: {describe_resume(input, output)}", markup=False)
        raise typer.Exit(130) from None
    _finish(client, job_id, places[1], as_json)


def _submit(spec: ClusterSpec, settings: Settings, command: list[str], source: str, output: str) -> tuple[Any, str]:
    os.environ.update(cluster_environment(spec))  # before Ray is imported: it reads them at import
    from ray.job_submission import JobSubmissionClient

    # A job's variables are shown to everyone who can list jobs: keys of object stores are not among them. The
    # job inherits those that `scorecat up` was started with.
    variables = {k: v for k, v in os.environ.items() if k.startswith(PREFIX) or k == "PYTHONPATH"}
    variables |= {f"{PREFIX}HOME": str(settings.home), "PYTHONWARNINGS": "ignore"}
    if settings.registry is not None:
        variables[f"{PREFIX}REGISTRY"] = str(settings.registry_root)
    give_up_at = time.monotonic() + AGENT_S
    while True:
        try:
            client = JobSubmissionClient(spec.job_address)
            job_id: str = client.submit_job(
                entrypoint=shlex.join(command),
                runtime_env={"env_vars": variables},
                metadata={"scorecat": "score", "input": source, "output": output},
            )
            break
        except (ConnectionError, RuntimeError) as exc:
            if "No available agent" not in str(exc) or time.monotonic() > give_up_at:
                raise NotReadyError(
                    f"no job can be submitted to {spec.job_address}: see `scorecat status` ({exc})"
                ) from exc
            time.sleep(POLL_S)
    err.print(f"job {job_id}", markup=False)
    return client, job_id


def _follow(client: Any, job_id: str, output: str) -> None:
    """Show the job's progress until it ends."""
    with open_bar(err) as (bar, task):
        while not client.get_job_status(job_id).is_terminal():
            if err.is_terminal and (done := _read_progress(output)):
                bar.update(task, completed=done.pop("share"), text=_describe(done), refresh=True)
            time.sleep(POLL_S)


def _read_progress(output: str) -> dict[str, Any] | None:
    from batch.storage.folder import PROGRESS, OutputFolder

    with contextlib.suppress(Exception):  # a picture of the job must not end it
        found: dict[str, Any] | None = OutputFolder(output).read_json(PROGRESS)
        return found
    return None


def _describe(fields: dict[str, Any]) -> str:
    from batch.transforms.progress import Progress as Done

    return str(Done(share=0.0, **fields)).replace(" · 0 %", "")


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
