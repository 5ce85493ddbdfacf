"""A driver's side of its record, and how drivers and pools are asked for."""

from __future__ import annotations

import json
import os
import signal
import time
from types import SimpleNamespace

import pytest
import typer
from ray.job_submission import JobStatus

from batch import record as module
from batch.jobs.apps import REPLICA_CPUS, fit_replicas
from batch.record import IN_JOB, StoppedError, find_submission_id, recorded
from batch.view import describe_summary
from serve_app.cluster.spec import plan_cluster, save_spec
from serve_app.deployments.apps.job_runner import RayJobRunner
from serve_app.errors import BadRequestError, InvalidDataError, NotReadyError
from serve_app.jobs.adapters.record_folders import JobFolders
from serve_app.jobs.core.progress import Progress
from serve_app.jobs.core.record import JobOrder, JobRows, JobRuling, PoolWish
from serve_app.jobs.core.spec import JobSpec

pytestmark = pytest.mark.unit
ORDER = JobOrder("raysubmit_1", 0.0, "command", "bob", JobSpec("/in", "/out"))
SUMMARY = {
    "rows_read": 9, "rows_scored": 7, "rows_rejected": 2, "rows_planned": 9, "is_complete": True, "share": 1.0,
    "rows_this_run": 7, "scored_from": "2026-11-30T00:00:59.000+00:00", "scored_until": "2026-11-30T00:01:01.000+00:00",
}  # fmt: skip


@pytest.fixture
def folders(tmp_path) -> JobFolders:
    return JobFolders(tmp_path / "jobs")


def test_a_driver_knows_whether_its_job_was_asked_for_over_http(folders):
    folders.create(JobOrder("job-1", 0.0, "http", "bob", JobSpec("/in", "/out")))
    with recorded(folders, JobOrder("job-1", 0.0, "command", "bob", JobSpec("/in", "/out")), print) as record:
        assert record.is_from_http
    with recorded(folders, ORDER, print) as record:
        assert not record.is_from_http


def test_a_driver_says_what_it_does_and_how_it_ended(folders):
    with recorded(folders, ORDER, print) as record:
        record.note_version("purchase", 3, JobRows(2, 2, 0))
        record.show(Progress(5, 9, 1, 0.5, 10.0, 3.0))
        record.want_pool(PoolWish("purchase-v3-job-x", "purchase", 3, 2))
        beat = folders.find("raysubmit_1").beat
        assert (beat.state, beat.pid, beat.model, beat.version) == ("running", os.getpid(), "purchase", 3)
        assert (beat.rows_before, beat.rows) == (JobRows(2, 2, 0), JobRows(5, 4, 1))
        assert beat.pool.app == "purchase-v3-job-x"
        record.note_summary(SUMMARY)
    found = folders.find("raysubmit_1")
    assert (found.beat.state, found.beat.rows, found.beat.progress.share) == ("succeeded", JobRows(9, 7, 2), 1.0)
    assert found.beat.progress.rows_per_s == 3.5
    assert found.holds_pool(time.time()) is None


def test_rows_and_share_of_a_job_that_ended_early_are_both_of_what_is_committed(folders):
    with recorded(folders, ORDER, print) as record:
        record.show(Progress(8, 10, 1, 0.8, 10.0, 3.0))
        record.note_summary(SUMMARY | {"rows_read": 4, "rows_scored": 4, "rows_rejected": 0, "share": 0.4})
    found = folders.find("raysubmit_1").beat
    assert (found.rows.read, found.progress.rows, found.progress.share) == (4, 4, 0.4)


def test_the_rate_is_that_of_scoring_in_this_run():
    said = describe_summary({**SUMMARY, "seconds": 45.8}, "out")
    assert said == (
        "read 9 = scored 7 + rejected 2, 7 of them in this run · 45.8 s, of these 2.0 s scoring, 4 rows/s · out"
    )
    whole = {**SUMMARY, "seconds": 45.8, "rows_this_run": 9}
    assert describe_summary(whole, "out") == (
        "read 9 = scored 7 + rejected 2 · 45.8 s, of these 2.0 s scoring, 4 rows/s · out"
    )
    idle = {"rows_read": 9, "rows_scored": 7, "rows_rejected": 2, "rows_this_run": 0, "seconds": 7.3}
    assert describe_summary({**idle, "is_complete": True}, "out") == (
        "nothing left to do: read 9 = scored 7 + rejected 2 · out"
    )
    assert describe_summary({**idle, "is_complete": False}, "out").startswith("no more rows could be scored: read 9")


