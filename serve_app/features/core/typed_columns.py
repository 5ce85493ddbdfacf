"""Values of any format to typed columns, with a row error for each value that does not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from serve_app.errors import InvalidDataError, PayloadTooLargeError
from serve_app.features.core.arrow_types import as_plain, longest_bytes, stored_values
from serve_app.features.core.cells import convert_values
from serve_app.features.core.column_types import check_type
from serve_app.features.core.row_errors import RESERVED, RowError, add_unreadable
from serve_app.features.core.row_keys import MAX_ID_LENGTH, convert_keys
from serve_app.features.core.specs import FeatureSpec, arrow_schema

MAX_ROWS: Final = 100_000
MAX_COLUMNS: Final = 1_024
MAX_TEXT_BYTES: Final = 4 * MAX_ID_LENGTH
"""A character has four bytes at most."""


@dataclass(frozen=True, slots=True)
class ParsedTable:
    """Rows of a request.

    Attributes
    ----------
    batch : RecordBatch
        Columns by feature name; columns of no feature are gone. The column `UNREADABLE` tells the
        encoder of values that are of no use; the batch has null there.
    ignored : tuple of str
        Names of the columns of no feature that were there.
    """

    batch: pa.RecordBatch
    ignored: tuple[str, ...] = ()


def check_shape(n_rows: int, n_columns: int) -> None:
    """Raise PayloadTooLargeError when a request has more rows or columns than allowed."""
    if n_rows > MAX_ROWS:
        raise PayloadTooLargeError(f"one request may have {MAX_ROWS} rows, not {n_rows}: send slices")
    if n_columns > MAX_COLUMNS:
        raise PayloadTooLargeError(f"one request may have {MAX_COLUMNS} columns, not {n_columns}")


def table_from_lists(columns: Mapping[str, Sequence[Any]], features: Sequence[FeatureSpec], n_rows: int) -> ParsedTable:
    """Build a table from one list of values a column, each `n_rows` long."""
    check_shape(n_rows, len(columns))
    errors: dict[int, RowError] = {}
    arrays, fields = [], []
    for spec, field in zip(features, arrow_schema(tuple(features)), strict=True):
        if spec.name in columns:
            arrays.append(convert_values(spec, field.type, columns[spec.name], errors))
            fields.append(field)
    return finish_table(arrays, fields, features, n_rows, errors, list_unknown(columns, features))


def table_from_arrow(table: pa.Table, features: Sequence[FeatureSpec]) -> ParsedTable:
    """Build a table from Arrow columns; the encoder understands their types."""
    check_shape(table.num_rows, table.num_columns)
    names = refuse_doubles(table.column_names, features)
    check_types(table.schema, features)
    columns = [table.column(name) for name in names]
    fields = [table.schema.field(name) for name in names]
    return finish_table(columns, fields, features, table.num_rows, {}, list_unknown(table.column_names, features))


def refuse_doubles(given: Sequence[str], features: Sequence[FeatureSpec]) -> list[str]:
    """Return the features that are there, in the model's order; InvalidDataError when one is there twice."""
    times = Counter(given)
    names = [spec.name for spec in features if spec.name in times]
    double = sorted(name for name in names if times[name] > 1)
    if double:
        raise InvalidDataError(f"these columns are there twice: {', '.join(double)}")
    return names


def list_unknown(given: Iterable[str], features: Sequence[FeatureSpec]) -> tuple[str, ...]:
    """Return the columns of no feature, in their order."""
    known = {spec.name for spec in features}
    return tuple(name for name in given if name not in known)


def check_types(schema: pa.Schema, features: Sequence[FeatureSpec]) -> None:
    """Refuse columns whose type cannot mean their feature, before anything of them is decoded.

    Decoding first would let a few kilobytes fill the memory: one long value may stand in every row.

    Raises
    ------
    InvalidDataError
        A column means nothing that its feature can be.
    """
    for spec in features:
        for at in schema.get_all_field_indices(spec.name):
            check_type(spec, schema.field(at).type)


def finish_table(
    arrays: Sequence[pa.Array | pa.ChunkedArray],
    fields: list[pa.Field],
    features: Sequence[FeatureSpec],
    n_rows: int,
    errors: dict[int, RowError],
    ignored: Sequence[str] = (),
) -> ParsedTable:
    """Check what all formats have in common: strings of a sane length, and keys.

    Which columns have to be there is for `serve_app.http.column_names.check_columns` to say.
    """
    columns = {f.name: _flatten(f.name, array) for f, array in zip(fields, arrays, strict=True)}
    if not arrays:
        return ParsedTable(pa.RecordBatch.from_arrays([pa.nulls(n_rows)], names=[RESERVED]), tuple(ignored))
    keys = {s.name: columns[s.name] for s in features if s.group == "key" and s.name in columns}
    columns |= convert_keys(keys, errors)
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    return ParsedTable(add_unreadable(batch, errors.values()), tuple(ignored))


def check_arrow(table: pa.Table, features: Sequence[FeatureSpec]) -> None:
    """Check the columns that are features, before and then by reading all of their values.

    Raises
    ------
    InvalidDataError
        A type cannot mean its feature, or a string is too long: reading a view of it in every row would take minutes.
    pa.ArrowInvalid
        The values are damaged.
    """
    table.validate()
    check_types(table.schema, features)
    names = {spec.name for spec in features}
    used = table.select([at for at, name in enumerate(table.column_names) if name in names])
    for name, column in zip(used.column_names, used.columns, strict=True):
        for chunk in column.chunks:
            _check_bytes(name, longest_bytes(chunk))
    used.validate(full=True)


def _check_bytes(name: str, n_bytes: int) -> None:
    if n_bytes > MAX_TEXT_BYTES:
        raise InvalidDataError(f"column {name} has a string of {n_bytes} bytes; at most {MAX_ID_LENGTH} characters")


def check_strings(name: str, column: pa.Array) -> None:
    """Refuse a column with a string that is too long; nothing is decoded, one long one may stand in every row.

    Raises
    ------
    InvalidDataError
    """
    n_bytes = longest_bytes(column)
    if n_bytes <= MAX_ID_LENGTH:  # a sixth of the time of counting characters
        return
    _check_bytes(name, n_bytes)
    if pc.max(pc.utf8_length(as_plain(stored_values(column)))).as_py() > MAX_ID_LENGTH:
        raise InvalidDataError(f"column {name} has a string of {n_bytes} bytes; at most {MAX_ID_LENGTH} characters")


def _flatten(name: str, column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return one plain array, without dictionaries: slices of a table travel without them."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    for chunk in chunks:
        check_strings(name, chunk)
    plain = [as_plain(chunk) for chunk in chunks]
    return plain[0] if len(plain) == 1 else pa.concat_arrays(plain or [as_plain(pa.nulls(0, column.type))])
