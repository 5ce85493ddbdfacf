"""What the use cases need from outside, as protocols; adapters and deployments implement them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.core.alias_log import AliasMove
from serve_app.core.encoding import EncodedBatch
from serve_app.core.manifest import Manifest

CHAMPION: Final = "champion"
"""The alias of the version that is served."""


class Model(Protocol):
    """A trained model that turns matrices into probabilities."""

    @property
    def digest(self) -> str:
        """SHA-256 over trees and leaf values."""
        ...

    def predict(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probability of the positive class, (n,), for an (n, n_features) matrix."""
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
        At least 64 input rows with their matrix (columns ``matrix.<feature>``, float32) and
        ``probability`` (float64).
    reference : Table
        Distribution profile of features and scores, see `serve_app.core.profile`.
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


class EncoderPort(Protocol):
    """The Encoder replicas of one version."""

    async def encode(self, batch: pa.RecordBatch, *, timeout_s: float) -> EncodedBatch:
        """Encode a batch; raises ReplicaLostError when no replica answers in time."""
        ...


class ModelPort(Protocol):
    """The CatBoostModel replicas of one version."""

    async def predict(self, matrix: NDArray[np.float32], *, timeout_s: float) -> NDArray[np.float64]:
        """Return probabilities (n,); raises ReplicaLostError when no replica answers in time."""
        ...


class SplitSource(Protocol):
    """Where Gateways read which versions answer."""

    def read(self) -> Mapping[str, Any] | None:
        """Return the current split record, or None when there is none yet."""
        ...
