"""What the use cases need from outside, as protocols; adapters and deployments implement them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.features.core.encoding import EncodedBatch
from serve_app.features.core.row_errors import RowError
from serve_app.models.core.manifest import Manifest
from serve_app.models.core.outputs import Extra


class Model(Protocol):
    """A trained model that turns encoded rows into scores."""

    @property
    def digest(self) -> str:
        """SHA-256 over trees and leaf values."""
        ...

    def predict(self, matrix: NDArray[np.float32], strings: pa.RecordBatch | None = None) -> NDArray[np.float64]:
        """Return P(class 1) (n,), of k classes (n, k), or the value of a regression (n,).

        `matrix` is (n, n_features); `strings` are those of `EncodedBatch`, for a model that takes some.
        """
        ...

    def predict_raw(self, matrix: NDArray[np.float32], strings: pa.RecordBatch | None = None) -> NDArray[np.float64]:
        """Return raw scores, (n,) or (n, k)."""
        ...

    def explain(self, matrix: NDArray[np.float32], strings: pa.RecordBatch | None = None) -> NDArray[np.float64]:
        """Return SHAP values with a last axis of n_features + 1, the bias at its end."""
        ...

    def prepare_explanations(self) -> None:
        """Build once what makes `explain` fast; about 0.25 s for 1,000 trees."""
        ...

    @property
    def max_explained_rows(self) -> int | None:
        """Rows that one call of `explain` takes, known after `prepare_explanations`; None for any number."""
        ...

    def save(self, path: Path) -> None:
        """Write the model as a native CatBoost file."""
        ...


@dataclass(frozen=True, slots=True)
class PackageParts:
    """A package without its model, which is all an encoder needs.

    Attributes
    ----------
    manifest : Manifest
    vocabularies : mapping of str to list of str
        Classes of each categorical feature; a class's position is its code.
    golden : Table
        At least 64 input rows with what they encode to and score, see
        `serve_app.models.service.packaging.make_golden`.
    reference : Table
        Distribution profile of features and scores, see `serve_app.stats.profile`.
    """

    manifest: Manifest
    vocabularies: Mapping[str, list[str]]
    golden: pa.Table
    reference: pa.Table


@dataclass(frozen=True, slots=True)
class Package(PackageParts):
    """A package read from disk and proved whole.

    Attributes
    ----------
    model : Model
        The trained model, beside what `PackageParts` has.
    """

    model: Model


def _keep() -> None:
    return None


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Encoded rows of a table on their way to the model.

    Attributes
    ----------
    for_model : object
        What `ModelPort.predict` of the same version takes: the rows, or where they are. Nobody else
        reads them, so large ones need not pass through this process.
    rows : ndarray of int64, shape (n_ok,)
        For each encoded row, its index in the input.
    errors : tuple of RowError
        One per rejected row, ordered by row.
    release : callable
        Gives back what the rows hold; to be called once the rows are predicted.
    """

    for_model: Any
    rows: NDArray[np.int64]
    errors: tuple[RowError, ...]
    release: Callable[[], None] = _keep


class EncoderPort(Protocol):
    """The Encoder replicas of one version; every call raises ReplicaLostError when none answers in time."""

    async def encode(self, batch: pa.RecordBatch, *, timeout_s: float) -> EncodedBatch:
        """Encode a batch and bring everything back."""
        ...

    async def encode_rows(self, batch: pa.RecordBatch, *, timeout_s: float) -> EncodedRows:
        """Encode a batch of a table for the model."""
        ...


class ModelPort(Protocol):
    """The CatBoostModel replicas of one version."""

    async def predict(self, rows: Any, *, timeout_s: float) -> NDArray[np.float64]:
        """Return (n,) or (n, k): what the task promises for `EncodedBatch.for_model` or `EncodedRows.for_model`.

        Raises ReplicaLostError when no replica answers in time.
        """
        ...

    async def compute(self, extra: Extra, rows: Any, *, timeout_s: float) -> NDArray[np.float64]:
        """Return raw scores, (n,) or (n, k), or SHAP values, with a last axis of n_features + 1."""
        ...


class Ongoing(Protocol):
    """Knows how many requests or calls are under way in this replica; it is scaled and drained by that."""

    def begin(self) -> None:
        """Count one that begins."""
        ...

    def end(self) -> None:
        """Count one that ended."""
        ...


class SplitSource(Protocol):
    """Where Gateways read which versions answer."""

    def read(self) -> Mapping[str, Any] | None:
        """Return the current split record, or None when there is none yet."""
        ...
