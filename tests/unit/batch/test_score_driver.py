"""A job's driver without a cluster: what it keeps of how it was asked for, and what it says when it is stopped."""

from __future__ import annotations

import contextlib
import queue
import shlex
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import typer
from ray.exceptions import RayError

from batch.jobs import run as module
from batch.jobs.prepare import describe
from batch.record import StoppedError
from batch.score import run_job
from batch.transforms.summary import RejectLimit
from serve_app.errors import BadRequestError, InvalidDataError, InvariantError, NotReadyError
from serve_app.jobs.adapters.output_folder import OutputFolder
from serve_app.jobs.adapters.record_folders import JobFolders
from serve_app.jobs.core.commits import UnitTally
from serve_app.jobs.core.progress import Progress
from serve_app.jobs.core.record import JobRows, resume_command
from serve_app.jobs.core.spec import RUN, JobSpec
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from tests.testing_kit.batch.batch_jobs import LocalJob, write_rows

pytestmark = pytest.mark.unit


@pytest.fixture
def run(tmp_path, monkeypatch, package_dir):
    """Run a job of ``my rows`` into ``out`` whose scoring is `score`; returns what it was built with."""
    monkeypatch.setenv("SCORECAT_HOME", str(tmp_path / "home"))
    registry = DirectoryRegistry(tmp_path / "home" / "registry")
    registry.publish("purchase", package_dir)
    registry.move_alias("purchase", "champion", 1)
    write_rows(tmp_path / "my rows", 1, 20)
    monkeypatch.setattr("batch.score.connected", contextlib.nullcontext)
    monkeypatch.setattr("batch.jobs.apps.check_can_begin", lambda *_: None)
    monkeypatch.setattr("batch.jobs.apps.choose_app", lambda *_: ("app", None))
    source, output = str(tmp_path / "my rows"), str(tmp_path / "out")

    def run(score: Callable[[], None], **said):
        built = SimpleNamespace()

        def build(plan, tally, manifest, folder, app, limit, spec, record, show, say, spare_cpus):
            built.plan, built.limit, built.options = plan, limit, spec.said(*RUN)
            finish = lambda: record.note_summary({**describe(plan, tally), "rows_this_run": 0})  # noqa: E731
            return SimpleNamespace(run=lambda: score() or finish())

        monkeypatch.setattr("batch.jobs.run.Job", build)
        with pytest.raises(typer.Exit) as caught:  # nothing of it is scored: it is never complete
            run_job(JobSpec(source, output, **said), resume_command(source, output), as_json=False)
        return caught.value.exit_code, built

    return run


def stop() -> None:
    raise StoppedError("signal 15")


def test_a_stopped_job_says_a_command_that_goes_on_as_it_was_begun(run, tmp_path, capsys):
    code, begun = run(stop, max_rejected="5%", pool="dedicated", keep=("order_id",), explain=2)
    said = capsys.readouterr().err
    assert code == 130
    command = next(line.partition("go on with: ")[2] for line in said.splitlines() if "go on with" in line)
    words = ["scorecat", "score", str(tmp_path / "my rows"), str(tmp_path / "out"), "--resume"]
    assert shlex.split(command) == words
    _, resumed = run(stop, resume=True)
    assert resumed.plan == begun.plan
    assert resumed.options == {"max_rejected": "5%", "pool": "dedicated"}
    assert str(resumed.limit) == "5 % of the rows"
    run(stop, resume=True, max_rejected="9", pool="shared")
    _, again = run(stop, resume=True)
    assert again.options == {"max_rejected": "9", "pool": "shared"}


def test_a_job_that_is_not_complete_says_the_same_command_and_its_record_agrees(run, tmp_path, capsys):
    code, _ = run(lambda: None)
    assert code == 1
    said = capsys.readouterr().err
    command = resume_command(str(tmp_path / "my rows"), str(tmp_path / "out"))
    assert f"not complete; mend the input or wait, then: {command}" in said
    (record,) = JobFolders(tmp_path / "home" / "jobs").all()
    assert (record.beat.state, record.beat.rows.read, record.beat.progress.share) == ("incomplete", 0, 0.0)


