"""Values of any format to typed columns, with a row error for each value that does not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from serve_app.core.cells import convert_values
from serve_app.core.errors import FieldError, InvalidDataError, InvalidRowError, PayloadTooLargeError
from serve_app.core.features import FeatureSpec, arrow_schema
from serve_app.core.history_keys import TIME_KEY, convert_keys
from serve_app.core.numeric_columns import describe_required, holds_numbers
from serve_app.core.row_errors import RESERVED, RowError, add_unreadable
from serve_app.http.schemas import MAX_ID_LENGTH

MAX_ROWS: Final = 100_000
MAX_COLUMNS: Final = 1_024


@dataclass(frozen=True, slots=True)
class ParsedTable:
    """Rows of a request.

    Attributes
    ----------
    batch : RecordBatch
        Columns by feature name; columns of no feature are gone. The column `UNREADABLE` tells the
        encoder of values that are of no use; the batch has null there.
    n_ignored : int
        Columns of no feature that were there.
    """

    batch: pa.RecordBatch
    n_ignored: int = 0


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
    return finish_table(arrays, fields, features, n_rows, errors, len(columns) - len(arrays))


def table_from_arrow(table: pa.Table, features: Sequence[FeatureSpec]) -> ParsedTable:
    """Build a table from Arrow columns; the encoder understands their types."""
    check_shape(table.num_rows, table.num_columns)
    names = refuse_doubles(table.column_names, features)
    check_types(table.schema, features)
    columns = [_one_chunk(table.column(name)) for name in names]
    fields = [pa.field(name, column.type) for name, column in zip(names, columns, strict=True)]
    return finish_table(columns, fields, features, table.num_rows, {}, table.num_columns - len(names))


def refuse_doubles(given: Sequence[str], features: Sequence[FeatureSpec]) -> list[str]:
    """Return the features that are there, in the model's order; InvalidDataError when one is there twice."""
    times = Counter(given)
    names = [spec.name for spec in features if spec.name in times]
    double = sorted(name for name in names if times[name] > 1)
    if double:
        raise InvalidDataError(f"these columns are there twice: {', '.join(double)}")
    return names


def check_types(schema: pa.Schema, features: Sequence[FeatureSpec]) -> None:
    """Refuse columns whose type cannot mean their feature, before anything of them is decoded.

    Decoding first would let a few kilobytes fill the memory: one long value may stand in every row.

    Raises
    ------
    InvalidDataError
        A numeric feature is no flat column of numbers, a categorical one none of strings or integers.
    """
    for spec in features:
        for at in schema.get_all_field_indices(spec.name):
            kind = schema.field(at).type
            plain = kind.value_type if pa.types.is_dictionary(kind) else kind
            if spec.kind == "numeric":
                fits = plain is kind and holds_numbers(spec, kind)
            else:
                is_text = pa.types.is_string(plain) or pa.types.is_large_string(plain)
                is_time = spec.name == TIME_KEY and spec.group == "key" and pa.types.is_timestamp(kind)
                fits = is_text or is_time or pa.types.is_integer(plain) or pa.types.is_null(plain)
            if not fits:
                wanted = "numbers" if spec.kind == "numeric" else "strings (utf8, large_utf8, or a dictionary of them)"
                raise InvalidDataError(f"column {spec.name} must hold {wanted}, not {str(kind)[:80]}")


def finish_table(
    arrays: list[pa.Array],
    fields: list[pa.Field],
    features: Sequence[FeatureSpec],
    n_rows: int,
    errors: dict[int, RowError],
    n_ignored: int = 0,
) -> ParsedTable:
    """Check what all formats have in common: required columns, and strings of a sane length.

    Raises
    ------
    InvalidRowError
        A column without which no row can be scored is not there.
    """
    present = {f.name for f in fields}
    missing = [s for s in features if s.on_null == "reject" and s.name not in present]
    if missing and n_rows:
        raise InvalidRowError(
            f"the table lacks required columns: {', '.join(s.name for s in missing)}",
            tuple(FieldError(f"/{s.name}", describe_required(s)) for s in missing),
        )
    for field, array in zip(fields, arrays, strict=True):
        _check_strings(field.name, array)
    plain = [_decode(array) for array in arrays]
    if not arrays:
        return ParsedTable(pa.RecordBatch.from_arrays([pa.nulls(n_rows)], names=[RESERVED]), n_ignored=n_ignored)
    columns = {f.name: array for f, array in zip(fields, plain, strict=True)}
    keys = {s.name: columns[s.name] for s in features if s.group == "key" and s.name in columns}
    columns |= convert_keys(keys, errors)
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    return ParsedTable(add_unreadable(batch, errors.values()), n_ignored)


def _decode(array: pa.Array) -> pa.Array:
    """Return a dictionary's values in place of its codes: slices of a table travel without dictionaries."""
    return array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array


def _check_strings(name: str, array: pa.Array) -> None:
    # Of a dictionary only the values are measured: decoded, a long one could fill the memory.
    values = array.dictionary if pa.types.is_dictionary(array.type) else array
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return
    if (pc.max(pc.binary_length(values)).as_py() or 0) <= MAX_ID_LENGTH:  # a sixth of the time of the other
        return
    longest = pc.max(pc.utf8_length(values)).as_py()
    if longest > MAX_ID_LENGTH:
        raise InvalidDataError(f"column {name} has a string of {longest} characters; at most {MAX_ID_LENGTH}")


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)
