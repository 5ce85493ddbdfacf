"""What a CatBoost model says about itself: task, classes, features, how its raw score is read."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

from catboost import CatBoost

from serve_app.errors import InvalidDataError
from serve_app.models.core.manifest import Task
from serve_app.models.core.model_facts import ModelFacts

_BINARY_LOSSES: Final = ("Logloss", "CrossEntropy", "Focal")
"""Losses of two classes even where a file has no labels: those are 0 and 1 then."""
_LABEL_LOSSES: Final = ("MultiLogloss", "MultiCrossEntropy")
"""Losses of several yes-or-no questions a row: their files name the questions as if they were classes."""
_NUMBER_LOSSES: Final = ("RMSEWithUncertainty", "MultiRMSE", "MultiRMSEWithMissingValues", "MultiQuantile")
_EXPONENT_LOSSES: Final = ("Poisson", "Tweedie")
"""Losses whose raw score is the logarithm of the value; CatBoost's regressor predicts the exponent."""


def read_facts(model: CatBoost) -> ModelFacts:
    """Read a loaded model's facts.

    Raises
    ------
    InvalidDataError
        The model has text or embedding features, several outputs that are no classes, names no classes
        for them, or repeats a feature's name; the message names the feature.
    """
    if not model.is_fitted():
        raise InvalidDataError("the model was never trained")
    names = tuple(str(name) for name in model.feature_names_ or ())
    _refuse_features(model, names)
    losses = _read_losses(model)
    labels = tuple(str(label) for label in model.classes_)
    n_outputs = count_outputs(model)
    task = _choose_task(losses, labels, n_outputs)
    prediction = "Probability"
    if task == "regression":
        prediction = "Exponent" if losses and set(losses) <= set(_EXPONENT_LOSSES) else "RawFormulaVal"
    return ModelFacts(
        task=task,
        loss=" and ".join(losses),
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
    repeated = sorted(name for name, n in Counter(names).items() if n > 1)
    if repeated:
        raise InvalidDataError(f"the model has several features named {', '.join(repeated)}: inputs are found by name")
    if not names:
        raise InvalidDataError("the model has no features")


def _choose_task(losses: tuple[str, ...], labels: tuple[str, ...], n_outputs: int) -> Task:
    """Return what the labels and outputs of a file make of it; a loss may be written in Python, or be a sum's.

    Only classifiers keep labels. Where the file does not say otherwise, CatBoost's probabilities are the softmax
    of several outputs, so that two of them are one log-odds.
    """
    said = f"loss {' and '.join(losses) or 'not known'}"
    refused = ""
    if set(losses) & set(_LABEL_LOSSES):
        refused = "labels that do not exclude one another"
    elif n_outputs > 1 and set(losses) & set(_NUMBER_LOSSES):
        refused = f"{n_outputs} numbers"
    if refused:
        raise InvalidDataError(
            f"the model answers {refused} for each row ({said}); served are classes that exclude one another, or one "
            "number: train a model for each, with Logloss or RMSE for example"
        )
    if n_outputs == 1:
        return "binary" if labels or set(losses) & set(_BINARY_LOSSES) else "regression"
    if not labels:
        raise InvalidDataError(
            f"the model has {n_outputs} outputs ({said}) and its file names no classes: train it as "
            "CatBoostClassifier(class_names=[...]), which writes them into the file, or with one output a row"
        )
    if len(losses) > 1:
        raise InvalidDataError(
            f"the model is a sum of models with different losses ({said}), so nothing says what its {n_outputs} "
            "outputs are: sum models of one loss"
        )
    return "binary" if len(labels) == n_outputs == 2 and losses != ("MultiClassOneVsAll",) else "multiclass"  # noqa: PLR2004


def _check_classes(task: Task, labels: tuple[str, ...], n_outputs: int) -> tuple[str, ...]:
    if task == "regression":
        return ()
    found = labels or ("0", "1")
    expected = 2 if task == "binary" else n_outputs
    if len(found) != expected:
        raise InvalidDataError(
            f"the model names {len(found)} classes and has outputs for {expected}: it is damaged, or some had no row "
            "in training. Train it with the classes that have rows alone (classes_count and class_names left out)"
        )
    return found


def count_outputs(model: CatBoost) -> int:
    """Return how many raw scores a row has."""
    bias: Any = model.get_scale_and_bias()[1]
    return len(bias) if isinstance(bias, list) else 1


def _read_losses(model: CatBoost) -> tuple[str, ...]:
    """Return the name of the loss; those of its parts for a sum of models that differ; none if nothing says."""
    metadata = dict(model.get_metadata().items())
    texts = [metadata.get("loss_function", "")]  # a sum of models of one loss says it here
    # A model has `params`; a sum has them empty, and those of its parts, which may be sums, as `model0:params`.
    texts += [text for key, text in sorted(metadata.items()) if key.rpartition(":")[2] in ("params", "loss_function")]
    return tuple(dict.fromkeys(loss for text in texts if (loss := _parse_loss(text))))


def _parse_loss(text: str) -> str:
    try:
        value = json.loads(text)
        return str(value.get("loss_function", value)["type"])
    except (KeyError, ValueError, TypeError, AttributeError):
        return ""
