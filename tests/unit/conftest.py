"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.training.service import assessment
from tests.testing_kit.rollouts.rollouts import RolloutWorld


@pytest.fixture
def world(tmp_path: Path, package_dir: Path) -> Iterator[RolloutWorld]:
    """A served model whose rollouts can be run by hand."""
    world = RolloutWorld(tmp_path, package_dir)
    yield world
    world.store.close()


@pytest.fixture(scope="session", autouse=True)
def few_rounds_for_slices() -> Iterator[None]:
    """Intervals of a slice of the test rows from 20 rounds in place of 100.

    There are some thirty slices, no test is about how exact their intervals are, and most of the time of
    training a small model goes into them. `tests/unit/stats/test_metrics.py` is about the intervals themselves.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assessment, "SLICE_ROUNDS", 20)
        yield
