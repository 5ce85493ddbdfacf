from __future__ import annotations

import pytest

from tests.testing_kit.cluster.one_service import OneService
from tests.testing_kit.cluster.service_process import ServiceProcess


@pytest.fixture
def laptop(services: OneService, serve_champion) -> ServiceProcess:
    return services.ask("laptop", serve_champion)


@pytest.fixture
def production(services: OneService, serve_champion) -> ServiceProcess:
    return services.ask("production", serve_champion, "--profile", "production")
