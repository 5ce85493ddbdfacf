"""Build a package, and prove that one does what it says before it may serve."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.errors import GoldenMismatchError, InvalidDataError
from serve_app.features.core.encoding import EncodedBatch, FeatureEncoder
from serve_app.models.core.manifest import Manifest, Task
from serve_app.models.service.ports import EncoderPort, Model, ModelPort, Package, PackageParts

MIN_GOLDEN_ROWS: Final = 64
GOLDEN_TOLERANCE: Final = 1e-9
"""Largest difference of a reproduced probability; CatBoost is bit-identical on one kind of CPU."""

_MATRIX, _STRING, _OUTPUT, _PROBABILITY = "matrix.", "string.", "output.", "probability"
_INPUT: Final = "input."
_PREFIX: Final = b"scorecat.inputs"
"""Metadata of the golden rows: what stands before the inputs' names; nothing unless one has a name of the others."""


def build_package(
    *,
    manifest: Manifest,
    model: Model,
    vocabularies: Mapping[str, list[str]],
    golden_rows: pa.RecordBatch,
    reference: pa.Table,
) -> Package:
    """Make golden rows from `golden_rows`, and return the package; what writes it says when and with what.

    Parameters
    ----------
    golden_rows : RecordBatch
        At least `MIN_GOLDEN_ROWS` acceptable input rows, as different from one another as possible.

    Raises
    ------
    InvalidDataError
        Too few golden rows, or the encoder rejects one.
    """
    encoder = FeatureEncoder(manifest.features, vocabularies)
    golden = make_golden(encoder, model, golden_rows, manifest.task)
    complete = dataclasses.replace(manifest, model_digest=model.digest)
    return Package(complete, vocabularies, golden, reference, model)


def make_golden(encoder: FeatureEncoder, model: Model, rows: pa.RecordBatch, task: Task = "binary") -> pa.Table:
    """Return input rows, what they encode to and what they score as one table.

    Beside the inputs there is ``matrix.<feature>`` (float32) for each feature, ``string.<feature>``
    for each whose strings reach the model as they are, and the scores (float64): ``probability`` of
    a binary model, ``output.<k>`` for class k of several, ``output.0`` for the value of a regression.
    Where an input has such a name, all inputs are called ``input.<feature>``, and the table's metadata says so.
    """
    if rows.num_rows < MIN_GOLDEN_ROWS:
        raise InvalidDataError(f"a package needs {MIN_GOLDEN_ROWS} golden rows, got {rows.num_rows}")
    encoded = encoder.encode(rows)
    if encoded.errors:
        first = encoded.errors[0]
        raise InvalidDataError(f"golden row {first.row} is not acceptable: {first.feature} {first.detail}")
    given = set(rows.schema.names)
    names = [spec.name for spec in encoder.features if spec.name in given]
    columns = {f"{_MATRIX}{s.name}": pa.array(encoded.matrix[:, j]) for j, s in enumerate(encoder.features)}
    if encoded.strings is not None:
        columns |= {f"{_STRING}{name}": encoded.strings.column(name) for name in encoded.strings.schema.names}
    scores = model.predict(encoded.matrix, encoded.strings)
    if task == "binary":
        columns[_PROBABILITY] = pa.array(scores)
    else:
        columns |= {f"{_OUTPUT}{k}": pa.array(column) for k, column in enumerate(np.atleast_2d(scores.T))}
    prefix = "" if columns.keys().isdisjoint(names) else _INPUT
    table = pa.table({**{f"{prefix}{name}": rows.column(name) for name in names}, **columns})
    return table.replace_schema_metadata({_PREFIX: prefix}) if prefix else table


def golden_inputs(package: PackageParts) -> pa.RecordBatch:
    """Return the input columns of the golden rows as one batch."""
    golden = package.golden
    prefix = (golden.schema.metadata or {}).get(_PREFIX, b"").decode()
    present = set(golden.column_names)
    names = [name for name in package.manifest.feature_names if f"{prefix}{name}" in present]
    inputs = golden.select([f"{prefix}{name}" for name in names]).rename_columns(names)
    return inputs.replace_schema_metadata(None).combine_chunks().to_batches()[0]


