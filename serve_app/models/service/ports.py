"""What the use cases need from outside, as protocols; adapters and deployments implement them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.features.core.encoding import EncodedBatch
from serve_app.features.core.row_errors import RowError
from serve_app.models.core.alias_log import AliasMove
from serve_app.models.core.manifest import Manifest
from serve_app.models.core.outputs import Extra

CHAMPION: Final = "champion"
"""The alias of the version that is served."""


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


@dataclass(frozen=True, slots=True)
class Aliases:
    """The aliases of one model as read at one moment.

    Attributes
    ----------
    versions : mapping of str to int
        Version by alias.
    token : str
        Changes with every move; hand it back to move on condition that nothing moved since.
    """

    versions: Mapping[str, int]
    token: str


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """What a publish that did not come to its end left behind; it is never listed as a version.

    Attributes
    ----------
    what : str
        ``version 4``, or the name of a staging folder.
    begun_at : str
        ISO 8601 time in UTC; empty when nothing tells.
    by : str
        Who began it; empty when nothing tells.
    """

    what: str
    begun_at: str
    by: str


class Registry(Protocol):
    """Where packages live: immutable numbered versions and movable aliases."""

    @property
    def where(self) -> str:
        """The root as a person writes it."""
        ...

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        ...

    def versions(self, name: str) -> list[int]:
        """Return the versions of a model, ascending; empty when there is no such model."""
        ...

    def publish(self, name: str, directory: Path) -> int:
        """Copy a finished package in as the next version, all or nothing, and return its number."""
        ...

    def manifest(self, name: str, version: int) -> Manifest:
        """Return the manifest of a version without the rest of the package."""
        ...

    def check(self, name: str, version: int) -> Manifest:
        """Return the manifest of a version after checking every file of it; raises PackageError, NotFoundError.

        Blocks while it reads, and fetches first when need be.
        """
        ...

    def locate(self, name: str, version: int) -> Path:
        """Return a local directory with the package, fetched first when need be; raises NotFoundError.

        What was fetched once is answered without the network. Blocks while it fetches.
        """
        ...

    def open_stored(self, name: str, version: int) -> AbstractContextManager[Path]:
        """Give a directory with the package's bytes as they are kept now, whatever was fetched before."""
        ...

    def resolve(self, name: str, wanted: str) -> int:
        """Return the version a number or alias stands for; raises NotFoundError."""
        ...

    def aliases(self, name: str) -> Aliases:
        """Return the aliases of a model; empty when none was ever set."""
        ...

    def history(self, name: str) -> list[AliasMove]:
        """Return every move of a model's aliases, oldest first."""
        ...

    def move_alias(
        self, name: str, alias: str, version: int, *, expected: Aliases | None = None, reason: str = ""
    ) -> Aliases:
        """Point an alias at a version; ConflictError when aliases changed since `expected` was read."""
        ...

    def remove_alias(self, name: str, alias: str, *, expected: Aliases | None = None, reason: str = "") -> Aliases:
        """Delete an alias, as `move_alias` does; BadRequestError for the champion."""
        ...

    def unfinished(self) -> dict[str, list[UnfinishedUpload]]:
        """Return what cut-short publishes left behind, by model; also of models that have no version yet."""
        ...

    def clean(self, name: str, older_than_s: float) -> list[UnfinishedUpload]:
        """Remove what cut-short publishes begun that long ago left behind, and return it."""
        ...


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
