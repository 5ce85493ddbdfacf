"""How ``scorecat score`` tells the end of the job it followed: from its record, or where it has none from its log."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Any, Final

import typer

from batch.view import describe_resume, describe_summary, explain_summary, explain_units
from serve_app.jobs.adapters.record_folders import JobFolders
from serve_app.jobs.core.record import JobRecord
from serve_app.storage.file_listing import describe_left_out
from serve_app.terminal.console import err, out, print_json

LOG_CHARACTERS: Final = 3_000
_PREAMBLE: Final = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+\s+\w+ job_manager\.py.*\n?", re.MULTILINE)
"""What Ray writes before a driver speaks."""


@dataclass(frozen=True, slots=True)
class Followed:
    """A job that is followed.

    Attributes
    ----------
    id : str
    output : str
    go_on : str
        Command that resumes it.
    show_log : str
        Command that prints all that its driver printed.
    folders : JobFolders
        Where its record is.
    """

    id: str
    output: str
    go_on: str
    show_log: str
    folders: JobFolders

    def find_record(self) -> JobRecord | None:
        """Return the job's record; None when it cannot be read."""
        with contextlib.suppress(Exception):  # a picture of the job must not end it
            return self.folders.find(self.id)
        return None

    def describe_way_on(self) -> str:
        """Return what can be done with a job that ended early."""
        record = self.find_record()
        has_begun = record is None or (record.beat is not None and record.beat.version > 0)
        return describe_resume(self.go_on) if has_begun else "nothing was scored: run the same command again"


def finish(job: Followed, client: Any, *, as_json: bool) -> None:
    """Print what the job's record says of its end and leave with its exit code; `client` is Ray's."""
    record = job.find_record()
    beat = record.beat if record else None
    summary = (beat.summary if beat else None) or {}
    told = explain_units(summary)
    for line in told:
        err.print(line, markup=False)
    if (beat is None or beat.state == "running") and client.get_job_status(job.id) == "SUCCEEDED":
        err.print(_read_log(job, client), markup=False)
        err.print(f"job {job.id} is done, and its record could not be written: see {job.output}", markup=False)
        return
    if beat is None or beat.state not in ("succeeded", "incomplete"):
        _fail(job, record, client, as_json=as_json)
        return
    if as_json:
        print_json({**summary, "job_id": job.id, "output": job.output})
    else:
        out.print(describe_summary(summary, job.output), markup=False)
    for line in explain_summary(summary, job.go_on):
        if line not in told:
            err.print(line, markup=False, soft_wrap=True)
    if "://" in summary["input"] and (left_out := describe_left_out(summary.get("not_read", ()))):
        err.print(left_out, markup=False)  # of a place of this machine it was said before
    if not summary["is_complete"]:
        raise typer.Exit(1)


def _fail(job: Followed, record: JobRecord | None, client: Any, *, as_json: bool) -> None:
    beat = record.beat if record else None
    error = dict(beat.error or {}) if beat else {}
    if "exit_code" in error:  # raised on purpose: it says all
        more = job.describe_way_on() if beat and beat.version else ""
    else:
        error = explain_end(job, record)
        more = f"more: scorecat jobs show {job.id} · its log: {job.show_log}"
        if error["code"] == "not-started":
            err.print(_read_log(job, client), markup=False)
    if as_json:
        print_json({"error": error, "job_id": job.id})
    err.print(f"error: {error['detail']}", style="red", markup=False)
    if more:
        err.print(more, markup=False, soft_wrap=True)
    raise typer.Exit(error.get("exit_code", 1))


def _read_log(job: Followed, client: Any) -> str:
    return _PREAMBLE.sub("", client.get_job_logs(job.id))[-LOG_CHARACTERS:]


def explain_end(job: Followed, record: JobRecord | None) -> dict[str, Any]:
    """Return code and detail for a job that ended otherwise than by its own word."""
    beat = record.beat if record else None
    if record is not None and record.ruling.cancelled_by:
        code, what = "cancelled", f"was cancelled by {record.ruling.cancelled_by}"
    elif beat is None:
        return {"code": "not-started", "detail": f"the driver of job {job.id} ended before it began"}
    elif beat.state == "cancelled":
        code, what = "cancelled", "was told to end by a signal"
    elif beat.error is not None:
        code, what = str(beat.error["code"]), f"failed: {beat.error['detail']}"
    else:
        code, what = "died", "ended without a word: its driver died or was killed"
    return {"code": code, "detail": f"job {job.id} {what}; {job.describe_way_on()}"}
