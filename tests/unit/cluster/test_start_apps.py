"""What `up` starts, and what it does not wait for. Ray is not started."""

from __future__ import annotations

import pytest

from serve_app import app as app_module
from serve_app.app import start_apps
from serve_app.cli.up import open_split
from serve_app.deployments.apps.apps import await_apps
from serve_app.errors import InvariantError, NotFoundError, PackageError
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.scoring.core.split import Shadow, Split, canary_arms, only_arm
from serve_app.scoring.service.ports import AppState
from serve_app.settings import Settings

pytestmark = pytest.mark.unit


class Cluster:
    """Applications that were run, and the state each of them comes to."""

    def __init__(self, monkeypatch) -> None:
        self.ran: list[str] = []
        self.ends: dict[str, AppState] = {}
        monkeypatch.setattr(app_module, "run_apps", lambda apps, prefixes: self.ran.extend(apps))
        monkeypatch.setattr(app_module, "read_states", self.read)
        monkeypatch.setattr(
            app_module,
            "await_apps",
            lambda names, timeout_s=5.0: await_apps(names, timeout_s, read=self.read, sleep=lambda _: None),
        )

    def read(self) -> dict[str, AppState]:
        return {app: self.ends.get(app, AppState("running")) for app in self.ran}


@pytest.fixture
def cluster(monkeypatch) -> Cluster:
    return Cluster(monkeypatch)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def registry(tmp_path, package_dir) -> DirectoryRegistry:
    registry = DirectoryRegistry(tmp_path / "registry")
    for _ in range(2):
        registry.publish("purchase", package_dir)
    return registry


CANARY = Split("purchase", 1, canary_arms(1, 2, 0.1))


def test_every_version_of_the_split_is_started_with_the_control_app_and_the_gateway(cluster, settings, registry):
    assert start_apps(settings, "laptop", registry, CANARY) == {}
    assert cluster.ran == ["purchase-v1", "purchase-v2", "control", "gateway"]


def test_a_version_that_does_not_come_up_is_named_and_left_to_the_control_app(cluster, settings, registry):
    cluster.ends["purchase-v2"] = AppState("failed", "torn")
    assert start_apps(settings, "laptop", registry, CANARY) == {"purchase-v2": "failed torn"}


def test_a_version_whose_package_is_gone_does_not_keep_the_stable_one_from_starting(cluster, settings, registry):
    split = Split("purchase", 1, only_arm(1), shadow=Shadow(9, 0.5))
    (why,) = start_apps(settings, "laptop", registry, split).values()
    assert "no version 9" in why
    assert cluster.ran == ["purchase-v1", "control", "gateway"]


def test_the_stable_version_has_to_come_up(cluster, settings, registry):
    with pytest.raises(NotFoundError):
        start_apps(settings, "laptop", registry, Split("purchase", 9, canary_arms(9, 1, 0.1)))
    assert cluster.ran == []
    cluster.ends["purchase-v1"] = AppState("failed", "torn")
    with pytest.raises(InvariantError, match="purchase-v1 does not start: torn"):
        start_apps(settings, "laptop", registry, CANARY)


def test_the_split_to_begin_with_is_where_gateways_read_it(settings, registry):
    def begin(settings, wanted, *, is_named=True):
        return open_split(settings, registry, "purchase", wanted, is_named=is_named)

    assert begin(settings, "2").versions == [2]
    assert '"stable": 2' in (settings.home / "state" / "split.json").read_text()
    assert (settings.home / "state" / "rollouts.db").exists()
    assert begin(settings.model_copy(update={"pins": True}), "2").pins
    model = registry.locate("purchase", 1) / "model.cbm"
    model.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(PackageError, match=r"model\.cbm"):
        begin(settings, "1")
    assert '"stable": 2' in (settings.home / "state" / "split.json").read_text()
