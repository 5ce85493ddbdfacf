from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from serve_app.adapters.registry import DirectoryRegistry
from serve_app.adapters.split_file import SplitFile
from tests.load import Load
from tests.service_process import wait_for

pytestmark = pytest.mark.cluster
SCRIPT = Path(__file__).with_name("slow_version.py")


CASES = [("encoder", "Encoder", "CatBoostModel"), ("model", "CatBoostModel", "Encoder")]


def route_to(service, name: str) -> None:
    """Name another served model; the control app leaves a model alone that it has no split of."""
    SplitFile(service.home / "state" / "split.json").write({"revision": 1, "model": name, "stable": 1})
    wait_for_model(service, name)


def wait_for_model(service, name: str) -> None:
    wait_for(lambda: httpx.get(f"{service.url}/readyz").json().get("model") == name, 15, f"the split to reach {name}")


@pytest.mark.parametrize(("slow", "grows", "stays"), CASES)
def test_the_slow_deployment_grows_and_shrinks_and_the_other_stays(service, package_dir, slow, grows, stays):
    name = f"slow-{slow}"
    DirectoryRegistry(service.home / "registry").publish(name, package_dir)
    subprocess.run(
        [sys.executable, str(SCRIPT), str(service.home), name, str(package_dir), slow],
        check=True,
        env=service.environment,
        timeout=120,
    )
    app = f"{name}-v1"
    wait_for_model(service, name)
    heavy, light = Load(service.url, n_clients=32), Load(service.url, n_clients=1)
    try:
        heavy.start()
        wait_for(lambda: len(service.deployments()[app][grows]) >= 2, 40, f"{grows} to grow")
        assert len(service.deployments()[app][stays]) == 1
        light.start()
        heavy.stop()
        wait_for(lambda: len(service.deployments()[app][grows]) == 1, 60, f"{grows} to shrink again")
        light.stop()
    finally:
        heavy.stop()
        route_to(service, "purchase")
    assert set(heavy.statuses) == set(light.statuses) == {200}, (heavy.statuses, light.statuses)
