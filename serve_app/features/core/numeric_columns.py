"""Numeric features of a batch: read, checked and filled, as many columns at a time as are cheap together.

A NumPy call costs about a microsecond whatever it is given, so few rows take all columns at once; many rows take
them one by one, where a column still fits the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.features.core.arrow_types import as_plain, is_encoded
from serve_app.features.core.categories import find_nulls
from serve_app.features.core.column_types import check_type
from serve_app.features.core.row_errors import RowError
from serve_app.features.core.sources import FROM_DEFAULT, FROM_STATE
from serve_app.features.core.specs import FeatureSpec

BLOCK_VALUES: Final = 16_384
"""Values that are worked on at once, 128 KB as float64."""


class NumericEncoder:
    """The numeric features of one model.

    Parameters
    ----------
    features : sequence of FeatureSpec
        All of the model's inputs in the model's order.
    """

    def __init__(self, features: Sequence[FeatureSpec]) -> None:
        self._features = features
        self._at = [j for j, spec in enumerate(features) if spec.kind == "numeric"]

        specs = [features[j] for j in self._at]
        # Bounds from above are checked on float32, what the model sees; the others on float64.
        self._above = _fill_gaps((s.above for s in specs), -np.inf).astype(np.float32)
        self._minimum = _fill_gaps((s.minimum for s in specs), -np.inf)
        self._maximum = _fill_gaps((s.maximum for s in specs), np.inf)
        self._is_whole = np.array([s.integer for s in specs], dtype=bool)
        self._keeps_nan = np.array([s.on_null == "nan" for s in specs], dtype=bool)
        fills = _fill_gaps((float(s.fill) if s.on_null == "fill" and s.fill is not None else None for s in specs), 0.0)
        self._fill = fills.astype(np.float32)
        self._has_fill = np.array([s.on_null == "fill" and s.fill is not None for s in specs], dtype=bool)

    def encode(
        self,
        batch: pa.RecordBatch,
        state: Mapping[str, NDArray[np.float32]] | None,
        matrix: NDArray[np.float32],
        sources: NDArray[np.uint8],
    ) -> list[tuple[int, RowError]]:
        """Fill the numeric columns of `matrix` and `sources`; return errors with their feature's position.

        Raises
        ------
        InvalidDataError
            A column cannot mean its feature.
        """
        errors: list[tuple[int, RowError]] = []
        step = max(1, BLOCK_VALUES // max(batch.num_rows, 1))
        for start in range(0, len(self._at), step):
            self._encode_block(batch, state or {}, slice(start, start + step), matrix, sources, errors)
        return errors

    def _encode_block(
        self,
        batch: pa.RecordBatch,
        state: Mapping[str, NDArray[np.float32]],
        block: slice,
        matrix: NDArray[np.float32],
        sources: NDArray[np.uint8],
        errors: list[tuple[int, RowError]],
    ) -> None:
        at = self._at[block]
        is_run = at[-1] - at[0] == len(at) - 1
        out = matrix[:, at[0] : at[-1] + 1] if is_run else np.empty((len(matrix), len(at)), np.float32, order="F")
        values, missing = self._read(batch, at)
        with np.errstate(over="ignore", invalid="ignore"):
            out[:] = values
            bad = self._find_bad(values, out, missing, block)
        if bad.any():
            errors += self._describe_bad(values, bad, at)
        if missing is not None:
            marks = self._fill_missing(out, missing, state, block)
            errors += self._describe_missing(missing, at)
            sources[:, at] = marks
        if not is_run:
            matrix[:, at] = out

    def _read(self, batch: pa.RecordBatch, at: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
        """Return values (n, k) and which are null, None when none is."""
        if len(at) == 1:  # a large column, which is not copied
            column = self._find_column(batch, at[0])
            if column is not None:
                alone = find_nulls(column)
                floats = as_floats(self._features[at[0]], column)
                return floats[:, np.newaxis], None if alone is None else alone[:, np.newaxis]
        values = np.empty((batch.num_rows, len(at)), dtype=np.float64, order="F")
        missing: NDArray[np.bool_] | None = None
        for k, j in enumerate(at):
            column = self._find_column(batch, j)
            values[:, k] = np.nan if column is None else as_floats(self._features[j], column)
            nulls = True if column is None else find_nulls(column)
            if nulls is not None:
                if missing is None:
                    missing = np.zeros(values.shape, dtype=bool, order="F")
                missing[:, k] = nulls
        return values, missing

    def _find_column(self, batch: pa.RecordBatch, j: int) -> pa.Array | None:
        index = batch.schema.get_field_index(self._features[j].name)
        if index < 0:
            return None
        column = batch.column(index)
        return as_plain(column) if is_encoded(column.type) else column

    def _find_bad(
        self, values: NDArray[np.float64], out: NDArray[np.float32], missing: NDArray[np.bool_] | None, block: slice
    ) -> NDArray[np.bool_]:
        # Finiteness is checked on float32, which is what the model sees: a price of 1e300 is finite as float64
        # and infinite as float32.
        bad: NDArray[np.bool_] = ~np.isfinite(out)
        above, minimum, maximum = self._above[block], self._minimum[block], self._maximum[block]
        if above.max() > -np.inf:
            bad |= ~(out > above)
        if minimum.max() > -np.inf:
            bad |= values < minimum
        if maximum.min() < np.inf:
            bad |= values > maximum
        if self._is_whole[block].any():
            bad |= (np.floor(values) != values) & self._is_whole[block]
        if missing is not None:
            bad &= ~missing
        if self._keeps_nan[block].any():
            bad &= ~(np.isnan(values) & self._keeps_nan[block])
        return bad

    def _fill_missing(
        self,
        out: NDArray[np.float32],
        missing: NDArray[np.bool_],
        state: Mapping[str, NDArray[np.float32]],
        block: slice,
    ) -> NDArray[np.uint8]:
        """Fill nulls in place; take what the state knows out of `missing`, and return the source of every value."""
        # a masked assignment takes ten times as long as `where` and `multiply`
        if self._keeps_nan[block].any():
            out[:] = np.where(missing & self._keeps_nan[block], np.float32(np.nan), out)
        names = [self._features[j].name for j in self._at[block]]
        is_known: NDArray[np.bool_] | None = None
        if not state.keys().isdisjoint(names):
            nothing = np.full(len(out), np.nan, dtype=np.float32)
            known = np.stack([state.get(name, nothing) for name in names], axis=1)
            is_known = missing & ~np.isnan(known)
            out[:] = np.where(is_known, known, out)
            missing &= ~is_known
        has_fill = self._has_fill[block]
        if has_fill.any():
            out[:] = np.where(missing if has_fill.all() else missing & has_fill, self._fill[block], out)
        marks = np.multiply(missing.view(np.uint8), FROM_DEFAULT)
        if is_known is not None:
            np.putmask(marks, is_known, FROM_STATE)
        return marks

    def _describe_bad(
        self, values: NDArray[np.float64], bad: NDArray[np.bool_], at: Sequence[int]
    ) -> list[tuple[int, RowError]]:
        found = []
        for row, k in np.argwhere(bad).tolist():
            spec = self._features[at[k]]
            detail = f"{describe_rule(spec)}, got {values[row, k]:g}"
            found.append((at[k], RowError(row, spec.name, detail, "range")))
        return found

    def _describe_missing(self, missing: NDArray[np.bool_], at: Sequence[int]) -> list[tuple[int, RowError]]:
        found = []
        for k, j in enumerate(at):
            spec = self._features[j]
            if spec.on_null == "reject" and missing[:, k].any():
                found += [(j, reject_null(spec, row)) for row in np.flatnonzero(missing[:, k]).tolist()]
        return found


def _fill_gaps(values: Iterable[float | None], absent: float) -> NDArray[np.float64]:
    return np.array([absent if value is None else value for value in values], dtype=np.float64)


def reject_null(spec: FeatureSpec, row: int) -> RowError:
    """Return the error of a row that lacks what it cannot be scored without."""
    return RowError(row, spec.name, f"{describe_required(spec)}, got null", "null")


def describe_rule(spec: FeatureSpec) -> str:
    """Return the rule for a feature's values in words, for example ``must be a whole number from 0 to 23``."""
    if spec.kind == "categorical":
        return "must be a string"
    if spec.takes_booleans and spec.integer:
        return "must be 0, 1, true or false"
    noun = "a whole number" if spec.integer else "a finite number"
    if spec.above is not None:
        return f"must be {noun} above {spec.above:g}"
    if spec.minimum is not None and spec.maximum is not None:
        return f"must be {noun} from {spec.minimum:g} to {spec.maximum:g}"
    if spec.minimum is not None:
        return f"must be {noun} of at least {spec.minimum:g}"
    return f"must be {noun}"


def describe_required(spec: FeatureSpec) -> str:
    """Return what is said when a value without which no row can be scored is not there."""
    return f"is required and {describe_rule(spec)}"


def as_floats(spec: FeatureSpec, column: pa.Array) -> NDArray[np.float64]:
    """Return a column as float64; what stands where a value is null means nothing. Raises InvalidDataError."""
    kind = column.type
    check_type(spec, kind)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    floats = column if kind == pa.float64() else column.cast(pa.float64(), safe=False)
    data = floats.buffers()[1]
    if data is None:
        return np.full(len(floats), np.nan)
    # What stands where a value is null means nothing; `find_nulls` says where.
    return np.frombuffer(data, np.float64, count=floats.offset + len(floats))[floats.offset :]
