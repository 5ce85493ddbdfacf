"""A package as a directory of files: write it, and read it back only when every hash fits."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from serve_app.errors import PackageError
from serve_app.models.core.manifest import Manifest, parse_manifest
from serve_app.models.service.ports import Model, Package, PackageParts

MANIFEST: Final = "manifest.json"
MODEL: Final = "model.cbm"
VOCABULARIES: Final = "vocabularies.json"
GOLDEN: Final = "golden.parquet"
REFERENCE: Final = "reference.parquet"
FILES: Final = (MODEL, VOCABULARIES, GOLDEN, REFERENCE)
_LIBRARIES: Final = ("catboost", "numpy", "pyarrow", "scorecat")


def save_package(directory: Path, package: Package) -> Manifest:
    """Write a package into `directory` and return its manifest with the hash of every other file.

    The manifest says now and these libraries, unless it says a time and libraries already. It is written last, so a
    directory that was cut short has none and is never read.
    """
    directory.mkdir(parents=True, exist_ok=True)
    package.model.save(directory / MODEL)
    (directory / VOCABULARIES).write_text(json.dumps(dict(package.vocabularies), ensure_ascii=False), "utf-8")
    pq.write_table(package.golden, directory / GOLDEN)
    pq.write_table(package.reference, directory / REFERENCE)
    manifest = dataclasses.replace(
        package.manifest,
        created_at=package.manifest.created_at or datetime.now(UTC).isoformat(timespec="seconds"),
        libraries=package.manifest.libraries or {name: version(name) for name in _LIBRARIES},
        files={name: hash_file(directory / name) for name in FILES},
    )
    (directory / MANIFEST).write_bytes(manifest.dump())
    for name in (*FILES, MANIFEST):
        sync_file(directory / name)
    return manifest


def load_package(directory: Path, load_model: Callable[[Path, Manifest], Model]) -> Package:
    """Read a package, checking the hash of every file first.

    Parameters
    ----------
    directory : Path
    load_model : callable
        ``load_model(path, manifest)``, see `serve_app.models.catboost.scorer.CatBoostScorer.load`.

    Raises
    ------
    PackageError
        A file is missing, altered or unreadable; the message names it.
    """
    parts = load_parts(directory)
    model = load_model(directory / MODEL, parts.manifest)
    return Package(parts.manifest, parts.vocabularies, parts.golden, parts.reference, model)


def load_parts(directory: Path) -> PackageParts:
    """Read a package but its model, checking the hash of every file (the model's too) first."""
    manifest = load_manifest(directory)
    check_files(directory, manifest)
    try:
        vocabularies = json.loads((directory / VOCABULARIES).read_bytes())
        golden = pq.read_table(directory / GOLDEN)
        reference = pq.read_table(directory / REFERENCE)
        _check_vocabularies(vocabularies)
    except (ValueError, TypeError, AttributeError, RecursionError, OSError, pa.ArrowException) as exc:
        raise PackageError(f"{directory} is not readable: {exc}") from exc
    return PackageParts(manifest, vocabularies, golden, reference)


def _check_vocabularies(value: object) -> None:
    """Raise ValueError unless a value is a table of lists of classes."""
    if not isinstance(value, dict) or not all(
        isinstance(classes, list) and all(isinstance(label, str) for label in classes) for classes in value.values()
    ):
        raise ValueError(f"{VOCABULARIES} is no table of lists of texts")


def load_manifest(directory: Path) -> Manifest:
    """Read only the manifest; raises PackageError when there is none."""
    try:
        return parse_manifest((directory / MANIFEST).read_bytes())
    except OSError as exc:
        raise PackageError(f"{directory / MANIFEST} cannot be read: {exc.strerror}") from exc


def check_package(directory: Path) -> Manifest:
    """Return the manifest of a package whose every file was checked; raises PackageError."""
    manifest = load_manifest(directory)
    check_files(directory, manifest)
    return manifest


def check_files(directory: Path, manifest: Manifest) -> None:
    """Raise PackageError unless the files are exactly those of the manifest, byte for byte."""
    for name in FILES:
        if name not in manifest.files:
            raise PackageError(f"{directory / MANIFEST} does not list {name}")
    foreign = sorted(manifest.files.keys() - set(FILES))
    if foreign:
        raise PackageError(f"{directory / MANIFEST} lists {foreign[0]}, which is no file of a package")
    extra = sorted({p.name for p in directory.iterdir()} - {MANIFEST, *manifest.files})
    if extra:
        raise PackageError(f"{directory} has files that its manifest does not list: {', '.join(extra)}")
    for name, expected in manifest.files.items():
        path = directory / name
        if path.is_symlink() or not path.is_file():
            raise PackageError(f"{path} is missing: the package is torn, publish it again")
        if hash_file(path) != expected:
            raise PackageError(f"{path} was altered or cut short: its SHA-256 is not the one in manifest.json")


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    """Flush a file to disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
