"""What a served model can answer for each row, by its task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from serve_app.models.core.manifest import Manifest

Extra = Literal["raw", "shap"]
"""What the model computes only when it is asked to."""
EXTRAS: Final[tuple[Extra, ...]] = ("raw", "shap")
MAX_EXPLAINED_ROWS: Final = 1000
"""Rows of one request that may be explained: their answer has as many values as features, and one, for each."""


@dataclass(frozen=True, slots=True)
class Output:
    """One thing a model can answer for each of n rows.

    Attributes
    ----------
    datatype : {"FP64", "BYTES", "INT64"}
        As the Open Inference Protocol names it.
    shape : tuple of int
        Shape of one row's answer; empty for a single value.
    is_default : bool
        Whether it is answered unasked.
    """

    datatype: str
    shape: tuple[int, ...] = ()
    is_default: bool = False


def list_outputs(manifest: Manifest) -> dict[str, Output]:
    """Return what a model can answer, by name.

    ``probability`` of class 1 of a binary model or of each class, or the ``prediction`` of a
    regression; the ``recommendation`` (binary) and the ``label``; the ``raw`` score, before the
    link function; ``shap`` values, the last one being the bias, which add up to the raw score; and
    the ``version`` that answered.
    """
    n_classes = len(manifest.class_labels)
    each: tuple[int, ...] = (n_classes,) if manifest.task == "multiclass" else ()
    width = len(manifest.features) + 1
    outputs = {name_prediction(manifest): Output("FP64", each, is_default=True)}
    if manifest.task == "binary":
        outputs["recommendation"] = Output("BYTES", is_default=True)
    if manifest.task != "regression":
        outputs["label"] = Output("BYTES", is_default=manifest.task == "multiclass")
    return {
        **outputs,
        "raw": Output("FP64", each),
        "shap": Output("FP64", (*each, width)),
        "version": Output("INT64", is_default=True),
    }


def name_prediction(manifest: Manifest) -> str:
    """Return the name of the first output: ``probability``, or ``prediction`` of a regression."""
    return "prediction" if manifest.task == "regression" else "probability"


def choose_labels(manifest: Manifest, predictions: NDArray[np.float64]) -> NDArray[np.str_]:
    """Return the most probable class of each row, (n,); empty for rows whose prediction is NaN.

    Of two classes the second is chosen from a probability of 0.5 on; of several, the first of the
    most probable ones.
    """
    labels = np.array([*manifest.class_labels, ""])
    if predictions.ndim == 1:
        codes = (predictions >= 0.5).astype(np.int64)  # noqa: PLR2004
        codes[np.isnan(predictions)] = -1
    else:
        bad = np.asarray(np.isnan(predictions).any(axis=1))
        codes = np.where(bad, -1, np.argmax(np.where(bad[:, None], 0.0, predictions), axis=1))
    return labels[codes]


@dataclass(frozen=True, slots=True)
class Reason:
    """How much one feature moved a row's raw score.

    Attributes
    ----------
    feature : str
    contribution : float
        SHAP value, on the raw scale (log-odds of a binary model).
    """

    feature: str
    contribution: float


def choose_reasons(names: Sequence[str], shap: NDArray[np.float64], n: int = 5) -> list[Reason]:
    """Return the n features that moved one row's raw score most, strongest first.

    Parameters
    ----------
    names : sequence of str
        The model's features.
    shap : ndarray of float64, shape (n_features + 1,)
    """
    order = np.argsort(-np.abs(shap[:-1]), kind="stable")[:n]
    return [Reason(names[k], float(shap[k])) for k in order.tolist()]
