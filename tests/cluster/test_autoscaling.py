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


@pytest.mark.parametrize(
    ("slow", "grows", "stays"), [("encoder", "Encoder", "CatBoostModel"), ("model", "CatBoostModel", "Encoder")]
)
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
    load = Load(service.url, n_clients=32)
    load.start()
    try:
        wait_for(lambda: len(service.deployments()[app][grows]) >= 2, 40, f"{grows} to grow")
        assert len(service.deployments()[app][stays]) == 1
        load.stop()
        wait_for(lambda: len(service.deployments()[app][grows]) == 1, 60, f"{grows} to shrink again")
    finally:
        load.stop()
        SplitFile(service.home / "state" / "split.json").write(
            {"revision": f"after-{slow}", "model": "purchase", "stable": 1}
        )
        wait_for(
            lambda: httpx.get(f"{service.url}/readyz").json().get("model") == "purchase", 15, "the split to go back"
        )
    assert set(load.statuses) == {200}, load.statuses
