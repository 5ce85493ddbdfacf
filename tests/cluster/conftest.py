from __future__ import annotations

from collections.abc import Iterator

import pytest

from serve_app.models.adapters.registry_folder import DirectoryRegistry
from tests.testing_kit.cluster.service_process import ServiceProcess


@pytest.fixture(scope="session")
def service(tmp_path_factory, package_dir) -> Iterator[ServiceProcess]:
    """A service in profile laptop that serves the small real package."""
    process = ServiceProcess(tmp_path_factory.mktemp("cluster"))
    registry = DirectoryRegistry(process.home / "registry")
    version = registry.publish("purchase", package_dir)
    registry.move_alias("purchase", "champion", version)
    process.up()
    yield process
    process.down()
