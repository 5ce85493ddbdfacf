from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.rollouts.adapters.sql_store import SqlRolloutStore
from serve_app.scoring.core.split import canary_arms, dump_split, only_arm, parse_split
from serve_app.storage.sql_engine import build_engine
from tests.testing_kit.client.load import Load
from tests.testing_kit.cluster.service_process import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
SCRIPT = Path(__file__).with_name("slow_version.py")


CASES = [("encoder", "Encoder", "CatBoostModel"), ("model", "CatBoostModel", "Encoder")]


def give_everything(service, version: int) -> None:
    """Store another split: what is in the database is what is followed."""
    store = SqlRolloutStore(build_engine(service.home / "state" / "rollouts.db"))
    before = parse_split(store.read_split("purchase"))
    arms = only_arm(1) if version == 1 else canary_arms(1, version, 1.0)  # version 1 stays where it is
    store.write_split(dump_split(dataclasses.replace(before, arms=arms, revision=before.revision + 1)))
    store.close()
    wait_for(lambda: service.predict().headers["x-model-version"] == str(version), 60, f"version {version} to answer")


@pytest.mark.parametrize(("slow", "grows", "stays"), CASES)
def test_the_slow_deployment_grows_and_shrinks_and_the_other_stays(service, package_dir, slow, grows, stays):
    version = DirectoryRegistry(service.home / "registry").publish("purchase", package_dir)
    app = f"purchase-v{version}"
    subprocess.run(
        [sys.executable, str(SCRIPT), str(service.home), app, str(package_dir), slow],
        check=True,
        env=service.environment,
        timeout=120,
    )
    give_everything(service, version)
    heavy, light = Load(service.url, n_clients=32), Load(service.url, n_clients=1)
    try:
        heavy.start()
        wait_for(lambda: len(service.deployments()[app][grows]) >= 2, 300, f"{grows} to grow")
        assert len(service.deployments()[app][stays]) == 1
        light.start()
        heavy.stop()
        wait_for(lambda: len(service.deployments()[app][grows]) == 1, 300, f"{grows} to shrink again")
        light.stop()
    finally:
        heavy.stop()
        give_everything(service, 1)
    assert set(heavy.statuses) == set(light.statuses) == {200}, (heavy.statuses, light.statuses)
