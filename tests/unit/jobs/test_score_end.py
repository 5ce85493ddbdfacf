"""How `scorecat score` follows a job without a terminal, and what it says when the job ends early."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from batch.view import name_program
from serve_app.cli.jobs import score as command
from serve_app.cli.jobs.score_end import Followed, finish
from serve_app.jobs.adapters.record_folders import JobFolders
from serve_app.jobs.core.progress import Progress
from serve_app.jobs.core.record import JobBeat, JobOrder, JobRuling, resume_command
from serve_app.jobs.core.spec import JobSpec
from serve_app.terminal import console

pytestmark = pytest.mark.unit
GO_ON = "scorecat score in out --resume"
LOG = """2026-11-28 01:02:03,456 INFO job_manager.py:531 -- Runtime env is setting up.
/usr/bin/python -m batch.score --json -- in out
purchase v3: 5 of 5 units to score
Killed
"""
PROGRESS = Progress(2_441_792, 5_000_000, 0, 0.488, 170_000.0, 15.0)


@pytest.fixture
def job(tmp_path) -> Followed:
    folders = JobFolders(tmp_path / "jobs")
    folders.create(JobOrder("job-1", 0.0, "command", "bob", JobSpec("in", "out")))
    return Followed("job-1", "/out", GO_ON, "ray job logs job-1", folders)


def speak(job: Followed, **fields) -> None:
    beat = JobBeat("running", "elsewhere", os.getpid(), 1.0, 1.0, "purchase", 3, progress=PROGRESS)
    job.folders.write_beat(job.id, dataclasses.replace(beat, **fields))


def read_anew(job: Followed) -> Followed:
    """Return the job as a process of its own sees it: the record of one that ended is read once."""
    return dataclasses.replace(job, folders=JobFolders(job.folders.root))


def end(job: Followed, log: str, capsys, **options) -> tuple[int, str, str]:
    ray = SimpleNamespace(get_job_logs=lambda _: log, get_job_status=lambda _: "FAILED")
    with pytest.raises(typer.Exit) as caught:
        finish(read_anew(job), ray, **{"as_json": False, **options})
    said = capsys.readouterr()
    return caught.value.exit_code, said.out, said.err


def test_a_driver_that_was_killed_is_told_in_a_line_with_the_way_on(job, capsys):
    speak(job)
    code, _, said = end(job, LOG, capsys)
    assert code == 1
    way_on = f"what is scored stays; go on with: {GO_ON}"
    assert said.splitlines() == [
        f"error: job job-1 ended without a word: its driver died or was killed; {way_on}",
        "more: scorecat jobs show job-1 · its log: ray job logs job-1",
    ]
    _, said, _ = end(job, LOG, capsys, as_json=True)
    assert '"code": "died"' in said


def test_a_job_that_was_told_to_end_says_the_way_on(job, capsys):
    speak(job, state="cancelled")
    assert "was told to end by a signal; what is scored stays" in end(job, LOG, capsys)[2]


@pytest.mark.parametrize(
    ("version", "way_on"),
    [(3, f"what is scored stays; go on with: {GO_ON}"), (0, "nothing was scored: run the same command again")],
)
def test_a_job_that_somebody_cancelled_says_who(job, capsys, version, way_on):
    job.folders.rule(job.id, JobRuling(cancelled_at_s=2.0, cancelled_by="anna"))
    speak(job, state="cancelled", version=version)
    said = end(job, LOG, capsys)[2]
    assert said.startswith(f"error: job job-1 was cancelled by anna; {way_on}\n")
    assert "job_manager" not in said


def test_a_driver_that_never_spoke_shows_what_it_printed(job, capsys):
    said = end(job, LOG, capsys)[2]
    assert "Killed" in said
    assert "job_manager" not in said
    assert "the driver of job job-1 ended before it began" in said


def test_a_job_that_is_done_though_its_record_could_not_be_written_has_not_failed(job, capsys):
    ray = SimpleNamespace(get_job_logs=lambda _: LOG, get_job_status=lambda _: "SUCCEEDED")
    finish(job, ray, as_json=False)
    speak(job)
    finish(job, ray, as_json=False)
    assert capsys.readouterr().err.count("job job-1 is done, and its record could not be written: see /out") == 2


def test_a_failure_that_can_be_resumed_says_how(job, capsys):
    error = {"code": "invalid-data", "detail": "too many", "exit_code": 2}
    speak(job, state="failed", version=0, error=error)
    assert end(job, LOG, capsys)[::2] == (2, "error: too many\n")
    units = {"set_aside": [{"path": "a", "reason": "torn"}], "missing": [{"unit": 1, "path": "b", "reason": "lost"}]}
    speak(job, state="failed", error=error, summary=units)
    code, said, told = end(job, LOG, capsys, as_json=True)
    assert (code, json.loads(said)) == (2, {"error": error, "job_id": "job-1"})
    assert told.splitlines() == [
        "set aside: a: torn", "unit 1 (b) was given up: lost", "error: too many",
        f"what is scored stays; go on with: {GO_ON}",
    ]  # fmt: skip


def test_a_failure_that_nobody_foresaw_is_told_with_its_log(job, capsys):
    speak(job, state="failed", error={"code": "internal", "detail": "ZeroDivisionError: x"})
    code, _, said = end(job, LOG, capsys)
    assert (code, said.splitlines()) == (
        1,
        [
            f"error: job job-1 failed: ZeroDivisionError: x; what is scored stays; go on with: {GO_ON}",
            "more: scorecat jobs show job-1 · its log: ray job logs job-1",
        ],
    )


def test_without_a_terminal_progress_is_a_line_now_and_then(job, capsys, monkeypatch):
    speak(job)
    now_s = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now_s[0], sleep=lambda s: now_s.__setitem__(0, now_s[0] + s))
    for module in (command, console):
        monkeypatch.setattr(module, "time", clock)
    status = SimpleNamespace(is_terminal=lambda: now_s[0] > 25)
    command._follow(SimpleNamespace(get_job_status=lambda _: status), job)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "2,441,792 of 5,000,000 rows · 49 % · 170,000 rows/s · 15 s left · 0 rejected"
    ] * 2  # fmt: skip


@pytest.mark.parametrize(
    ("path", "home", "expected"),
    [
        ("", None, "{bin}/scorecat"),
        ("{bin}", None, "scorecat"),
        ("", "/a home", "SCORECAT_HOME='/a home' {bin}/scorecat"),
        ("/nowhere:{bin}", ".scorecat", "SCORECAT_HOME=.scorecat scorecat"),
    ],
)
def test_the_program_is_named_as_a_shell_finds_it_with_the_same_service(monkeypatch, path, home, expected):
    folder = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", path.format(bin=folder))
    monkeypatch.delenv("SCORECAT_HOME", raising=False)
    if home:
        monkeypatch.setenv("SCORECAT_HOME", home)
    for typed in (f"{folder}/scorecat", "/x/batch/score.py"):
        monkeypatch.setattr(sys, "argv", [typed])
        assert name_program() == expected.format(bin=folder)
    assert resume_command("in", "out", name_program()).endswith("scorecat score in out --resume")


def test_what_was_not_read_of_a_bucket_and_why_rows_were_rejected_is_told_at_the_end(job, capsys):
    summary = {
        "rows_read": 9, "rows_scored": 7, "rows_rejected": 2, "rows_this_run": 9, "seconds": 1.0, "is_complete": True,
        "rejected_by_reason": {"price: a value out of its range": 1, "a line that is no row": 1},
        "input": "s3://bucket/in", "not_read": ["notes.txt"],
    }  # fmt: skip
    succeed(job, summary)
    assert capsys.readouterr().err.splitlines() == [
        "rejected: price: a value out of its range (1) · a line that is no row (1)",
        "1 file or folder is not read: notes.txt",
    ]
    succeed(job, {**summary, "input": "/in", "rejected_by_reason": {}})
    assert capsys.readouterr().err == ""  # it was said before the job
    succeed(job, {**summary, "input": "/in", "members_not_read": ["late"], "rejected_by_reason": {}})
    assert capsys.readouterr().err == "members that the first lines of their files lack are not read: late\n"


def succeed(job: Followed, summary: dict) -> None:
    speak(job, state="succeeded", summary=summary)
    finish(read_anew(job), None, as_json=False)


def test_a_job_that_is_not_complete_names_what_is_missing_and_the_way_on(job, capsys):
    summary = {
        "rows_read": 9, "rows_scored": 9, "rows_rejected": 0, "rows_this_run": 9, "seconds": 1.0, "is_complete": False,
        "input": "in", "set_aside": [{"path": "a", "reason": "torn"}],
        "missing": [{"unit": 1, "path": "b", "reason": "lost"}, {"unit": 2, "path": "c", "reason": "not reached"}],
    }  # fmt: skip
    speak(job, state="incomplete", summary=summary)
    code, said, told = end(job, LOG, capsys)
    assert (code, said) == (1, "read 9 = scored 9 + rejected 0 · 1 s · /out\n")
    assert told.splitlines() == [
        "set aside: a: torn", "unit 1 (b) was given up: lost", "missing: unit 1 of b: lost",
        "missing: unit 2 of c: not reached", f"not complete; mend the input or wait, then: {GO_ON}",
    ]  # fmt: skip


def test_the_command_that_goes_on_can_be_pasted():
    assert resume_command("in", "s3://bucket/out") == "scorecat score in s3://bucket/out --resume"
    words = shlex.split(resume_command("my rows/in's.csv", "-out"))
    assert words == ["scorecat", "score", "my rows/in's.csv", "./-out", "--resume"]
