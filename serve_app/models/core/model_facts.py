"""What a model says about itself: task, classes, features, how its raw score is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from serve_app.errors import InvalidDataError
from serve_app.features.core.row_errors import RESERVED
from serve_app.features.core.specs import FeatureSpec
from serve_app.models.core.manifest import Task

MAX_INPUTS: Final = 10_000
"""Inputs of an imported model: golden rows and pages hold each of them some 300 to 1,300 times."""
MAX_NAME_CHARACTERS: Final = 512
"""Characters of an input's or a class's name, as many as a label of a request may have."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model's own account.

    Attributes
    ----------
    task : {"binary", "multiclass", "regression"}
    loss : str
        CatBoost's loss function without its parameters; empty when the file does not say, several by
        ``and`` for a sum of models that differ.
    classes : tuple of str
        Labels of the classes in the model's order; empty for a regression.
    feature_names : tuple of str
        Inputs in the model's order.
    is_named : bool
        False when the names are only CatBoost's positions: the model was trained on a bare matrix.
    categorical : tuple of int
        Positions of native categorical features.
    prediction : {"Probability", "RawFormulaVal", "Exponent"}
        CatBoost's prediction type for what `task` promises.
    is_pair : bool
        A binary model with a raw score for each class (trained as a multiclass one).
    n_trees : int
    scale : float
        Factor on the sum of the trees; other than 1 only after `set_scale_and_bias`.
    """

    task: Task
    loss: str
    classes: tuple[str, ...]
    feature_names: tuple[str, ...]
    is_named: bool
    categorical: tuple[int, ...]
    prediction: str
    is_pair: bool
    n_trees: int
    scale: float


def check_size(names: Sequence[str], classes: Sequence[str]) -> None:
    """Raise InvalidDataError when there are too many inputs, or a name is too long or taken."""
    if len(names) > MAX_INPUTS:
        raise InvalidDataError(f"the model has {len(names):,} inputs, more than the {MAX_INPUTS:,} that can be served")
    for name in (*names, *classes):
        if len(name) > MAX_NAME_CHARACTERS:
            raise InvalidDataError(
                f"the name {name[:40]}... has {len(name):,} characters, more than {MAX_NAME_CHARACTERS}: "
                "train the model with shorter names"
            )
    if any(RESERVED in name for name in names):
        raise InvalidDataError(
            f"an input's name holds the code point {RESERVED!a}, which is no character: give it another name"
        )


def check_features(facts: ModelFacts, features: Sequence[FeatureSpec]) -> None:
    """Raise InvalidDataError unless the model's inputs are these features, in this order.

    An empty sequence stands for numbers only.
    """
    if not features:
        if facts.categorical:
            named = ", ".join(facts.feature_names[i] for i in facts.categorical)
            raise InvalidDataError(f"the model takes {named} as native categories, which has to be declared")
        return
    if len(features) != len(facts.feature_names):
        raise InvalidDataError(f"the model has {len(facts.feature_names)} inputs, {len(features)} are declared")
    for j, (spec, name) in enumerate(zip(features, facts.feature_names, strict=True)):
        if facts.is_named and spec.name != name:
            raise InvalidDataError(f"input {j + 1} of the model is {name}, declared is {spec.name}: the order matters")
        if spec.is_native != (j in facts.categorical):
            theirs, ours = ("a native category", "a number")[:: 1 if j in facts.categorical else -1]
            raise InvalidDataError(f"{spec.name} is {theirs} to the model and declared to reach it as {ours}")
