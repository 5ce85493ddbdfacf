"""Fixtures of all folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from serve_app.models.adapters.package_dir import load_package
from serve_app.models.catboost.scorer import CatBoostScorer
from serve_app.models.service.ports import Package
from tests.testing_kit import make_package

collect_ignore = ["clients"]  # have an environment of their own, see tests.real_clients
settings.register_profile("any machine", settings.default, deadline=None)  # a busy one is slow, which is no fault
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--times-examples", default=1, type=int, help="Let random tests try so many times as many examples."
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
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


def _multiply_examples(items: list[pytest.Item], times: int) -> None:
    for test in {item.function for item in items if hasattr(item.function, "hypothesis")}:
        usual = getattr(test, "_hypothesis_internal_use_settings", settings.default)
        test._hypothesis_internal_use_settings = settings(usual, max_examples=times * usual.max_examples)
