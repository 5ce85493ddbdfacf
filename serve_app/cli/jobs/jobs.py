"""``scorecat jobs``: see batch jobs, whoever started them, and end one, through the running service."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from batch.view import PROGRAM, name_program
from serve_app.cli.options import UrlOption
from serve_app.client.operator import JobsClient
from serve_app.cluster.running import read_url
from serve_app.errors import BadRequestError, InvariantError
from serve_app.jobs.core.record import ENDED, JOB_ID
from serve_app.models.service.registry import name_mover
from serve_app.settings import load_settings
from serve_app.terminal.console import JsonOption, choose_style, out, print_aligned, print_json, print_result

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of the job, as `scorecat jobs list` shows it.")]
POLL_S: Final = 0.5
END_S: Final = 40.0
"""A job that was told to end has 20 s to do so before it is ended."""


def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many, newest first.")] = 20,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first: those of `scorecat score`, of `ray job submit`, and those asked for over HTTP.

    Rows and progress of a job that ended early are those committed.
    """
    with connect(url) as client:
        found = client.recent(limit)
    if as_json:
        print_json({"jobs": found})
        return
    if not found:
        out.print("there is no job; `scorecat score INPUT OUTPUT` starts one")
        return
    rows = [("id", "state", "model", "began", "rows", "progress", "input")]
    for job in found:
        began = (job["started_at"] or job["created_at"]).replace("T", " ").removesuffix("+00:00")
        read = f"{job['progress']['rows_read']:,}" if job["progress"] else ""
        rows.append((job["id"], _name_state(job), _name_model(job), began, read, _say_progress(job), job["input"]))
    print_aligned(rows, "", state=1, n_below=3)


def show(job_id: IdArgument, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Show a job: state, progress, how it ended, the command that goes on with it, and where its results are."""
    with connect(url) as client:
        found = client.describe(_check(job_id))
    print_result(found, print_job, as_json=as_json)


def cancel(
    job_id: IdArgument,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when it has ended.")] = True,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a job; what is scored stays, and `scorecat score INPUT OUTPUT --resume` goes on as it was begun."""
    with connect(url) as client:
        found = client.cancel(_check(job_id), load_settings().user or name_mover())
        give_up_at = time.monotonic() + END_S
        while wait and found["state"] not in ENDED:
            if time.monotonic() > give_up_at:
                raise InvariantError(f"job {job_id} was told to end and still is {found['state']} after {END_S:g} s")
            time.sleep(POLL_S)
            found = client.describe(job_id)
    print_result(found, print_job, as_json=as_json)


def connect(url: str | None) -> JobsClient:
    """Return a client of the service at `url`, or of the one that `up` started; a context."""
    return JobsClient(url or read_url(load_settings()))


def print_job(job: Mapping[str, Any]) -> None:
    """Print a job."""
    out.print(Text(f"{job['id']}: ").append(_name_state(job), choose_style(job["state"])))
    lines: list[tuple[str, Any]] = [
        ("model", _name_model(job)),
        ("asked", f"{job['created_at']} by {job['who']} ({job['origin']})"),
        ("began", job["started_at"]),
        ("ended", job["ended_at"]),
        ("input", job["input"]),
        ("output", job["output"]),
        ("pool", job["pool"]),
        ("progress", _describe_progress(job)),
        ("told to end by", job["cancelled_by"]),
        ("error", (job["error"] or {}).get("detail")),
        ("go on with", _name_way_on(job.get("resume_command"))),
        ("kept until", job["expires_at"]),
    ]
    for name, value in lines:
        if value:
            out.print(f"  {name:15}{value}", markup=False, soft_wrap=True)  # commands and paths, to be pasted
    for one in job["results"]:
        out.print(f"  result         {one['href']} ({one['bytes']:,} bytes)", markup=False)


def _name_way_on(command: str | None) -> str | None:
    """Return a command of the service's as a shell of this machine calls it."""
    is_plain = command is not None and command.startswith(f"{PROGRAM} ")
    return f"{name_program()} {command.removeprefix(f'{PROGRAM} ')}" if command and is_plain else command


def _check(job_id: str) -> str:
    if not JOB_ID.fullmatch(job_id):
        raise BadRequestError(f"{job_id!r} is no id of a job: `scorecat jobs list` shows them")
    return job_id


def _name_state(job: Mapping[str, Any]) -> str:
    return f"{job['state']}, ending" if job["is_cancelling"] and job["state"] not in ENDED else str(job["state"])


def _name_model(job: Mapping[str, Any]) -> str:
    return f"{job['model']} v{job['version']}" if job["version"] else str(job["model"] or "")


def _say_progress(job: Mapping[str, Any]) -> str:
    progress = job["progress"]
    if not progress:
        return ""
    if job["state"] != "running":
        return f"{progress['percent']:g} %"
    left = "" if progress["left_s"] is None else f", {progress['left_s']:.0f} s left"
    return f"{progress['percent']:g} %, {progress['rows_per_s']:,.0f} rows/s{left}"


def _describe_progress(job: Mapping[str, Any]) -> str:
    progress = job["progress"]
    if not progress:
        return ""
    total = "" if progress["rows_total"] is None else f" of {progress['rows_total']:,}"
    return (
        f"read {progress['rows_read']:,}{total} = scored {progress['rows_scored']:,} + rejected "
        f"{progress['rows_rejected']:,} · {_say_progress(job)}"
    )