@pytest.fixture
def lose(run, tmp_path, monkeypatch):  # `run` makes the registry and the input
    """Run a job whose version is removed while it is scored, which shows in what `score` does; return its error."""
    monkeypatch.setattr("batch.jobs.run.os.setpriority", lambda *_: None)
    monkeypatch.setattr("batch.jobs.run.Job.stop", lambda _: None)
    real = module.Job

    def lose(score: Callable[[module.Job], None], *, is_gone: bool = True) -> Exception:
        there = ["app"]
        monkeypatch.setattr("batch.jobs.apps._list_apps", lambda: there)

        def score_and_lose(job: module.Job) -> None:
            if is_gone:
                there.clear()
            score(job)

        monkeypatch.setattr("batch.jobs.run.Job", real)
        monkeypatch.setattr("batch.jobs.run.Job._score_open_units", score_and_lose)
        source, output = str(tmp_path / "my rows"), str(tmp_path / "out")
        with pytest.raises(Exception) as caught:
            run_job(JobSpec(source, output), resume_command(source, output), as_json=False)
        return caught.value

    return lose


def give_up(job: module.Job) -> None:
    job.tally.failed[0] = "KeyError: 'Deployment does not exist'"


def fail(error: Exception) -> Callable[[module.Job], None]:
    def score(_: module.Job) -> None:
        raise error

    return score


@pytest.mark.parametrize(
    "score",
    [
        give_up,
        fail(KeyError("CatBoostModel")),
        fail(NotReadyError("3 units in a row were given up; the last one: RayServeException")),
        fail(InvariantError("Ray Data gave up: OwnerDiedError")),
        fail(RuntimeError("a worker was lost")),
    ],
    ids=["a unit given up", "no such deployment", "units given up", "Ray Data", "Ray"],
)
def test_a_job_whose_version_goes_says_the_same_way_on_however_that_shows(lose, tmp_path, capsys, score):
    error = lose(score)
    assert isinstance(error, NotReadyError)
    assert "app is not deployed" in str(error)
    assert "or with --resume --pool dedicated" in str(error)
    assert "go on with: scorecat score" in capsys.readouterr().err
    (record,) = JobFolders(tmp_path / "home" / "jobs").all()
    assert (record.beat.state, record.beat.error["code"], record.beat.summary["units_done"]) == (
        "failed",
        "not-ready",
        0,
    )


@pytest.mark.parametrize("error", [InvalidDataError("too many rows were rejected"), RuntimeError("the disk is gone")])
def test_other_ends_are_told_as_they_are_and_how_the_job_goes_on(lose, capsys, error):
    is_data = isinstance(error, InvalidDataError)  # which a version that goes meanwhile has nothing to do with
    assert lose(fail(error), is_gone=is_data) is error
    assert "go on with: scorecat score" in capsys.readouterr().err


def test_a_pool_that_does_not_fit_leaves_a_job_that_can_go_on(run, monkeypatch, capsys):
    def refuse(*_):
        raise BadRequestError("no room for a pool")

    monkeypatch.setattr("batch.jobs.apps.choose_app", refuse)
    with pytest.raises(BadRequestError, match="no room"):
        run(lambda: None, pool="dedicated")
    assert "go on with: scorecat score" in capsys.readouterr().err


def test_a_look_that_the_cluster_does_not_answer_ends_no_job(package, tmp_path, monkeypatch):
    write_rows(tmp_path / "in", 1, 20)
    plan = LocalJob(package, tmp_path / "in", tmp_path / "out").plan
    answers = iter([RayError("the actor is unavailable"), RayError("still"), ([("here", 1)], {0: JobRows(5, 5, 0)})])
    shown: list[int] = []
    told: list[Progress] = []
    outcomes: queue.Queue = queue.Queue()

    def get(_):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        outcomes.put(None)
        return answer

    monkeypatch.setattr("batch.jobs.run.POLL_S", 0.01)
    monkeypatch.setattr("batch.jobs.run.ray.get", get)
    job = module.Job(
        plan, UnitTally(plan.units), package.manifest, OutputFolder(str(tmp_path / "out")), "app", RejectLimit(),
        JobSpec("in"), SimpleNamespace(show=told.append), lambda done: shown.append(done.rows), print,
    )  # fmt: skip
    job._follow(SimpleNamespace(read=SimpleNamespace(remote=lambda: None)), outcomes)
    assert shown == [done.rows for done in told] == [0, 0, 5]
