"""What the live service must answer for the rows of a log, and how an answer differs from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from serve_app.errors import InvalidDataError
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.specs import HISTORY_NAMES, PURCHASE_NAMES, FeatureSpec
from serve_app.models.service.ports import Package

SCORE: Final = "purchase_probability"
"""Name of the score among the values that are compared."""

_HISTORY: Final = frozenset(HISTORY_NAMES)


@dataclass(frozen=True, slots=True)
class FeatureDifference:
    """One value that is not what it must be.

    Attributes
    ----------
    position : int
        Line of the row in the log, from 0.
    feature : str
        Name of the feature, or `SCORE`, or empty for a row that was answered in another way.
    against : {"table", "matrix", "package"}
        What it was compared with: the vectorised table, the encoder's matrix, the package.
    expected, got : float or str
    """

    position: int
    feature: str
    against: str
    expected: float | str
    got: float | str


@dataclass(frozen=True, slots=True)
class ExpectedRows:
    """What one version must answer for some rows.

    Attributes
    ----------
    specs : sequence of FeatureSpec
        Of the version, in its order.
    table : list of tuple
        Values of each row as the vectorised table has them, numbers as float32: see `read_table`.
    matrix : list of tuple of float
        The encoded row; empty for a row that must be rejected.
    unseen : list of frozenset of str
        Features of each row whose category the vocabulary does not list.
    scores : list of float
    rejected : mapping of int to str
        Rows that must be rejected, with the feature.
    """

    specs: Sequence[FeatureSpec]
    table: list[tuple[float | str, ...]]
    matrix: list[tuple[float, ...]]
    unseen: list[frozenset[str]]
    scores: list[float]
    rejected: Mapping[int, str]


def expect_rows(rows: pa.Table, package: Package) -> ExpectedRows:
    """Compute what a version must answer.

    Parameters
    ----------
    rows : Table
        Rows of `serve_app.training.service.features_table.build_features`.
    package : Package

    Raises
    ------
    InvalidDataError
        The package has other inputs than the purchase model.
    """
    specs = package.manifest.features
    if sorted(spec.name for spec in specs) != sorted(PURCHASE_NAMES):
        raise InvalidDataError(f"{package.manifest.name} does not have the inputs of the purchase model")
    names = [spec.name for spec in specs]
    batch = pa.RecordBatch.from_arrays([rows.column(n).combine_chunks() for n in names], names)
    encoded = FeatureEncoder(specs, package.vocabularies).encode(batch)
    scores = package.model.predict(*encoded.for_model).tolist()
    matrix: list[tuple[float, ...]] = [()] * batch.num_rows
    unseen = [frozenset[str]()] * batch.num_rows
    all_scores = [0.0] * batch.num_rows
    listed = {s.name: set(package.vocabularies.get(s.name, ())) for s in specs if s.kind == "categorical"}
    table = read_table(rows, specs)
    for k, (row, values) in enumerate(zip(encoded.rows.tolist(), encoded.matrix.tolist(), strict=True)):
        matrix[row] = tuple(values)
        all_scores[row] = scores[k]
    for j, spec in enumerate(specs):
        if spec.kind == "categorical":
            nulls = batch.column(j).is_null().to_pylist()
            for row, values_of_row in enumerate(table):
                if not nulls[row] and values_of_row[j] not in listed[spec.name]:
                    unseen[row] |= {spec.name}
    return ExpectedRows(specs, table, matrix, unseen, all_scores, {e.row: e.feature for e in encoded.errors})


def read_table(rows: pa.Table, specs: Sequence[FeatureSpec]) -> list[tuple[float | str, ...]]:
    """Return the features of every row as an answer shows them: numbers as float32, categories by name."""
    columns: list[list[float | str]] = []
    for spec in specs:
        column = rows.column(spec.name).combine_chunks()
        if spec.kind == "categorical":
            names = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
            columns.append([str(spec.fill) if name is None else name for name in names.to_pylist()])
        else:
            columns.append(column.to_numpy(zero_copy_only=False).astype(np.float32).tolist())
    return list(zip(*columns, strict=True))


def compare_answer(
    expected: ExpectedRows, row: int, position: int, features: Mapping[str, Mapping[str, Any]], score: float
) -> tuple[int, list[FeatureDifference]]:
    """Compare the answer for a row, value for value.

    Parameters
    ----------
    expected : ExpectedRows
    row, position : int
        The row in `expected`, and its line in the log.
    features : mapping
        ``features`` of the answer with ``?detail=true``: value and source by name.
    score : float

    Returns
    -------
    (int, list of Difference)
        How many values were compared, and those that differ. A history feature that is not from the state
        is a difference whatever its value: it would be proved by chance.
    """
    if row in expected.rejected:
        why = f"rejected for its {expected.rejected[row]}"
        return 1, [FeatureDifference(position, "", "matrix", why, "a score")]
    found = []
    for j, spec in enumerate(expected.specs):
        answered = features.get(spec.name, {})
        got, source = answered.get("value", "no value"), answered.get("source", "nowhere")
        wanted = expected.table[row][j]
        if got != wanted:
            found.append(FeatureDifference(position, spec.name, "table", wanted, got))
        elif spec.name in _HISTORY and source != "state":
            found.append(
                FeatureDifference(position, spec.name, "table", f"{wanted} from state", f"{got} from {source}")
            )
        if spec.kind == "categorical":
            is_unseen, must_be = bool(answered.get("unseen")), spec.name in expected.unseen[row]
            if is_unseen != must_be:
                words = {True: "unseen", False: "listed"}
                found.append(FeatureDifference(position, spec.name, "matrix", words[must_be], words[is_unseen]))
        elif got != expected.matrix[row][j]:
            found.append(FeatureDifference(position, spec.name, "matrix", expected.matrix[row][j], got))
    if score != expected.scores[row]:
        found.append(FeatureDifference(position, SCORE, "package", expected.scores[row], score))
    return 2 * len(expected.specs) + 1, found
