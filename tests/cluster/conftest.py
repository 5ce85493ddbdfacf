from __future__ import annotations

import pytest

from tests.testing_kit.cluster.one_service import OneService
from tests.testing_kit.cluster.service_process import ServiceProcess


@pytest.fixture
def service(services: OneService, serve_champion) -> ServiceProcess:
    """A service in profile laptop that serves the small real package."""
    return services.ask("service", serve_champion)
