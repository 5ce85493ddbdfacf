"""The manifest: what a package says about itself.

The manifest is the only JSON object of a package with a meaning beyond its own file: it lists the
features with their rules, the thresholds, the measured quality and the SHA-256 of every other file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from serve_app.errors import BadRequestError, PackageError
from serve_app.features.core.row_keys import KEY_SPECS
from serve_app.features.core.specs import PURCHASE_FEATURES, FeatureSpec
from serve_app.models.core.recommendation import Thresholds

FORMAT_VERSION: Final = 1
Task = Literal["binary", "multiclass", "regression"]
_VOLATILE: Final = ("created_at", "parent_version", "files", "libraries")
"""Members that differ between two equal packages: times, ids, and hashes of files that hold some."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything a package says about itself; see DESIGN, "A package".

    Attributes
    ----------
    name : str
        Model name, for example ``purchase``.
    created_at : str
        ISO 8601 time in UTC; empty until the package is written, as `libraries` is.
    task : {"binary", "multiclass", "regression"}
    features : tuple of FeatureSpec
        Inputs in the model's order.
    classes : tuple of str
        Labels of the classes in the model's order. Empty for a regression, and for a binary model
        whose classes are 0 and 1.
    thresholds : Thresholds
        Bounds of the recommendation bands.
    metrics : dict
        Measured quality and how it was measured.
    training : dict
        Training data: fingerprint, rows, time range, seed, parameters.
    libraries : dict
        Versions of the libraries that made the package.
    model_digest : str
        SHA-256 over the trees and leaf values; equal models have equal digests.
    parent_version : int or None
        The version this one was trained from.
    files : dict of str to str
        SHA-256 (hex) of every other file of the package.
    """

    name: str
    created_at: str
    task: Task
    features: tuple[FeatureSpec, ...]
    classes: tuple[str, ...] = ()
    thresholds: Thresholds = field(default_factory=Thresholds)
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    model_digest: str = ""
    parent_version: int | None = None
    files: dict[str, str] = field(default_factory=dict)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the inputs in the model's order."""
        return tuple(f.name for f in self.features)

    @property
    def categorical_names(self) -> tuple[str, ...]:
        """Names of the categorical inputs."""
        return tuple(f.name for f in self.features if f.kind == "categorical")

    @property
    def inputs(self) -> tuple[FeatureSpec, ...]:
        """What a row may say: the features and, for a model with history, the keys it is looked up by."""
        return (*self.features, *KEY_SPECS) if self.is_purchase else self.features

    @property
    def is_purchase(self) -> bool:
        """Whether the inputs are the 22 purchase features, so that /predict_purchase can serve it."""
        kinds = tuple((f.name, f.kind) for f in self.features)
        return self.task == "binary" and kinds == tuple((f.name, f.kind) for f in PURCHASE_FEATURES)

    @property
    def class_labels(self) -> tuple[str, ...]:
        """Labels of the classes in the model's order; empty for a regression."""
        return self.classes or (("0", "1") if self.task == "binary" else ())

    @property
    def digest(self) -> str:
        """SHA-256 over everything but times, ids and file hashes: equal training gives equal digests."""
        content = {k: v for k, v in self.to_json().items() if k not in _VOLATILE}
        return _checksum(content)

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as a JSON object."""
        value = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        value["features"] = [f.to_json() for f in self.features]
        value["thresholds"] = dataclasses.asdict(self.thresholds)
        value["classes"] = list(self.classes)
        if not self.classes:  # left out, so that packages written before it existed keep their checksum
            del value["classes"]
        return {"format_version": FORMAT_VERSION, **value}

    def dump(self) -> bytes:
        """Return the manifest as UTF-8 JSON, indented for people, ending with its own checksum."""
        value = {**self.to_json(), "checksum": _checksum(self.to_json())}
        return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def parse_manifest(data: bytes) -> Manifest:
    """Parse the bytes of a ``manifest.json``.

    Raises
    ------
    PackageError
        Not JSON, written by a newer scorecat, altered, or a member is missing or of the wrong form.
    """
    try:
        value = json.loads(data)
        found = value.pop("format_version")
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as exc:
        raise PackageError(f"manifest.json is not a scorecat manifest: {exc}") from exc
    if found != FORMAT_VERSION:
        raise PackageError(
            f"manifest.json has format version {found!r}, this scorecat reads {FORMAT_VERSION}: upgrade scorecat"
        )
    try:
        checksum = value.pop("checksum")
        value["features"] = tuple(FeatureSpec.from_json(f) for f in value["features"])
        value["classes"] = tuple(str(label) for label in value.get("classes", ()))
        value["thresholds"] = Thresholds(**value["thresholds"])
        manifest = Manifest(**value)
        files = {str(name): str(digest) for name, digest in manifest.files.items()}
    except (KeyError, TypeError, AttributeError, BadRequestError) as exc:
        raise PackageError(f"manifest.json is incomplete or has unknown members: {exc}") from exc
    # The checksum covers what the file says, the second comparison how it is written: together
    # they catch any altered byte.
    if files != manifest.files or checksum != _checksum(manifest.to_json()) or manifest.dump() != data:
        raise PackageError("manifest.json was altered: it is not what its checksum says. Publish the package again")
    return manifest


def _checksum(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
