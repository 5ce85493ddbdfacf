"""What a CatBoost model file says of its own features: importance and interactions, without any rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from catboost import CatBoost, CatBoostError

from serve_app.errors import PackageError
from serve_app.models.catboost.files import load_catboost
from serve_app.models.service.model_sections import GlobalFigures

_KINDS = {"FeatureImportance": "importance", "Interaction": "interactions"}


def load_facts(path: Path, names: Sequence[str], *, n_interactions: int = 10) -> GlobalFigures:
    """Read a model file's global figures.

    Parameters
    ----------
    path : Path
        A ``.cbm`` file.
    names : sequence of str
        The package's features in the model's order; the file may know them by number only.
    n_interactions : int
        Pairs to keep.

    Raises
    ------
    PackageError
        The file is no readable model, or has another number of features.

    Notes
    -----
    Importance is CatBoost's PredictionValuesChange; a model with leaf weights needs no data for it. A scaled
    model (`set_scale_and_bias`) has no interactions.
    """
    model = load_catboost(path)
    if len(model.feature_names_) != len(names):
        raise PackageError(f"{path} has {len(model.feature_names_)} features, its manifest {len(names)}")
    missing: list[str] = []
    values, pairs = (_figures(model, kind, missing) for kind in _KINDS)
    importance = [(name, float(value)) for name, value in zip(names, values, strict=False)]
    interactions = [(names[int(a)], names[int(b)], float(strength)) for a, b, strength in pairs[:n_interactions]]
    return GlobalFigures(
        int(model.tree_count_),
        tuple(sorted(importance, key=lambda pair: -pair[1])),
        tuple(interactions),
        tuple(missing),
    )


def _figures(model: CatBoost, kind: str, missing: list[str]) -> Any:
    """Return CatBoost's answer, or nothing and why."""
    try:
        return model.get_feature_importance(type=kind)
    except CatBoostError as exc:
        missing.append(f"{_KINDS[kind]}: {exc}")
        return []
