"""From scores to the columns of the output."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batch.transforms.columns import CONTENT
from batch.transforms.partitions import LONG_NAME
from serve_app.features.core.row_errors import UNREADABLE, RowError, Rule
from serve_app.models.core.manifest import Manifest
from serve_app.models.core.outputs import choose_labels, name_prediction
from serve_app.models.core.recommendation import BANDS

REJECTED_SCHEMA: Final = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("column", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("content", pa.string()),
    ]
)
"""A rejected row: where it was (index from 0 in its file), why, and its columns as JSON, or its text."""

_LABEL: Final = pa.dictionary(pa.int8(), pa.string())


class ResultColumns:
    """The columns that scoring adds, for one version.

    Parameters
    ----------
    manifest : Manifest
    version : int
    n_reasons : int
        Features that explain a row, strongest first; 0 for none.
    """

    def __init__(self, manifest: Manifest, version: int, n_reasons: int = 0) -> None:
        self._manifest = manifest
        self._version = version
        self.n_reasons = min(n_reasons, len(manifest.features))
        score = pa.float64()
        if manifest.task == "multiclass":
            score = pa.list_(pa.float64(), len(manifest.class_labels))
        fields = [pa.field(name_prediction(manifest), score)]
        if manifest.task == "binary":
            fields.append(pa.field("recommendation", _LABEL))
        if manifest.task == "multiclass":
            fields.append(pa.field("label", pa.string()))
        fields.append(pa.field("version", pa.int32()))
        if self.n_reasons:
            reason = pa.struct([pa.field("feature", pa.string()), pa.field("contribution", pa.float64())])
            fields.append(pa.field("reasons", pa.list_(reason)))
        self.schema = pa.schema(fields)

    def build(self, predictions: NDArray[np.float64], shap: NDArray[np.float64] | None = None) -> list[pa.Array]:
        """Return the columns for scored rows; `shap` is (n, n_features + 1) when reasons are wanted."""
        n_rows, manifest = len(predictions), self._manifest
        if manifest.task == "multiclass":
            flat = pa.array(np.ascontiguousarray(predictions).reshape(-1))
            columns = [pa.FixedSizeListArray.from_arrays(flat, len(manifest.class_labels))]
            columns.append(pa.array(choose_labels(manifest, predictions).tolist(), pa.string()))
        else:
            columns = [pa.array(predictions)]
        if manifest.task == "binary":
            codes = pa.array(manifest.thresholds.band_many(predictions).astype(np.int8))
            columns.append(pa.DictionaryArray.from_arrays(codes, pa.array(BANDS)))
        columns.append(pa.repeat(pa.scalar(self._version, pa.int32()), n_rows))
        if self.n_reasons and shap is not None:
            columns.append(self._build_reasons(shap))
        return columns

    def _build_reasons(self, shap: NDArray[np.float64]) -> pa.Array:
        n_rows, k = len(shap), self.n_reasons
        order = np.argsort(-np.abs(shap[:, :-1]), axis=1, kind="stable")[:, :k]
        names = pa.array(self._manifest.feature_names).take(pa.array(order.reshape(-1)))
        amounts = pa.array(np.take_along_axis(shap, order, axis=1).reshape(-1))
        reasons = pa.StructArray.from_arrays([names, amounts], ["feature", "contribution"])
        return pa.ListArray.from_arrays(pa.array(np.arange(n_rows + 1, dtype=np.int32) * k), reasons)


NO_ROW: Final = "a line that is no row"
_RULES: Final[dict[Rule, str]] = {
    "null": "no value", "type": "a value of another type", "range": "a value out of its range",
    "unseen": "a category that the model does not know",
}  # fmt: skip


def name_reason(error: RowError) -> str:
    """Return why a row was rejected, without its value: few texts, to count by."""
    is_long = error.detail.startswith(LONG_NAME)  # which the encoder takes for a value that could not be read
    return f"{error.feature}: {'too long a name for a folder' if is_long else _RULES[error.rule]}"


def build_rejected(
    path: str, batch: pa.RecordBatch, errors: Sequence[RowError], row_numbers: NDArray[np.int64]
) -> pa.RecordBatch:
    """Return rejected rows of a batch as rows of `REJECTED_SCHEMA`.

    Parameters
    ----------
    path : str
        File of the batch.
    batch : RecordBatch
        The columns that were read.
    errors : sequence of RowError
        By index in the batch.
    row_numbers : ndarray of int64
        Index in the file of each row of the batch.
    """
    rows = _to_rows(batch.take(pa.array([e.row for e in errors], pa.int64())))
    rejected = [
        {
            "file": path, "row": int(row_numbers[error.row]), "column": error.feature, "reason": error.detail,
            "content": row.pop(CONTENT, None) or _dump(row),
        }
        for error, row in zip(errors, rows, strict=True)
    ]  # fmt: skip
    return pa.RecordBatch.from_pylist(rejected, REJECTED_SCHEMA)


def _to_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return rows as Python values; those that Python has none for as texts."""
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except (ValueError, OverflowError, KeyError, pa.ArrowException):
        columns = [[_to_value(scalar) for scalar in column] for column in batch.columns]
        rows = [dict(zip(batch.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]
    return rows


def _to_value(scalar: pa.Scalar) -> Any:
    """Return a value of Python, or its text: a time after the year 9999, bytes that are no text, names twice."""
    if isinstance(scalar, pa.DictionaryScalar):
        scalar = scalar.value
    with contextlib.suppress(ValueError, OverflowError, KeyError, pa.ArrowException):
        return scalar.as_py()
    if pa.types.is_string(scalar.type) or pa.types.is_large_string(scalar.type):
        return scalar.as_buffer().to_pybytes().decode(errors="replace")
    if pa.types.is_struct(scalar.type):
        members = pa.array([scalar]).flatten()
        return [[field.name, _to_value(member[0])] for field, member in zip(scalar.type, members, strict=True)]
    with contextlib.suppress(ValueError, OverflowError, pa.ArrowException):
        return scalar.cast(pa.string()).as_py()
    return f"a value of {scalar.type} that cannot be shown"


def _dump(row: dict[str, Any]) -> str:
    row.pop(UNREADABLE, None)
    return json.dumps(row, default=str, ensure_ascii=False)


def build_unread(path: str, unread: Sequence[tuple[int, str, str]]) -> pa.RecordBatch:
    """Return lines that are no rows, given as (index in the file, reason, text), as rows of `REJECTED_SCHEMA`."""
    rejected = [{"file": path, "row": row, "reason": reason, "content": text} for row, reason, text in unread]
    return pa.RecordBatch.from_pylist(rejected, REJECTED_SCHEMA)
