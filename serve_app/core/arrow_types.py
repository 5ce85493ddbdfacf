"""What the values of an Arrow type can mean: one table for the encoder and for every gate before it.

Gates ask `meaning_of` before anything is decoded; whoever reads the values asks `as_text` or `as_floats`. A
dictionary, or a run-end encoded column, means what its values mean.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Final, Literal

import pyarrow as pa

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
