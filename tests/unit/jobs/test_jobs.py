"""The queue of batch jobs, their records, leases and what is counted, without a cluster."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from serve_app.deployments.calls.handles import parse_pool_app, parse_version_app, pool_app
from serve_app.errors import (
    BadRequestError,
    ConflictError,
    InvalidDataError,
    NotFoundError,
    NotReadyError,
    PackageError,
    QueueFullError,
)
from serve_app.jobs.adapters.output_folder import OutputFolder
from serve_app.jobs.adapters.places import AllowedPlaces
from serve_app.jobs.core.commits import Commit
from serve_app.jobs.core.progress import Progress
from serve_app.jobs.core.record import JobOrder, JobRows, PoolWish
from serve_app.jobs.core.spec import JobSpec
from serve_app.jobs.core.units import Unit
from serve_app.jobs.service.request import parse_job
from tests.testing_kit.jobs.jobs import JobWorld

pytestmark = pytest.mark.unit


@pytest.fixture
def world(tmp_path) -> JobWorld:
    return JobWorld(tmp_path / "home", n_waiting=2, keep_s=3600)


def test_jobs_wait_their_turn_in_the_order_they_came(world):
    first, second = world.ask(), world.ask()
    world.run(first)
    world.pass_time(3, first)
    assert (world.state(first), world.state(second)) == ("running", "queued")
    world.beat(first, state="succeeded")
    world.pass_time(1)
    assert world.state(second) == "starting"
    assert list(world.runner.submitted) == [first, second]


def test_a_full_queue_says_when_to_come_again(world):
    running, *_ = world.ask(), world.ask()
    world.run(running)
    world.beat(running, progress=Progress(1, 2, 0, 0.5, 1.0, 17.0))
    world.ask()
    with pytest.raises(QueueFullError, match="2 jobs wait") as caught:
        world.ask()
    assert caught.value.retry_after_s == 17


def test_jobs_somebody_else_started_take_a_place_too(world):
    world.folders.create(JobOrder("raysubmit_1", world.clock(), "command", "bob", JobSpec("/in", "/out")))
    world.beat("raysubmit_1")
    waiting = world.ask()
    world.pass_time(3, "raysubmit_1")
    assert world.state(waiting) == "queued"
    assert [job["id"] for job in world.control.recent(10)] == [waiting, "raysubmit_1"]


def test_records_outlive_the_control_app_and_no_job_is_submitted_twice(world):
    first, second = world.ask(), world.ask()
    world.control.tick()
    world.restart()
    world.control.tick()
    assert (world.state(first), world.state(second)) == ("starting", "queued")
    assert list(world.runner.submitted) == [first]


def test_the_version_is_fixed_when_the_job_is_asked_for_and_the_command_does_what_was_asked(world):
    asked = {"columns": {"price": "p"}, "history": True}
    job = world.ask(keep=("order_id", "user_id"), mapping=asked, pool="dedicated")
    world.control.tick()
    mapping, output = world.home / "jobs" / job / "mapping.json", world.home / "jobs" / job / "output"
    assert world.runner.submitted[job] == [
        *("--json", f"--mapping={mapping}", "--model=purchase@3", "--keep=order_id,user_id", "--pool=dedicated"),
        *("--", str(world.data / "rows.csv"), str(output)),
    ]
    assert mapping.read_text() == '{"columns": {"price": "p"}, "history": true}'
    with pytest.raises(NotFoundError, match="purchase@4"):
        world.ask(model="purchase@4")


def test_a_resumed_job_keeps_the_version_it_began_with():
    assert JobSpec("-in", "/out", resume=True).to_arguments() == ["--json", "--resume", "--", "-in", "/out"]


def test_a_record_of_the_release_before_is_read(world):
    options = {"keep": ["order_id"], "max_rejected": "5%", "resume": True}
    order = {
        "id": "job-1", "created_at_s": world.clock(), "origin": "http", "who": "anna", "input": "/in",
        "output": "/out", "has_own_output": False, "model": "purchase@3", "options": options, "go_on": "",
    }  # fmt: skip
    beat = {
        "state": "failed", "host": "elsewhere", "pid": 1, "began_at_s": 1.0, "beat_at_s": 2.0, "model": "purchase",
        "version": 3, "rows_before": {"read": 0, "scored": 0, "rejected": 0}, "summary": None, "progress": None,
        "rows": {"read": 3, "scored": 2, "rejected": 1}, "error": {"code": "not-ready", "detail": "no room"},
        "pool": {"app": "purchase-v3-job-1", "model": "purchase", "version": 3, "replicas": 2},
    }  # fmt: skip
    (world.home / "jobs" / "job-1").mkdir(parents=True)
    (world.home / "jobs" / "job-1" / "order.json").write_text(json.dumps(order))
    assert world.control.describe("job-1")["options"] == options
    world.pass_time(1)
    said = ["--model=purchase@3", "--keep=order_id", "--max-rejected=5%"]
    assert world.runner.submitted["job-1"] == ["--json", "--resume", *said, "--", "/in", "/out"]
    assert world.folders.find("job-1").order.to_json() == order
    (world.home / "jobs" / "job-1" / "beat.json").write_text(json.dumps(beat))
    found = world.folders.find("job-1")
    assert dataclasses.asdict(found.beat) == beat
    assert world.control.describe("job-1")["error"] == beat["error"]


def test_a_driver_that_is_silent_or_gone_has_died(world):
    silent = world.ask()
    world.run(silent)
    world.pass_time(29)
    assert world.state(silent) == "running"
    world.pass_time(2)
    assert world.state(silent) == "died"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    killed = world.ask()
    world.run(killed)
    world.beat(killed, pid=gone.pid)
    assert world.state(killed) == "died"
    assert "resume" in world.control.describe(killed)["error"]["detail"]


PLAN = {"units": [dataclasses.asdict(Unit(k, "/in/a", 1, 1, n_rows=100)) for k in range(4)]}


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_rows_and_percent_of_a_driver_that_is_gone_without_a_word_are_the_committed_ones(world, is_cancelled):
    job = world.ask()
    world.run(job)
    output = OutputFolder(world.folders.find(job).order.spec.output)
    output.prepare()
    output.write_json("_job/plan.json", PLAN)
    output.commit(Commit(0, 0, JobRows(100, 98, 2)))
    progress = Progress(350, 400, 2, 0.875, 50.0, 1.0)
    world.beat(job, rows=JobRows(350, 348, 2), progress=progress)
    assert world.control.describe(job)["progress"]["percent"] == 87.5  # rows under way are shown while it runs
    if is_cancelled:
        world.control.cancel(job, "anna")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    world.beat(job, pid=gone.pid)
    for record in (world.control.describe(job), world.control.recent(1)[0]):
        found = record["progress"]
        assert record["state"] == ("cancelled" if is_cancelled else "died")
        assert (found["rows_read"], found["rows_scored"], found["rows_rejected"]) == (100, 98, 2)
        assert (found["percent"], found["rows_total"], found["left_s"]) == (25.0, 400, None)
    output.commit(Commit(1, 0, JobRows(100, 100, 0)))  # by a worker that outlived its driver
    world.pass_time(11)
    output.commit(Commit(2, 0, JobRows(100, 100, 0)))  # by a job that goes on with it
    assert world.control.describe(job)["progress"]["rows_read"] == 200
    world.restart()
    assert world.control.describe(job)["progress"]["percent"] == 50.0


def test_an_output_that_cannot_be_looked_at_leaves_what_the_driver_said(world):
    job = world.ask()
    world.run(job)
    world.beat(job, rows=JobRows(350, 348, 2), progress=Progress(350, 400, 2, 0.875, 50.0, 1.0))
    output = OutputFolder(world.folders.find(job).order.spec.output)
    output.prepare()
    output.write_json("_job/plan.json", PLAN)
    (world.home / "jobs" / job / "output" / "_job" / "plan.json").write_text("{")
    world.pass_time(40)
    assert (world.state(job), world.control.describe(job)["progress"]["rows_read"]) == ("died", 350)


def test_a_backtest_goes_on_by_its_own_command(world):
    spec, go_on = JobSpec("/f", "/o/scores"), "scorecat backtest /e /o --resume"
    order = JobOrder("job-1", world.clock(), "command", "bob", spec, go_on=go_on)
    world.folders.create(order)
    world.beat("job-1", state="cancelled")
    assert world.control.describe("job-1")["resume_command"] == "scorecat backtest /e /o --resume"


def test_a_process_that_ends_before_it_speaks_has_failed_and_says_why(world):
    job = world.ask()
    world.control.tick()
    world.runner.ends[job] = "its process ended (FAILED): no module named batch"
    world.pass_time(11)
    found = world.control.describe(job)
    assert (found["state"], found["error"]["detail"]) == ("failed", world.runner.ends[job])


def test_a_cluster_that_takes_no_job_leaves_it_in_the_queue(world):
    world.runner.trouble = NotReadyError("no agent")
    job = world.ask()
    world.pass_time(2)
    assert world.state(job) == "queued"
    world.runner.trouble = None
    world.pass_time(1)
    assert world.state(job) == "starting"


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_is_told(world):
    running, waiting = world.ask(), world.ask()
    world.run(running)
    assert world.control.cancel(waiting, "bob")["state"] == "cancelled"
    found = world.control.cancel(running, "bob")
    assert (found["state"], found["is_cancelling"], found["cancelled_by"]) == ("running", True, "bob")
    assert world.folders.read_ruling(running).cancelled_at_s == world.clock()
    world.pass_time(19, running)
    assert world.runner.stopped == []
    world.pass_time(5, running)
    assert world.runner.stopped == [running]  # it hangs
    world.beat(running, state="cancelled")
    with pytest.raises(ConflictError, match="ended already: cancelled"):
        world.control.cancel(running, "bob")


def test_records_and_results_go_when_their_time_is_over_and_named_outputs_stay(world):
    kept, own = world.ask(output="out"), world.ask()
    (world.data / "out").mkdir()
    for job in (kept, own):
        world.run(job)
        output = world.data / "out" if job == kept else world.home / "jobs" / own / "output"
        output.mkdir(exist_ok=True)
        (output / "part-000000-0000.parquet").write_bytes(b"x")
        world.beat(job, state="succeeded")
    assert [one["href"] for one in world.control.describe(own)["results"]] == [
        f"/v1/jobs/{own}/results/part-000000-0000.parquet"
    ]
    assert world.control.describe(kept)["results"] == []
    world.pass_time(2)
    world.clock.now_s += 3600
    world.pass_time(1)
    with pytest.raises(NotFoundError):
        world.control.describe(own)
    assert [path.name for path in (world.home / "jobs").iterdir()] == []
    assert (world.data / "out" / "part-000000-0000.parquet").exists()


@pytest.mark.parametrize(
    "name", ["", "..", "../order.json", "/etc/passwd", "_job/plan.json", "a\0b", "x" * 5000, "in", "part.parquet/"]
)
def test_only_results_can_be_downloaded(world, name):
    job = world.ask()
    output = world.home / "jobs" / job / "output"
    (output / "_job").mkdir(parents=True)
    (output / "_job" / "plan.json").write_text("{}")
    (output / "part.parquet").write_bytes(b"x")
    (output / "in").symlink_to(world.home / "jobs" / job / "order.json")
    with pytest.raises(NotFoundError):
        world.control.find_result(job, name)


def test_a_pool_lives_as_long_as_its_driver(world):
    job = world.ask()
    world.run(job)
    wish = PoolWish(pool_app("purchase", 3, job), "purchase", 3, 2)
    world.beat(job, pool=wish)
    world.pass_time(5, job)
    assert list(world.pools.apps) == [wish.app]
    world.restart()
    world.pass_time(5, job)
    assert list(world.pools.apps) == [wish.app]  # it is not taken away because the control app was
    world.pass_time(35)  # the driver is silent: killed, or its machine is gone
    assert world.pools.apps == {}
    n_looks = world.pools.n_looks
    world.pass_time(60)
    assert world.pools.n_looks - n_looks <= 6


def test_a_pool_that_cannot_be_made_is_said_to_its_driver(world):
    job = world.ask()
    world.run(job)
    world.pools.refusal = PackageError("model.cbm is torn")
    world.beat(job, pool=PoolWish("purchase-v3-job-x", "purchase", 3, 2))
    world.pass_time(1, job)
    assert world.folders.read_ruling(job).pool_problem == "model.cbm is torn"


def test_the_app_of_a_pool_is_no_version_of_its_model():
    app = pool_app("purchase", 3, "job-20260101-000000-abcdef")
    assert parse_version_app(app) is None
    assert parse_pool_app(app) == ("purchase", 3)
    assert parse_pool_app("purchase-v3") is None


def test_rows_are_counted_once_whoever_restarts(world):
    job = world.ask()
    world.run(job)
    world.beat(job, rows_before=JobRows(100, 90, 10), rows=JobRows(150, 138, 12))
    world.pass_time(1, job)
    key = ("purchase", 3)
    assert world.meter.rows == {(*key, "scored"): 48, (*key, "rejected"): 2}
    assert world.meter.jobs == {"queued": 0, "starting": 0, "running": 1}
    world.clock.now_s += 1
    world.restart()
    world.pass_time(1, job)
    world.beat(job, rows=JobRows(200, 188, 12), state="succeeded")
    world.pass_time(2)
    assert world.meter.rows == {(*key, "scored"): 50}
    assert world.meter.ended == ["succeeded"]


@pytest.mark.parametrize(
    "location",
    [
        "/etc", "../jobs", "a/../../jobs", "file:///etc", "http://x/y", "s3://bucket", "s3://bucket/inside",
        "s3://bucket/in/../out", "s3://bucket/in?endpoint_override=evil", "s3://key:secret@bucket/in", "link/x",
        "s3://bucket/in/%2e%2e/out", "S3://bucket/in", "gs://bucket/in", "a\0b",
    ],
)  # fmt: skip
def test_a_job_over_http_reads_and_writes_at_allowed_places_only(world, location):
    (world.data / "link").symlink_to("/etc")
    places = AllowedPlaces([str(world.data), "s3://bucket/in/"])
    for is_input in (True, False):
        with pytest.raises(BadRequestError, match="SCORECAT_JOB_ROOTS"):
            places.check(location, is_input=is_input)


def test_allowed_places_are_understood(world):
    places = AllowedPlaces([str(world.data), "s3://bucket/in/"])
    assert places.check("rows.csv", is_input=True) == str(world.data / "rows.csv")
    assert places.check(str(world.data / "new"), is_input=False) == str(world.data / "new")
    assert places.check("s3://bucket/in/a b/", is_input=True) == "s3://bucket/in/a b"
    with pytest.raises(NotFoundError):
        places.check("none.csv", is_input=True)


def test_an_output_that_holds_something_is_refused_before_a_job_is_made(world):
    (world.data / "empty").mkdir()
    (world.data / "full").mkdir()
    (world.data / "full" / "part.parquet").write_text("x")
    places = AllowedPlaces([str(world.data)])
    for name in ("new", "empty"):
        assert places.check(name, is_input=False, is_new=True) == str(world.data / name)
    with pytest.raises(ConflictError, match="holds files already"):
        places.check("full", is_input=False, is_new=True)
    assert places.check("full", is_input=False) == str(world.data / "full")  # to be resumed
    for is_new in (True, False):
        with pytest.raises(ConflictError, match="is a file"):
            places.check("rows.csv", is_input=False, is_new=is_new)


def test_every_member_that_cannot_be_used_is_named():
    with pytest.raises(InvalidDataError) as caught:
        parse_job(
            {"inptu": "x", "keep": "a,b", "explain": 51, "max_rejected": "many", "pool": "mine", "resume": 1,
             "mapping": {"x": 1}, "workers": True, "partition_by": []}
        )  # fmt: skip
    assert {e.pointer for e in caught.value.errors} == {
        "/inptu", "/input", "/keep", "/explain", "/max_rejected", "/pool", "/resume", "/mapping", "/workers",
        "/partition_by",
    }  # fmt: skip
    assert parse_job({"input": "x", "max_rejected": 5, "keep": "a"})[0].options == {"max_rejected": "5", "keep": ["a"]}
    one_default, _ = parse_job({"input": "x", "mapping": {"defaults": "brand"}})
    assert one_default.options == {"mapping": {"defaults": ["brand"]}}


def test_what_is_resumed_has_a_place(world):
    with pytest.raises(InvalidDataError, match="name that too"):
        world.ask(resume=True)


def test_a_record_that_was_removed_under_it_does_not_stop_the_rounds(world):
    job = world.ask()
    (world.home / "jobs" / job / "order.json").unlink()
    (world.home / "jobs" / "strange").mkdir()
    world.pass_time(1)
    assert world.control.recent(5) == []
    assert dataclasses.asdict(world.folders.read_ruling("none"))["problem"] == ""
