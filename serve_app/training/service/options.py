"""What a training is made with: options, and what it takes from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from serve_app.models.service.packaging import PackageWriter
from serve_app.models.service.ports import Model
from serve_app.training.core.bands import BandRule

DEFAULT_PARAMS: Final[Mapping[str, Any]] = {
    "iterations": 1000,
    "learning_rate": 0.05,
    "depth": 6,
    "l2_leaf_reg": 6.0,
    "border_count": 128,
    "early_stopping_rounds": 50,
}

DEMO_EVENTS: Final = 400_000
DEMO_PARAMS: Final[Mapping[str, Any]] = {**DEFAULT_PARAMS, "iterations": 400, "learning_rate": 0.08}
"""For a first model in about a minute on two cores."""


class TrainModel(Protocol):
    """Trains a model, see `serve_app.models.catboost.scorer.train_classifier`."""

    def __call__(
        self,
        train: tuple[NDArray[np.float32], NDArray[np.int8]],
        stop: tuple[NDArray[np.float32], NDArray[np.int8]],
        feature_names: Sequence[str],
        *,
        init_model: Path | None = None,
        **params: Any,
    ) -> Model:
        """Train on the first pair, stop early on the second, beginning with the trees of `init_model`."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """What one training is made with.

    Attributes
    ----------
    name : str
        Model name.
    seed : int
        Of CatBoost and of the bootstrap.
    params : mapping
        CatBoost parameters.
    max_rows : int
        Above this many events only a share of the users (by hash) is trained on.
    stop_share, test_share : float
        Shares of the rows, by time, for early stopping and for the test.
    min_count, max_classes : int
        Bounds of the vocabularies.
    by_rate : bool
        Order category codes by the rate of positives in the training slice.
    allow : tuple of str
        Guards overridden by name.
    bands : BandRule or None
        How the bounds of the recommendation are set; None means as the parent's were, or 0.5 and 0.7.
    """

    name: str = "purchase"
    seed: int = 0
    params: Mapping[str, Any] = field(default_factory=lambda: dict(DEFAULT_PARAMS))
    max_rows: int = 2_000_000
    stop_share: float = 0.1
    test_share: float = 0.2
    min_count: int = 20
    max_classes: int = 1000
    by_rate: bool = False
    allow: tuple[str, ...] = ()
    bands: BandRule | None = None


def _say_nothing(_: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class TrainingTools:
    """What a training takes from outside.

    Attributes
    ----------
    fit, save
        What trains and what writes files.
    created_at : str
        ISO 8601 time in UTC.
    libraries : mapping of str to str
        Versions for the manifest.
    report : callable
        Told in a few words what is done next.
    """

    fit: TrainModel
    save: PackageWriter
    created_at: str
    libraries: Mapping[str, str]
    report: Callable[[str], None] = _say_nothing
