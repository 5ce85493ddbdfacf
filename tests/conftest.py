"""Fixtures of all folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.adapters.catboost_model import CatBoostScorer
from serve_app.adapters.package_dir import load_package
from serve_app.service.ports import Package
from tests.testing_kit import make_package


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
