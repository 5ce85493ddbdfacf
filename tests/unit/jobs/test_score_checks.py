"""What `scorecat score` says before a job is submitted. No cluster runs: whatever got through would fail to connect."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from batch.view import explain_absence
from serve_app.cli import app
from serve_app.cli.jobs import score as score_command
from serve_app.cluster.spec import plan_cluster
from serve_app.errors import ConflictError, ScorecatError
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from tests.testing_kit.batch.batch_jobs import LocalJob, write_rows

pytestmark = pytest.mark.unit


def test_the_absence_of_a_version_is_told_with_both_ways_out():
    apps = ["control", "gateway", "purchase-v3", "purchase-v10", "purchase-v2-job-x", "purchases-v2"]
    assert explain_absence("purchase", 3, apps) == ""
    assert explain_absence("purchase", 2, apps) == (
        "purchase version 2 is not deployed (deployed of it: version 3, version 10), nothing was scored: "
        "score with --model purchase@10, or let the job bring its own replicas with --pool dedicated"
    )
    assert "--model" not in explain_absence("pets", 1, apps)
    assert "--pool dedicated" in explain_absence("pets", 1, apps)


@pytest.fixture
def score(tmp_path, monkeypatch, package_dir):
    """Type `scorecat score` where versions 1 and 2 are registered and version 1 is deployed."""
    monkeypatch.setenv("SCORECAT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    registry = DirectoryRegistry(tmp_path / "home" / "registry")
    for _ in range(2):
        registry.publish("purchase", package_dir)
    registry.move_alias("purchase", "champion", 1)
    spec = plan_cluster(tmp_path / "home", "127.0.0.1", 8000, 2)
    submitted: list[list[str]] = []
    monkeypatch.setattr(score_command, "read_spec", lambda settings: spec)
    monkeypatch.setattr(score_command, "list_apps", lambda spec: {"purchase-v1": {}, "control": {}})
    monkeypatch.setattr(score_command, "_submit", lambda spec, s, arguments: (submitted.append(arguments), "job"))
    monkeypatch.setattr(score_command, "_await", lambda *_: None)
    write_rows(tmp_path / "in", 1, 20)

    def call(*words: str) -> tuple[ScorecatError | None, list[list[str]]]:
        done = CliRunner().invoke(app, ["score", *words])
        if not isinstance(done.exception, ScorecatError):
            assert done.exit_code == 0, done.output
            return None, submitted
        return done.exception, submitted

    return call


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere", "out"], "there is nothing at"),
        (["in", "in"], "holds files already"),
        (["in", "out", "--resume"], "no job that could be resumed"),
        (["in", "out", "--model", "purchase@77"], "77"),
        (["in", "out", "--model", "purchase@2"], "--model purchase@1, or let the job"),
        (["in", "out", "--max-rejected", "many"], "--max-rejected many"),
        (["in", "out", "--keep", "ordr_id"], "did you mean order_id?"),
        (["in", "out", "--partition-by", "shop"], "no such column"),
        (["in", "out", "--mapping", "none.yaml"], "cannot be read"),
    ],
)
def test_mistakes_are_told_before_a_job_is_submitted(score, tmp_path, words, told):
    error, submitted = score(*words)
    assert told in str(error)
    assert submitted == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [["in", "out"], ["in", "out", "--model", "purchase@2", "--pool", "dedicated"]])
def test_a_job_without_mistakes_is_submitted_and_nothing_is_written_for_it(score, tmp_path, words):
    error, submitted = score(*words)
    assert error is None
    assert len(submitted) == 1
    assert not (tmp_path / "out").exists()


def test_a_job_that_is_taken_up_is_compared_with_what_it_was(score, tmp_path, package):
    LocalJob(package, tmp_path / "in", tmp_path / "out")
    error, submitted = score("in", "out", "--resume", "--keep", "order_id")
    assert isinstance(error, ConflictError)
    assert "was begun with keep None" in str(error)
    assert submitted == []
    error, submitted = score("in", "out", "--resume", "--model", "pets")
    assert isinstance(error, ScorecatError)
    assert submitted == []


def test_a_job_is_taken_up_without_saying_again_how_it_was_begun(score, tmp_path, package):
    asked = {"keep": ("order_id",), "mapping": {"defaults": ["price"]}, "partition_by": ("version",), "explain": 2}
    LocalJob(package, tmp_path / "in", tmp_path / "out", **asked)
    error, submitted = score("in", "out", "--resume")
    assert error is None
    assert submitted == [["--json", "--resume", "--", str(tmp_path / "in"), str(tmp_path / "out")]]
    error, submitted = score("in", "out", "--resume", "--explain", "2", "--keep", "order_id", "--max-rejected", "5")
    assert error is None
    assert submitted[1][2:5] == ["--keep=order_id", "--explain=2", "--max-rejected=5"]


def test_places_of_an_object_store_are_left_to_the_job(score):
    error, submitted = score("s3://bucket/in", "s3://bucket/out")
    assert error is None
    assert len(submitted) == 1
