"""What the values of an Arrow type can mean: one table for the encoder and for every gate before it.

Gates ask `meaning_of` before anything is decoded; whoever reads the values asks `as_text` or `as_floats`. A
dictionary, or a run-end encoded column, means what its values mean.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from serve_app.core.errors import InvalidDataError

Meaning = Literal["null", "text", "integer", "float", "decimal", "boolean", "timestamp", "date", "uuid"]

_TESTS: Final[tuple[tuple[Meaning, Callable[[pa.DataType], bool]], ...]] = (
    ("null", pa.types.is_null),
    ("text", lambda k: pa.types.is_string(k) or pa.types.is_large_string(k) or pa.types.is_string_view(k)),
    ("integer", pa.types.is_integer),
    ("float", pa.types.is_floating),
    ("decimal", pa.types.is_decimal),
    ("boolean", pa.types.is_boolean),
    ("timestamp", pa.types.is_timestamp),
    ("date", pa.types.is_date),
    ("uuid", lambda k: isinstance(k, pa.UuidType)),
)

IDS: Final[frozenset[Meaning]] = frozenset({"null", "text", "integer", "float", "decimal", "uuid"})
"""What an id can be stored as. Floats and decimals have to be whole, value by value."""
NUMBERS: Final[frozenset[Meaning]] = frozenset({"null", "integer", "float", "decimal"})
"""What a number can be stored as."""
TEXT_RULE: Final = "text or whole numbers"


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values, without the dictionary or run-end encoding they may be stored in."""
    while pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        kind = kind.value_type
    return kind


def meaning_of(kind: pa.DataType) -> Meaning | None:
    """Return what values of a type can mean; None for types that mean nothing here (lists, structs, binary)."""
    plain = plain_type(kind)
    return next((meaning for meaning, holds in _TESTS if holds(plain)), None)


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds text."""
    return meaning_of(kind) == "text"


def uuid_text(column: pa.Array) -> pa.Array:
    """Return UUIDs in their usual form, 36 characters, as string."""
    values = column.storage.to_pylist()
    return pa.array([None if value is None else str(uuid.UUID(bytes=value)) for value in values], pa.string())


_LARGEST_WHOLE: Final = {pa.float16(): 2.0**11, pa.float32(): 2.0**24, pa.float64(): 2.0**53}
"""Beyond, neighbouring whole numbers are one float: an id stored so may have lost its last digits."""
_DECIMAL_DIGITS: Final = 76
"""Of the widest decimal."""


def plain_values(column: pa.Array) -> pa.Array:
    """Return a column's values, without the dictionary or run-end encoding they are stored in."""
    while column.type != plain_type(column.type):
        if pa.types.is_dictionary(column.type):
            column = plain_values(column.dictionary).take(column.indices)
        else:
            column = pc.run_end_decode(column)
    return column


def as_ids(name: str, column: pa.Array) -> pa.Array:
    """Return ids as string: numbers by their digits (5.0 is "5"), UUIDs in their usual form, NaN as null.

    Parameters
    ----------
    name : str
        The column's, for errors.
    column : Array
        Of any type that `IDS` takes.

    Raises
    ------
    InvalidDataError
        Another type, or a number that is not whole, or a float too large to tell it from its neighbours.
    """
    meaning = meaning_of(column.type)
    if meaning not in IDS:
        raise InvalidDataError(f"column {name} must hold {TEXT_RULE}, not {str(column.type)[:80]}")
    if pa.types.is_dictionary(column.type):  # each value once
        return as_ids(name, column.dictionary).take(column.indices)
    values = plain_values(column)
    if meaning == "uuid":
        return uuid_text(values)
    if meaning == "float":
        values = _whole_floats(name, values)
    elif meaning == "decimal":
        values = _whole_decimals(name, values)
    return values if values.type == pa.string() else values.cast(pa.string())


def _whole_floats(name: str, column: pa.Array) -> pa.Array:
    floats = column.cast(pa.float64())
    floats = pc.if_else(pc.is_nan(floats), None, floats)
    is_exact = pc.less_equal(pc.abs(floats), _LARGEST_WHOLE[column.type])
    is_whole = pc.and_(pc.equal(pc.floor(floats), floats), is_exact)
    if not pc.all(is_whole, min_count=0).as_py():
        bad = _first_false(floats, is_whole)
        why = "is not whole" if bad != bad // 1 else "has more digits than a float keeps: store ids as text or integers"
        raise InvalidDataError(f"column {name} must hold {TEXT_RULE}; {bad!r} {why}")
    return floats.cast(pa.int64())


def _whole_decimals(name: str, column: pa.Array) -> pa.Array:
    scale = column.type.scale
    if scale == 0:
        return column
    wide = column.cast(pa.decimal256(_DECIMAL_DIGITS, max(scale, 0)))
    whole = pc.floor(wide)
    is_whole = pc.equal(whole, wide)
    if not pc.all(is_whole, min_count=0).as_py():
        raise InvalidDataError(f"column {name} must hold {TEXT_RULE}; {_first_false(column, is_whole)} is not whole")
    return whole.cast(pa.decimal256(_DECIMAL_DIGITS, 0))


def _first_false(values: pa.Array, holds: pa.Array) -> Any:
    return values.filter(pc.invert(pc.fill_null(holds, True)))[0].as_py()  # noqa: FBT003 PyArrow's signature
