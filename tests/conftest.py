"""Fixtures of all folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from serve_app.models.adapters.package_dir import load_package
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.models.catboost.scorer import CatBoostScorer
from serve_app.models.service.ports import Package
from tests.testing_kit import make_package
from tests.testing_kit.cluster.one_service import OneService, kind_of
from tests.testing_kit.cluster.service_process import ServiceProcess

collect_ignore = ["clients"]  # have an environment of their own, see tests.real_clients
settings.register_profile("any machine", settings.default, deadline=None)  # a busy one is slow, which is no fault
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--times-examples", default=1, type=int, help="Let random tests try so many times as many examples."
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    folders = list(dict.fromkeys(item.path.parent for item in items))
    items.sort(key=lambda item: (folders.index(item.path.parent), kind_of(item.fixturenames)))
    if (times := config.getoption("--times-examples")) > 1:
        _multiply_examples(items, times)


@pytest.fixture(scope="session")
def package_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real package on disk; read it, do not change it."""
    directory = tmp_path_factory.mktemp("package") / "purchase"
    make_package(directory)
    return directory


@pytest.fixture(scope="session")
def package(package_dir: Path) -> Package:
    """The same package, loaded."""
    return load_package(package_dir, CatBoostScorer.load)


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneService]:
    """Where tests ask for a running service."""
    services = OneService(tmp_path_factory.mktemp)
    yield services
    services.down()


@pytest.fixture
def serve_champion(package_dir: Path) -> Callable[[ServiceProcess], None]:
    """Make the small real package version 1 and the champion of a service that is not up yet."""

    def prepare(process: ServiceProcess) -> None:
        registry = DirectoryRegistry(process.home / "registry")
        registry.move_alias("purchase", "champion", registry.publish("purchase", package_dir))

    return prepare


def _multiply_examples(items: list[pytest.Item], times: int) -> None:
    for test in {item.function for item in items if hasattr(item.function, "hypothesis")}:
        usual = getattr(test, "_hypothesis_internal_use_settings", settings.default)
        test._hypothesis_internal_use_settings = settings(usual, max_examples=times * usual.max_examples)
