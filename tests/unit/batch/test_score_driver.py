"""A job's driver without a cluster: what it keeps of how it was asked for, and what it says when it is stopped."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import typer

from batch import driver
from batch.jobs.asked import Asked, RunOptions, read_run
from batch.jobs.prepare import describe
from batch.record import StoppedError
from batch.score import run_job
from serve_app.jobs.adapters.output_folder import OutputFolder
from serve_app.jobs.adapters.record_folders import JobFolders
from serve_app.jobs.core.record import resume_command
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from tests.testing_kit.batch.batch_jobs import write_rows

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
    monkeypatch.setattr(driver, "check_can_begin", lambda *_: None)
    monkeypatch.setattr(driver, "choose_app", lambda *_: ("app", None))
    source, output = str(tmp_path / "my rows"), str(tmp_path / "out")

    def run(score: Callable[[], None], *, resume: bool = False, options: RunOptions | None = None, **said):
        built = SimpleNamespace()

        def build(plan, tally, manifest, folder, limit, chosen, show, app, spare_cpus):
            built.plan, built.limit, built.options = plan, limit, chosen
            finish = lambda: {**describe(plan, tally), "rows_this_run": 0}  # noqa: E731
            return SimpleNamespace(run=lambda: score() or finish(), stop=lambda: None, finish=finish)

        monkeypatch.setattr(driver, "build_job", build)
        asked, chosen, go_on = Asked(source, **said), options or RunOptions(), resume_command(source, output)
        with pytest.raises(typer.Exit) as caught:  # nothing of it is scored: it is never complete
            run_job(asked, output, chosen, go_on, resume=resume, as_json=False)
        return caught.value.exit_code, built

    return run


def stop() -> None:
    raise StoppedError("signal 15")


def test_a_stopped_job_says_a_command_that_goes_on_as_it_was_begun(run, tmp_path, capsys):
    code, begun = run(stop, options=RunOptions("5%", pool="dedicated"), keep=("order_id",), explain=2)
    said = capsys.readouterr().err
    assert code == 130
    command = next(line.partition("go on with: ")[2] for line in said.splitlines() if "go on with" in line)
    words = ["scorecat", "score", str(tmp_path / "my rows"), str(tmp_path / "out"), "--resume"]
    assert shlex.split(command) == words
    _, resumed = run(stop, resume=True)
    assert resumed.plan == begun.plan
    assert resumed.options == RunOptions("5%", pool="dedicated")
    assert str(resumed.limit) == "5 % of the rows"
    run(stop, resume=True, options=RunOptions("9", pool="shared"))
    assert read_run(OutputFolder(str(tmp_path / "out"))) == RunOptions("9", pool="shared")


def test_a_job_that_is_not_complete_says_the_same_command_and_its_record_agrees(run, tmp_path, capsys):
    code, _ = run(lambda: None)
    assert code == 1
    said = capsys.readouterr().err
    command = resume_command(str(tmp_path / "my rows"), str(tmp_path / "out"))
    assert f"not complete; mend the input or wait, then: {command}" in said
    (record,) = JobFolders(tmp_path / "home" / "jobs").all()
    assert (record.beat.state, record.beat.rows.read, record.beat.progress["share"]) == ("incomplete", 0, 0.0)
