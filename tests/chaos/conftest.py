from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.models.adapters.registry_folder import DirectoryRegistry
from tests.testing_kit.cluster.service_process import ServiceProcess


def start(home: Path, package_dir: Path, profile: str) -> ServiceProcess:
    process = ServiceProcess(home)
    registry = DirectoryRegistry(home / "registry")
    registry.move_alias("purchase", "champion", registry.publish("purchase", package_dir))
    process.up("--profile", profile)
    return process


@pytest.fixture(scope="module")
def laptop(tmp_path_factory, package_dir) -> Iterator[ServiceProcess]:
    process = start(tmp_path_factory.mktemp("laptop"), package_dir, "laptop")
    yield process
    process.down()


@pytest.fixture(scope="module")
def production(tmp_path_factory, package_dir) -> Iterator[ServiceProcess]:
    process = start(tmp_path_factory.mktemp("production"), package_dir, "production")
    yield process
    process.down()
