"""How ``scorecat score`` tells the end of the job it followed: from what its driver printed, and from its record."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from typing import Any, Final

import typer

from batch.view import describe_rejected, describe_resume, describe_summary
from serve_app.jobs.adapters.record_folders import JobFolders
from serve_app.jobs.core.record import JobRecord
from serve_app.storage.file_listing import describe_left_out
from serve_app.terminal.console import err, out, print_json

LOG_CHARACTERS: Final = 3_000
_TOLD: Final = ("set aside", "missing", "unit ", "not complete")
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


def finish(job: Followed, log: str, *, as_json: bool) -> None:
    """Print what the job said at its end and leave with its exit code."""
    summary, error = read_results(log)
    for line in dict.fromkeys(line for line in log.splitlines() if line.startswith(_TOLD)):
        err.print(line, markup=False)
    if summary is None or error is not None:
        _fail(job, error, log, as_json=as_json)
        return
    if as_json:
        print_json({**summary, "job_id": job.id, "output": job.output})
    else:
        out.print(describe_summary(summary, job.output), markup=False)
    if rejected := describe_rejected(summary):
        err.print(rejected, markup=False)
    if members := summary.get("members_not_read"):
        err.print(f"members that the first lines of their files lack are not read: {', '.join(members)}", markup=False)
    if "://" in summary["input"] and (left_out := describe_left_out(summary.get("not_read", ()))):
        err.print(left_out, markup=False)  # of a place of this machine it was said before
    if not summary["is_complete"]:
        raise typer.Exit(1)


def _fail(job: Followed, error: dict[str, Any] | None, log: str, *, as_json: bool) -> None:
    more = ""
    if error is None:
        error = explain_end(job)
        more = f"more: scorecat jobs show {job.id} · its log: {job.show_log}"
        if error["code"] == "not-started":
            err.print(_PREAMBLE.sub("", log)[-LOG_CHARACTERS:], markup=False)
    elif describe_resume("") in log:
        more = job.describe_way_on()
    if as_json:
        print_json({"error": error, "job_id": job.id})
    err.print(f"error: {error['detail']}", style="red", markup=False)
    if more:
        err.print(more, markup=False, soft_wrap=True)
    raise typer.Exit(error.get("exit_code", 1))


def explain_end(job: Followed) -> dict[str, Any]:
    """Return code and detail for a job whose driver printed neither a summary nor an error."""
    record = job.find_record()
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


def read_results(log: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the summary and the error that a job's log ends with."""
    summary = error = None
    for line in log.splitlines():
        with contextlib.suppress(ValueError):
            value = json.loads(line) if line.startswith("{") else None
            if isinstance(value, dict):
                summary = value if "rows_read" in value else summary
                error = value.get("error", error)
    return summary, error
