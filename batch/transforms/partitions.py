"""Folders of the output by the values of columns, see `serve_app.storage.file_names`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve_app.errors import InvalidDataError
from serve_app.features.core.arrow_types import meaning_of
from serve_app.features.core.row_errors import RowError
from serve_app.runtime.near_names import LOOSE, hint_similar
from serve_app.storage.file_names import name_partition

MAX_NAME_BYTES: Final = 255
"""Of a folder's name, on every common file system."""
LONG_NAME: Final = "its folder's name would have"
MAX_PARTITIONS: Final = 1_000
"""Folders that one chunk may fill; more means that the column is an id and no partition."""
_ADDED: Final = ("recommendation", "label", "version")
"""Columns that scoring adds whose values may become folders."""
_FITS: Final = ("text", "integer", "boolean", "date", "timestamp", "decimal", "null")


def check_partitions(
    names: Sequence[str], kept: pa.Schema, there: Sequence[str], added: Sequence[str], labels: Sequence[str]
) -> None:
    """Raise InvalidDataError unless the values of these columns can become folders.

    Parameters
    ----------
    names : sequence of str
    kept : Schema
        Columns of the input that travel to the output.
    there : sequence of str
        All columns of the input.
    added : sequence of str
        Columns that scoring adds.
    labels : sequence of str
        Values of the column ``label``.
    """
    known = [*kept.names, *(name for name in added if name in _ADDED)]
    for name in names:
        if name not in known:
            _refuse_absent(name, known, there)
        values = labels if name == "label" and name not in kept.names else [""]
        if any(len(name_partition(name, value)) > MAX_NAME_BYTES for value in values):
            raise InvalidDataError(
                f"--partition-by {name}: its folders would have names of more than {MAX_NAME_BYTES} bytes, which no "
                "file system takes: choose another column"
            )
        if names.count(name) > 1:
            raise InvalidDataError(f"--partition-by names {name} more than once")
        kind = kept.field(name).type if name in kept.names else pa.string()
        if meaning_of(kind) not in _FITS:
            raise InvalidDataError(
                f"--partition-by {name}: the column holds {kind}, whose values are no names of folders: choose one of "
                "texts, whole numbers, booleans, dates or times"
            )


def _refuse_absent(name: str, known: Sequence[str], there: Sequence[str]) -> None:
    if name in there:
        raise InvalidDataError(
            f"--partition-by {name}: the column is not carried along: add {name} to --keep (over HTTP `keep`)"
        )
    hint = hint_similar(name, [*known, *there], LOOSE)
    raise InvalidDataError(f"--partition-by {name}: the output has no such column{hint}; there are {', '.join(known)}")


def find_long_names(keys: pa.Table) -> dict[int, RowError]:
    """Return the rows whose value is too long for the name of a folder."""
    errors: dict[int, RowError] = {}
    for name in keys.column_names:
        values, found = _encode(name, keys.column(name))
        lengths = np.array([len(name_partition(name, value)) for value in values])
        for row in np.flatnonzero(lengths[found] > MAX_NAME_BYTES).tolist():
            text = f"{LONG_NAME} {lengths[found[row]]:,} bytes, more than {MAX_NAME_BYTES}"
            errors.setdefault(row, RowError(row, name, text, "range"))
    return errors


def split_partitions(keys: pa.Table) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Yield the folder of each combination of values and the rows it is of; every row is in one.

    Raises
    ------
    InvalidDataError
        There are more folders than `MAX_PARTITIONS`, or a value cannot be a name.
    """
    codes = np.zeros(keys.num_rows, dtype=np.int64)
    columns = []
    for name in keys.column_names:
        values, found = _encode(name, keys.column(name))
        columns.append((name, values, found))
        codes = np.unique(codes * len(values) + found, return_inverse=True)[1].astype(np.int64)
    n_folders = int(codes.max(initial=-1)) + 1
    if n_folders > MAX_PARTITIONS:
        raise InvalidDataError(
            f"--partition-by {','.join(keys.column_names)} would make {n_folders} folders of one unit: "
            "choose a column of few values"
        )
    order = np.argsort(codes, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        yield "/".join(name_partition(name, values[found[rows[0]]]) for name, values, found in columns), rows


def _encode(name: str, column: pa.ChunkedArray) -> tuple[list[Any], NDArray[np.int64]]:
    """Return the values of a column, null first, and which of them each row has."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    try:
        values = encoded.dictionary.to_pylist()
    except (ValueError, OverflowError) as exc:
        raise InvalidDataError(f"--partition-by {name}: a value cannot be the name of a folder: {exc}") from exc
    return [None, *values], pc.fill_null(encoded.indices, -1).to_numpy().astype(np.int64) + 1
