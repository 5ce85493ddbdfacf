"""A model as its author made it, read from a file and loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from catboost import CatBoost

from serve_app.models.catboost.facts import read_facts
from serve_app.models.catboost.scorer import load_catboost
from serve_app.models.catboost.vocabulary import read_borders
from serve_app.models.core.model_facts import ModelFacts
from serve_app.models.untrusted.model_file import ModelFile, read_model_file
from serve_app.models.untrusted.sandbox import Limits


@dataclass(frozen=True, slots=True)
class Original:
    """A loaded model and what is known of it.

    Attributes
    ----------
    file : ModelFile
    model : CatBoost
    facts : ModelFacts
    borders : dict of int to tuple of float
        Split points of numeric features by position.
    """

    file: ModelFile
    model: CatBoost
    facts: ModelFacts
    borders: dict[int, tuple[float, ...]]


def read_original(path: Path, folder: Path, limits: Limits | None = None) -> Original:
    """Read a model file, see `serve_app.models.untrusted.model_file.read_model_file`, and load its model."""
    file = read_model_file(path, folder, limits)
    model = load_catboost(file.model)
    return Original(file, model, read_facts(model), read_borders(model))
