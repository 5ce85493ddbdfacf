"""Build a package, and prove that one does what it says before it may serve."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.core.encoding import FeatureEncoder
from serve_app.core.errors import GoldenMismatchError, InvalidDataError
from serve_app.core.manifest import Manifest
from serve_app.service.ports import Model, Package, PackageParts

MIN_GOLDEN_ROWS: Final = 64
GOLDEN_TOLERANCE: Final = 1e-9
"""Largest difference of a reproduced probability; CatBoost is bit-identical on one kind of CPU."""

PackageWriter = Callable[[Path, Package], Manifest]
"""Writes a package into an empty directory and returns its manifest with the file hashes."""


def build_package(
    directory: Path,
    *,
    manifest: Manifest,
    model: Model,
    vocabularies: Mapping[str, list[str]],
    golden_rows: pa.RecordBatch,
    reference: pa.Table,
    save: PackageWriter,
) -> Manifest:
    """Make golden rows from `golden_rows` and write the whole package into `directory`.

    Parameters
    ----------
    golden_rows : RecordBatch
        At least `MIN_GOLDEN_ROWS` acceptable input rows, as different from one another as possible.
    save : PackageWriter
        What writes the files, see `serve_app.adapters.package_dir.save_package`.

    Raises
    ------
    InvalidDataError
        Too few golden rows, or the encoder rejects one.
    """
    encoder = FeatureEncoder(manifest.features, vocabularies)
    golden = make_golden(encoder, model, golden_rows)
    complete = dataclasses.replace(manifest, model_digest=model.digest)
    return save(directory, Package(complete, vocabularies, golden, reference, model))


def make_golden(encoder: FeatureEncoder, model: Model, rows: pa.RecordBatch) -> pa.Table:
    """Return input rows, their matrix (``matrix.<feature>``) and their probability as one table."""
    if rows.num_rows < MIN_GOLDEN_ROWS:
        raise InvalidDataError(f"a package needs {MIN_GOLDEN_ROWS} golden rows, got {rows.num_rows}")
    encoded = encoder.encode(rows)
    if encoded.errors:
        first = encoded.errors[0]
        raise InvalidDataError(f"golden row {first.row} is not acceptable: {first.feature} {first.detail}")
    names = [spec.name for spec in encoder.features if spec.name in rows.schema.names]
    table = pa.Table.from_batches([rows.select(names)])
    for j, spec in enumerate(encoder.features):
        table = table.append_column(f"matrix.{spec.name}", pa.array(encoded.matrix[:, j], pa.float32()))
    return table.append_column("probability", pa.array(model.predict(encoded.matrix), pa.float64()))


def golden_inputs(package: PackageParts) -> pa.RecordBatch:
    """Return the input columns of the golden rows as one batch."""
    names = [n for n in package.golden.column_names if n != "probability" and not n.startswith("matrix.")]
    return package.golden.select(names).combine_chunks().to_batches()[0]


def golden_matrix(package: PackageParts) -> NDArray[np.float32]:
    """Return the matrix the golden rows must encode to, (n, n_features)."""
    columns = [package.golden.column(f"matrix.{name}").to_numpy() for name in package.manifest.feature_names]
    return np.asfortranarray(np.column_stack(columns), dtype=np.float32)


def prove_encoder(package: PackageParts, encoder: FeatureEncoder) -> None:
    """Raise GoldenMismatchError unless the golden rows encode to their matrix exactly."""
    encoded = encoder.encode(golden_inputs(package))
    expected = golden_matrix(package)
    if encoded.errors:
        first = encoded.errors[0]
        raise GoldenMismatchError(f"the encoder rejects golden row {first.row}: {first.feature} {first.detail}")
    differs = (encoded.matrix != expected) & ~(np.isnan(encoded.matrix) & np.isnan(expected))
    if differs.any():
        row, column = (int(i[0]) for i in np.nonzero(differs))
        raise GoldenMismatchError(
            f"golden row {row} encodes {package.manifest.feature_names[column]} to {encoded.matrix[row, column]!r}, "
            f"the package says {expected[row, column]!r}"
        )


def prove_model(package: Package) -> None:
    """Raise GoldenMismatchError unless the model reproduces the golden probabilities to 1e-9."""
    found = package.model.predict(golden_matrix(package))
    expected = package.golden.column("probability").to_numpy()
    worst = float(np.max(np.abs(found - expected)))
    if not worst <= GOLDEN_TOLERANCE:
        raise GoldenMismatchError(
            f"the model differs from its golden probabilities by up to {worst:g} (allowed {GOLDEN_TOLERANCE:g})"
        )
