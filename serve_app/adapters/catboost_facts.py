"""What a CatBoost model says about itself: task, classes, features, how its raw score is read."""

from __future__ import annotations

import json
from typing import Any, Final

from catboost import CatBoost, CatBoostError

from serve_app.core.errors import InvalidDataError
from serve_app.core.manifest import Task
from serve_app.core.model_facts import ModelFacts

_BINARY_LOSSES: Final = ("Logloss", "CrossEntropy", "Focal")
_MULTICLASS_LOSSES: Final = ("MultiClass", "MultiClassOneVsAll")
_EXPONENT_LOSSES: Final = ("Poisson", "Tweedie")
"""Losses whose raw score is the logarithm of the value; CatBoost's regressor predicts the exponent."""


def read_facts(model: CatBoost) -> ModelFacts:
    """Read a loaded model's facts.

    Raises
    ------
    InvalidDataError
        The model has text or embedding features, several outputs that are no classes, or repeats a
        feature's name; the message names the feature.
    """
    if not model.is_fitted():
        raise InvalidDataError("the model was never trained")
    names = tuple(str(name) for name in model.feature_names_ or ())
    _refuse_features(model, names)
    loss = _read_loss(model)
    labels = tuple(str(label) for label in model.classes_)
    n_outputs = count_outputs(model)
    task = _choose_task(loss, labels, n_outputs)
    prediction = "Probability"
    if task == "regression":
        prediction = "Exponent" if loss in _EXPONENT_LOSSES else "RawFormulaVal"
    return ModelFacts(
        task=task,
        loss=loss,
        classes=_check_classes(task, labels, n_outputs),
        feature_names=names,
        is_named=names != tuple(str(i) for i in range(len(names))),
        categorical=tuple(int(i) for i in model.get_cat_feature_indices()),
        prediction=prediction,
        is_pair=task == "binary" and n_outputs > 1,
        n_trees=int(model.tree_count_),
        scale=float(model.get_scale_and_bias()[0]),
    )


def _refuse_features(model: CatBoost, names: tuple[str, ...]) -> None:
    for kind, positions in (
        ("text", model.get_text_feature_indices()),
        ("embedding", model.get_embedding_feature_indices()),
    ):
        if positions:
            found = ", ".join(names[i] for i in positions)
            raise InvalidDataError(
                f"{found}: {kind} features cannot be served, only numeric and categorical ones (a row here is a row "
                f"of a table). Train without {'it' if len(positions) == 1 else 'them'}"
            )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InvalidDataError(f"the model has several features named {', '.join(repeated)}: inputs are found by name")
    if not names:
        raise InvalidDataError("the model has no features")


def _choose_task(loss: str, labels: tuple[str, ...], n_outputs: int) -> Task:
    if loss in _BINARY_LOSSES or (loss == "MultiClass" and len(labels) == 2):  # noqa: PLR2004
        return "binary"
    if loss in _MULTICLASS_LOSSES:
        return "multiclass"
    if n_outputs > 1:
        raise InvalidDataError(
            f"the model has {n_outputs} outputs and the loss {loss or 'is not known'}: only binary and multiclass "
            f"classifiers and models with one number a row can be served"
        )
    # Only classifiers keep labels: its loss is not known, or was written in Python.
    return "binary" if labels else "regression"


def _check_classes(task: Task, labels: tuple[str, ...], n_outputs: int) -> tuple[str, ...]:
    if task == "regression":
        return ()
    found = labels or (("0", "1") if task == "binary" else ())
    if len(found) != (2 if task == "binary" else n_outputs):
        raise InvalidDataError(f"damaged: a {task} model of {n_outputs} outputs that names {len(found)} classes")
    return found


def count_outputs(model: CatBoost) -> int:
    """Return how many raw scores a row has."""
    bias: Any = model.get_scale_and_bias()[1]
    return len(bias) if isinstance(bias, list) else 1


def _read_loss(model: CatBoost) -> str:
    try:
        loss = json.loads(model.get_metadata()["params"])["loss_function"]["type"]
    except (KeyError, ValueError, TypeError, CatBoostError):
        return ""
    return str(loss)