def golden_matrix(package: PackageParts) -> NDArray[np.float32]:
    """Return the matrix the golden rows must encode to, (n, n_features)."""
    columns = [package.golden.column(f"{_MATRIX}{name}").to_numpy() for name in package.manifest.feature_names]
    return np.asfortranarray(np.column_stack(columns), dtype=np.float32)


def golden_strings(package: PackageParts) -> pa.RecordBatch | None:
    """Return the strings the golden rows must hand to the model; None when it takes none."""
    names = [spec.name for spec in package.manifest.features if spec.is_string]
    if not names:
        return None
    golden = package.golden.select([f"{_STRING}{name}" for name in names]).rename_columns(names)
    return golden.combine_chunks().to_batches()[0]


def golden_scores(package: PackageParts) -> NDArray[np.float64]:
    """Return the scores the model must reproduce, (n,) or (n, k)."""
    manifest, golden = package.manifest, package.golden
    if manifest.task == "multiclass":
        return np.column_stack([golden.column(f"{_OUTPUT}{k}").to_numpy() for k in range(len(manifest.classes))])
    name = _PROBABILITY if manifest.task == "binary" else f"{_OUTPUT}0"
    return np.asarray(golden.column(name).to_numpy())


def prove_encoder(package: PackageParts, encoder: FeatureEncoder) -> None:
    """Raise GoldenMismatchError unless the golden rows encode to their matrix exactly."""
    check_encoded(package, encoder.encode(golden_inputs(package)))


def check_encoded(package: PackageParts, encoded: EncodedBatch) -> None:
    """Raise GoldenMismatchError unless this is exactly what the golden rows must encode to."""
    expected = golden_matrix(package)
    if encoded.errors:
        first = encoded.errors[0]
        raise GoldenMismatchError(f"the encoder rejects golden row {first.row}: {first.feature} {first.detail}")
    if encoded.matrix.shape != expected.shape:
        raise GoldenMismatchError(f"the encoder gives {encoded.matrix.shape}, the package says {expected.shape}")
    differs = (encoded.matrix != expected) & ~(np.isnan(encoded.matrix) & np.isnan(expected))
    if differs.any():
        row, column = (int(i[0]) for i in np.nonzero(differs))
        raise GoldenMismatchError(
            f"golden row {row} encodes {package.manifest.feature_names[column]} to {encoded.matrix[row, column]!r}, "
            f"the package says {expected[row, column]!r}"
        )
    strings = golden_strings(package)
    if strings is not None and (encoded.strings is None or not encoded.strings.equals(strings)):
        raise GoldenMismatchError("the encoder hands other strings to the model than the golden rows say")


def prove_model(package: Package) -> None:
    """Raise GoldenMismatchError unless the model reproduces the golden scores to 1e-9.

    The tolerance is absolute for probabilities, and relative for values of a regression above 1.
    """
    check_scores(package, package.model.predict(golden_matrix(package), golden_strings(package)))


def check_scores(package: PackageParts, found: NDArray[np.float64]) -> None:
    """Raise GoldenMismatchError unless these are the golden scores, to the tolerance of `prove_model`."""
    expected = golden_scores(package)
    if found.shape != expected.shape:
        raise GoldenMismatchError(f"the model gives scores of shape {found.shape}, the package says {expected.shape}")
    worst = float(np.max(np.abs(found - expected) / np.maximum(1.0, np.abs(expected))))
    if not worst <= GOLDEN_TOLERANCE:
        raise GoldenMismatchError(
            f"the model differs from its golden scores by up to {worst:g} (allowed {GOLDEN_TOLERANCE:g})"
        )


async def prove_replicas(
    package: PackageParts, encoder: EncoderPort, model: ModelPort, *, n_rows: int, timeout_s: float
) -> None:
    """Send the first golden rows through a version's replicas, there and back.

    Raises
    ------
    GoldenMismatchError
        They answer, and wrongly.
    NotReadyError
        They do not answer; each of the two calls has `timeout_s`.
    """
    few = dataclasses.replace(package, golden=package.golden.slice(0, n_rows))
    encoded = await encoder.encode(golden_inputs(few), timeout_s=timeout_s)
    check_encoded(few, encoded)
    check_scores(few, await model.predict(encoded.for_model, timeout_s=timeout_s))
