"""Folders of the output by the values of columns: ``column=value``, each value a name of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve_app.core.errors import InvalidDataError

MAX_PARTITIONS: Final = 1_000
"""Folders that one chunk may fill; more means that the column is an id and no partition."""
NULL_PARTITION: Final = "__HIVE_DEFAULT_PARTITION__"
EMPTY_PARTITION: Final = "__EMPTY__"
"""An empty text; Hive, and what reads as it does, takes a folder without a value for null."""
_ADDED: Final = ("recommendation", "label", "version")
"""Columns that scoring adds whose values may become folders."""
_FITS: Final = (
    pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_integer, pa.types.is_boolean,
    pa.types.is_date, pa.types.is_timestamp, pa.types.is_decimal, pa.types.is_null,
)  # fmt: skip


def check_partitions(names: Sequence[str], kept: pa.Schema) -> None:
    """Raise InvalidDataError unless the values of these columns can become folders; `kept` are the input's."""
    for name in names:
        if name not in (*kept.names, *_ADDED):
            raise InvalidDataError(f"--partition-by {name}: the output has no such column, see --keep")
        if names.count(name) > 1:
            raise InvalidDataError(f"--partition-by names {name} more than once")
        kind = kept.field(name).type if name in kept.names else pa.string()
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not any(fits(plain) for fits in _FITS):
            raise InvalidDataError(
                f"--partition-by {name}: the column holds {kind}, whose values are no names of folders: choose one of "
                "texts, whole numbers, booleans, dates or times"
            )


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


def name_partition(column: str, value: Any) -> str:
    """Return the folder of a value; no two values of a column have the same, and none leads elsewhere."""
    name = quote(column, safe="")
    if name.startswith(("_", ".")):  # readers pass such folders over
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if value is None:
        return f"{name}={NULL_PARTITION}"
    text = quote(str(value), safe="")
    if text in (NULL_PARTITION, EMPTY_PARTITION):  # the text itself
        text = f"%5F{text[1:]}"
    return f"{name}={text or EMPTY_PARTITION}"


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
