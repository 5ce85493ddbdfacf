"""Rows in, matrix out: the one encoder of online requests, batch jobs and training.

`FeatureEncoder.encode` is pure: equal batches give equal matrices to the last bit, whatever other
rows travel with them, and nothing of its input is kept or shared with its output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.errors import InvariantError
from serve_app.features.core.categories import CategoryEncoder, CategoryValues
from serve_app.features.core.numeric_columns import NumericEncoder, describe_rule, reject_null
from serve_app.features.core.row_errors import RowError, list_unreadable
from serve_app.features.core.sources import FROM_DEFAULT, UNSEEN
from serve_app.features.core.specs import FeatureSpec

MAX_EXACT: Final = 2**24
"""Whole numbers below it are exact in float32."""


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """Encoded rows: what CatBoost sees, and what happened to the others.

    Attributes
    ----------
    matrix : ndarray of float32, shape (n_ok, n_features), column-major
        The accepted rows in input order. Category codes are whole numbers below 2**24, exact in
        float32. Column-major because CatBoost predicts large batches from it about 1.6x faster.
    rows : ndarray of int64, shape (n_ok,)
        For each row of the matrix, its index in the input.
    sources : ndarray of uint8, shape (n_ok, n_features)
        Where each value came from: index into `serve_app.features.core.sources.SOURCE_NAMES`.
    errors : tuple of RowError
        One per rejected row, ordered by row.
    strings : RecordBatch or None
        The accepted rows' strings of every feature whose model takes strings as they are, one
        column each; None for a model without such a feature.
    history : ndarray of uint8, shape (n_ok,), or None
        What became of each row's look-up: index into `serve_app.history.core.lookup_status.HISTORY_STATUSES`;
        None where no state is kept.
    """

    matrix: NDArray[np.float32]
    rows: NDArray[np.int64]
    sources: NDArray[np.uint8]
    errors: tuple[RowError, ...]
    strings: pa.RecordBatch | None = None
    history: NDArray[np.uint8] | None = None

    @property
    def for_model(self) -> ModelRows:
        """What the model takes of the rows."""
        return self.matrix, self.strings


ModelRows = tuple[NDArray[np.float32], pa.RecordBatch | None]
"""Encoded rows as the model takes them: `EncodedBatch.matrix` and `EncodedBatch.strings`."""


class FeatureEncoder:
    """Turns record batches into matrices for one model.

    Parameters
    ----------
    features : sequence of FeatureSpec
        The model's inputs in the model's order.
    vocabularies : mapping of str to sequence of str
        For every categorical feature its classes; a class's position is its code. See
        `serve_app.features.core.categories.CategoryEncoder`.

    Raises
    ------
    InvariantError
        A categorical feature has no usable vocabulary, or a null rule refers to a feature that is
        not there.
    """

    def __init__(self, features: Sequence[FeatureSpec], vocabularies: Mapping[str, Sequence[str]]) -> None:
        self.features = tuple(features)
        self._index = {spec.name: i for i, spec in enumerate(self.features)}
        self._categories = {
            j: CategoryEncoder(spec, vocabularies.get(spec.name))
            for j, spec in enumerate(self.features)
            if spec.kind == "categorical"
        }
        self._numbers = NumericEncoder(self.features)
        self._strings = [encoder for encoder in self._categories.values() if encoder.spec.is_string]
        for spec in self.features:
            self._check_number(spec)

    def _check_number(self, spec: FeatureSpec) -> None:
        whole = spec.integer and spec.on_null != "nan" and (spec.maximum or math.inf) < MAX_EXACT
        if spec.kind == "numeric" and (spec.is_string or (spec.is_native and not whole)):
            raise InvariantError(f"{spec.name} is a category to the model: it must be text, or a small whole number")
        source = self._index.get(spec.fill_from) if spec.fill_from else None
        if spec.on_null == "fill_from" and (source is None or self.features[source].on_null == "fill_from"):
            raise InvariantError(f"{spec.name} is filled from {spec.fill_from}, which is no feature with a value")

    def encode(self, batch: pa.RecordBatch, state: Mapping[str, NDArray[np.float32]] | None = None) -> EncodedBatch:
        """Encode a batch; rows that break a rule become `RowError`s and never spoil the others.

        Parameters
        ----------
        batch : RecordBatch
            Columns are found by feature name; a column that is not there counts as all null; other
            columns are ignored. Numeric columns may have any number type, and be boolean where the
            feature takes that (`FeatureSpec.takes_booleans`); categorical ones may have any string
            type, integers, and floats, decimals and UUIDs (`serve_app.features.core.arrow_types`). All may be
            dictionaries or run-end encoded. What the reader of the rows could not read is
            said in the column `UNREADABLE`, see `serve_app.features.core.row_errors`.
        state : mapping of str to ndarray of float32, shape (n,), optional
            What is known of numeric features beside the batch: taken where a row gives no value, NaN
            where nothing is known.

        Raises
        ------
        InvalidDataError
            A column has a type that cannot mean this feature; no row can be right then.

        Notes
        -----
        Pure. Memory: about 3 x 8 bytes per value of one column beside the matrix (4 bytes a value)
        and the sources (1 byte a value).
        """
        n_rows, n_features = batch.num_rows, len(self.features)
        matrix = np.empty((n_rows, n_features), dtype=np.float32, order="F")
        sources = np.zeros((n_rows, n_features), dtype=np.uint8, order="F")
        present = {name: i for i, name in enumerate(batch.schema.names)}
        found = self._numbers.encode(batch, state, matrix, sources)
        labels: dict[str, pa.Array] = {}
        for j, encoder in self._categories.items():
            name = encoder.spec.name
            column = batch.column(present[name]) if name in present else None
            values = encoder.encode(column, n_rows)
            matrix[:, j], labels[name] = values.codes, values.labels
            found += [(j, error) for error in _mark_values(encoder, values, column, sources[:, j])]
        errors = list_unreadable(batch)
        for _, error in sorted(found, key=itemgetter(0)):  # of several, a row's first feature is named
            errors.setdefault(error.row, error)
        for j, spec in enumerate(self.features):
            if spec.on_null == "fill_from" and spec.fill_from is not None:
                missing = sources[:, j] == FROM_DEFAULT
                matrix[:, j] = np.where(missing, matrix[:, self._index[spec.fill_from]], matrix[:, j])
        rows = np.arange(n_rows, dtype=np.int64)
        if not errors:
            return EncodedBatch(matrix, rows, sources, (), self._take_strings(labels, rows))
        rows = np.setdiff1d(rows, np.fromiter(errors, np.int64, len(errors)))
        return EncodedBatch(
            np.asfortranarray(matrix[rows]),
            rows,
            np.asfortranarray(sources[rows]),
            tuple(errors[row] for row in sorted(errors)),
            self._take_strings(labels, rows),
        )

    def _take_strings(self, labels: Mapping[str, pa.Array], rows: NDArray[np.int64]) -> pa.RecordBatch | None:
        if not self._strings:
            return None
        arrays = [encoder.strings(labels[encoder.spec.name], rows) for encoder in self._strings]
        return pa.RecordBatch.from_arrays(arrays, [encoder.spec.name for encoder in self._strings])


def _mark_values(
    encoder: CategoryEncoder, values: CategoryValues, column: pa.Array | None, sources: NDArray[np.uint8]
) -> list[RowError]:
    """Say of a category where its values came from, and return the errors of its rows."""
    spec = encoder.spec
    errors: list[RowError] = []
    if values.broken is not None and column is not None:
        said = f"{describe_rule(spec)}, got"
        errors += [RowError(row, spec.name, f"{said} {column[row].as_py()}", "type") for row in _where(values.broken)]
    if values.missing is not None:
        np.multiply(values.missing.view(np.uint8), FROM_DEFAULT, out=sources)
        if spec.on_null == "reject":
            errors += [reject_null(spec, row) for row in _where(values.missing)]
    if values.unseen is not None:
        np.putmask(sources, values.unseen, UNSEEN)
        if spec.on_unseen == "reject":
            errors += [
                RowError(row, spec.name, encoder.describe_unseen(values.labels[row].as_py()), "unseen")
                for row in _where(values.unseen)
            ]
    return errors


def _where(mask: NDArray[np.bool_]) -> list[int]:
    found: list[int] = np.flatnonzero(mask).tolist()
    return found
