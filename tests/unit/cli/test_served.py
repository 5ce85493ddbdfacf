"""What commands say when the version that runs is not the one the registry calls champion. Nothing is started."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from serve_app.cli import app, status, up
from serve_app.cli.models.champion_gap import describe_gap, describe_new_version
from serve_app.cluster.spec import plan_cluster
from serve_app.errors import NotReadyError
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.scoring.adapters.split_file import SplitFile
from serve_app.settings import load_settings
from serve_app.wiring import find_default

pytestmark = pytest.mark.unit

SERVED = {"model": "purchase", "version": 1}


def test_a_gap_is_told_with_both_ways_out():
    assert describe_gap(1, SERVED) == describe_gap(None, SERVED) == describe_gap(3, None) == ""
    told = describe_gap(3, SERVED)
    assert told.startswith("purchase@champion is version 3, and version 1 is served")
    assert "`scorecat rollout start 3`" in told
    assert "`scorecat down`" in told


@pytest.mark.parametrize(
    ("name", "champion", "served", "told"),
    [
        ("purchase", 2, None, ""),
        ("purchase", 1, None, "`scorecat models alias purchase@2 champion`"),
        ("purchase", None, None, "purchase@champion is not set"),
        ("purchase", 1, SERVED, "`scorecat rollout start 2`"),
        ("purchase", 2, SERVED, "version 1 is served"),
        ("pets", 2, SERVED, "`scorecat up --model pets`"),
        ("pets", 1, SERVED, "`scorecat models alias pets@2 champion`"),
    ],
)
def test_a_new_version_is_told_how_it_gets_traffic(name, champion, served, told):
    found = describe_new_version(name, 2, champion, served, "purchase")
    assert found == "" if told == "" else told in found


@pytest.fixture
def home(tmp_path, monkeypatch, package_dir):
    """A state folder whose champion is version 2, while version 1 seems to run."""
    monkeypatch.setenv("SCORECAT_HOME", str(tmp_path))
    registry = DirectoryRegistry(tmp_path / "registry")
    for _ in range(2):
        version = registry.publish("purchase", package_dir)
    registry.move_alias("purchase", "champion", version)
    spec = plan_cluster(tmp_path, "127.0.0.1", 8000, 2)
    for module in (up, status):
        monkeypatch.setattr(module, "load_spec", lambda home: spec)
        monkeypatch.setattr(module, "find_processes", lambda spec: [object()])
        monkeypatch.setattr(module, "probe", lambda spec: SERVED)
        monkeypatch.setattr(module, "list_models", lambda spec: [])
    monkeypatch.setattr(status, "list_apps", lambda spec: {})
    return tmp_path


@pytest.mark.parametrize("command", ["up", "status"])
def test_up_and_status_say_that_another_version_is_champion(home, command):
    done = CliRunner().invoke(app, [command])
    assert done.exit_code == 0, done.output
    assert "purchase@champion is version 2, and version 1 is served" in done.output
    DirectoryRegistry(home / "registry").move_alias("purchase", "champion", 1)
    assert "champion" not in CliRunner().invoke(app, [command]).output


@pytest.mark.parametrize("words", [["predict", "-"], ["score", "rows.parquet", "out"]])
def test_a_command_in_another_folder_says_where_it_looked(tmp_path, monkeypatch, words):
    monkeypatch.setenv("SCORECAT_HOME", str(tmp_path))
    done = CliRunner().invoke(app, words, input="{}")
    assert isinstance(done.exception, NotReadyError)
    assert f"nothing runs from {tmp_path}" in str(done.exception)
    assert "SCORECAT_HOME" in str(done.exception)


def test_the_model_of_before_is_served_again_unless_a_setting_says_otherwise(home):
    registry = DirectoryRegistry(home / "registry")

    def find(**environment: str) -> str:
        return find_default(load_settings({"SCORECAT_HOME": str(home), **environment}), registry)

    assert find() == "purchase"
    split = SplitFile(home / "state" / "split.json")
    split.write({"model": "credit", "stable": 1})
    assert find() == "purchase"  # which the registry does not have
    registry.publish("credit", registry.locate("purchase", 1))
    assert find() == "credit"
    assert find(SCORECAT_MODEL="purchase@1") == "purchase@1"
    (home / "state" / "split.json").write_text("{")
    assert find() == "purchase"
