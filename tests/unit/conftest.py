"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testing_kit.rollouts import RolloutWorld


@pytest.fixture
def world(tmp_path: Path, package_dir: Path) -> Iterator[RolloutWorld]:
    """A served model whose rollouts can be run by hand."""
    world = RolloutWorld(tmp_path, package_dir)
    yield world
    world.store.close()
