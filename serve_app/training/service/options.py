"""What a training is made with: options, and what it takes from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

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


TrainModel = Callable[..., Model]
"""Trains a model, see `serve_app.models.catboost.scorer.train_classifier`."""


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
    allow : tuple of str
        Guards overridden by name.
    bands : BandRule or None
        How the bounds of the recommendation are set; None means as the parent's were, or 0.5 and 0.7.
    """

    name: str = "purchase"
    seed: int = 0
    params: Mapping[str, Any] = field(default_factory=lambda: dict(DEFAULT_PARAMS))
    max_rows: int = 2_000_000
    allow: tuple[str, ...] = ()
    bands: BandRule | None = None