@pytest.mark.parametrize(
    ("raised", "state", "code"),
    [
        (StoppedError("signal 15"), "cancelled", None),
        (typer.Exit(130), "cancelled", None),
        (typer.Exit(1), "incomplete", None),
        (InvalidDataError("too many rejected"), "failed", "invalid-data"),
        (ZeroDivisionError("x"), "failed", "internal"),
    ],
)
def test_every_end_is_told(folders, raised, state, code):
    with pytest.raises(type(raised)), recorded(folders, ORDER, print):
        raise raised
    beat = folders.find("raysubmit_1").beat
    assert (beat.state, (beat.error or {}).get("code")) == (state, code)


def test_a_driver_that_is_told_to_end_gets_the_signal_of_a_terminal_once(folders, monkeypatch):
    monkeypatch.setattr(module, "BEAT_S", 0.01)
    told: list[int] = []
    monkeypatch.setattr(module.os, "kill", lambda _, number: told.append(number))
    said: list[str] = []
    with recorded(folders, ORDER, said.append):
        folders.rule("raysubmit_1", JobRuling(cancelled_at_s=1.0, cancelled_by="anna"))
        deadline = time.monotonic() + 5
        while not told and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
    assert (told, said) == ([signal.SIGTERM], ["told to end by anna"])


def test_a_record_that_cannot_be_written_ends_no_job(tmp_path):
    (tmp_path / "jobs").write_text("a file")
    said: list[str] = []
    with recorded(JobFolders(tmp_path / "jobs"), ORDER, said.append) as record:
        record.show(Progress(5, 9, 1, 0.5, 10.0, 3.0))
    assert len(said) == 1
    assert "will not show this job" in said[0]


def test_a_submitted_driver_knows_its_id():
    def environment(job_id):
        return {IN_JOB: json.dumps({"metadata": {"job_submission_id": job_id}})}

    assert find_submission_id(environment("raysubmit_Ab1")) == "raysubmit_Ab1"
    assert find_submission_id(environment("../x")) is None
    assert find_submission_id({}) is None
    assert find_submission_id({IN_JOB: "{}"}) is None


def test_a_pool_is_resized_or_refused_never_waited_for():
    assert fit_replicas(None, 3.5, 2) == (2, "")
    assert fit_replicas(8, 1.0, 2) == (3, "a pool of up to 3 replicas in place of 8: 1 CPUs are free")
    with pytest.raises(BadRequestError, match="--pool shared"):
        fit_replicas(1, 0.25 + REPLICA_CPUS - 0.01, 1)


class FakeRay:
    """Ray's client of jobs."""

    def __init__(self) -> None:
        self.jobs: dict[str, SimpleNamespace] = {}
        self.entrypoints: list[str] = []

    def submit_job(self, *, entrypoint, submission_id, **_) -> None:
        self.entrypoints.append(entrypoint)
        self.jobs[submission_id] = SimpleNamespace(status=JobStatus.PENDING, message="")

    def get_job_info(self, job_id):
        if job_id not in self.jobs:
            raise RuntimeError(f"Request failed with status code 404: Job {job_id} does not exist.")
        return self.jobs[job_id]

    def stop_job(self, job_id) -> None:
        self.jobs[job_id].status = JobStatus.STOPPED


def test_drivers_are_submitted_once_and_their_end_is_explained(tmp_path):
    ray = FakeRay()
    with pytest.raises(NotReadyError):
        RayJobRunner(tmp_path, lambda _: ray).submit("job-1", ["in", "out"])
    save_spec(tmp_path, plan_cluster(tmp_path, "127.0.0.1", 8000, 2))
    runner = RayJobRunner(tmp_path, lambda _: ray)
    for _ in range(2):
        runner.submit("job-1", ["--json", "--", "in dir", "out"])
    assert len(ray.entrypoints) == 1
    assert ray.entrypoints[0].endswith("-m batch.score --json -- 'in dir' out")
    assert runner.explain_end("job-1") is None
    runner.stop("job-1")
    runner.stop("job-2")
    assert "STOPPED" in runner.explain_end("job-1")
    assert "cluster was stopped" in runner.explain_end("job-2")
