"""What the values of an Arrow type can mean: one table for the encoder and for every gate before it.

Gates ask `meaning_of` before anything is decoded; whoever reads the values asks `as_text` or `as_plain`. A
dictionary, or a run-end encoded column, means what its values mean.
"""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve_app.errors import InvalidDataError
from serve_app.features.core.whole_numbers import EXACT, MAX_ID

Meaning = Literal["null", "text", "integer", "float", "decimal", "boolean", "timestamp", "date", "uuid"]

_MEANINGS: Final[dict[int, Meaning]] = {
    pa.null().id: "null",
    **dict.fromkeys((k.id for k in (pa.string(), pa.large_string(), pa.string_view())), "text"),
    **dict.fromkeys((k.id for k in (pa.int8(), pa.int16(), pa.int32(), pa.int64())), "integer"),
    **dict.fromkeys((k.id for k in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())), "integer"),
    **dict.fromkeys((k.id for k in (pa.float16(), pa.float32(), pa.float64())), "float"),
    **dict.fromkeys((k.id for k in (pa.decimal32(1), pa.decimal64(1), pa.decimal128(1), pa.decimal256(1))), "decimal"),
    pa.bool_().id: "boolean",
    pa.timestamp("us").id: "timestamp",
    pa.date32().id: "date",
    pa.date64().id: "date",
}
"""By `DataType.id`: one look-up in place of a dozen tests."""
_ENCODED: Final = (pa.dictionary(pa.int8(), pa.null()).id, pa.run_end_encoded(pa.int16(), pa.null()).id)

IDS: Final[frozenset[Meaning]] = frozenset({"null", "text", "integer", "float", "decimal", "uuid"})
"""What an id or a category can be stored as. Floats and decimals have to be whole, value by value."""
NUMBERS: Final[frozenset[Meaning]] = frozenset({"null", "integer", "float", "decimal"})
"""What a number can be stored as."""
TIMES: Final[frozenset[Meaning]] = frozenset({"null", "text", "timestamp", "date"})
"""What a time can be stored as."""
TEXT_RULE: Final = "text or whole numbers"
_EXACT: Final = {pa.float16(): 2.0**11, pa.float32(): 2.0**24, pa.float64(): float(EXACT)}
"""As `EXACT`, of every width."""


def is_encoded(kind: pa.DataType) -> bool:
    """Return whether values are stored as a dictionary or as runs."""
    return kind.id in _ENCODED


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values, without the dictionary or run-end encoding they may be stored in."""
    while kind.id in _ENCODED:
        kind = kind.value_type
    return kind


def meaning_of(kind: pa.DataType) -> Meaning | None:
    """Return what values of a type can mean; None for types that mean nothing here (lists, structs, binary)."""
    found = _MEANINGS.get(kind.id)
    if found is None:
        plain = plain_type(kind)
        return "uuid" if isinstance(plain, pa.UuidType) else _MEANINGS.get(plain.id)
    return found


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds text."""
    return meaning_of(kind) == "text"


def stored_values(column: pa.Array) -> pa.Array:
    """Return the values a column is made of: of a dictionary or of runs each once, however often it stands there."""
    while True:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary
        elif pa.types.is_run_end_encoded(column.type):
            column = column.values
        else:
            return column


def longest_bytes(column: pa.Array) -> int:
    """Return the length in bytes of a column's longest text; 0 where it holds no text.

    Nothing is decoded: a few kilobytes may say one long text a million times.
    """
    values = stored_values(column)
    if meaning_of(values.type) != "text":
        return 0
    if not pa.types.is_string_view(values.type):
        return pc.max(pc.binary_length(values)).as_py() or 0
    if len(values) == values.null_count:
        return 0
    # A view is 16 bytes and begins with its length; there is no kernel that tells it.
    views = np.frombuffer(values.buffers()[1], np.int32).reshape(-1, 4)[values.offset :][: len(values)]
    lengths = views[:, 0]
    return int(
        lengths.max() if not values.null_count else lengths[values.is_valid().to_numpy(zero_copy_only=False)].max()
    )


def as_plain(column: pa.Array) -> pa.Array:
    """Return a column's values one by one, without encodings; text as string."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return as_plain(column.dictionary).take(column.indices)
    if pa.types.is_run_end_encoded(kind):
        rows = np.arange(column.offset, column.offset + len(column))
        return as_plain(column.values).take(pa.array(np.searchsorted(column.run_ends.to_numpy(), rows, side="right")))
    return column.cast(pa.string()) if kind != pa.string() and meaning_of(kind) == "text" else column


def as_text(column: pa.Array) -> tuple[pa.Array, NDArray[np.bool_] | None]:
    """Return labels or ids as text, and which values are none.

    Parameters
    ----------
    column : Array
        Of a meaning in `IDS`.

    Returns
    -------
    Array
        Of string, or a dictionary of strings for a dictionary. A whole number is written without a fraction, however
        it was stored; NaN is null, and so is what is no whole number, or may have been another one (`EXACT`).
    ndarray of bool, shape (n,), or None
        Numbers that are no whole ones; None when there is none.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        text, broken = as_text(column.dictionary)
        if broken is not None:
            is_broken = pa.array(broken).take(column.indices).fill_null(False)  # noqa: FBT003 - the value
            broken = is_broken.to_numpy(zero_copy_only=False)
        return pa.DictionaryArray.from_arrays(column.indices, text), broken
    if pa.types.is_run_end_encoded(kind):
        return as_text(as_plain(column))
    meaning = meaning_of(kind)
    if meaning == "float":
        return _floats_as_text(column)
    if meaning == "decimal":
        return _decimals_as_text(column)
    if meaning == "uuid":
        return uuid_text(column), None
    return column if kind == pa.string() else column.cast(pa.string()), None


def as_ids(name: str, column: pa.Array) -> tuple[pa.Array, NDArray[np.bool_] | None]:
    """Return a column of ids as string, without encodings, and which are numbers outside the range of ids, (n,).

    The second is None when there is none; `name` is the column's, for the error.

    Raises
    ------
    InvalidDataError
        The type is none of `IDS`, or a number is no whole one.
    """
    if meaning_of(column.type) not in IDS:
        raise InvalidDataError(f"column {name} must hold {TEXT_RULE}, not {str(column.type)[:80]}")
    text, broken = as_text(column)
    if broken is not None:
        value = column[int(np.flatnonzero(broken)[0])].as_py()
        raise InvalidDataError(f"column {name} must hold {TEXT_RULE}, as floats below 2^53; got {value}")
    text = as_plain(text)
    return text, None if meaning_of(column.type) not in NUMBERS else _find_outside(text)


def _find_outside(text: pa.Array) -> NDArray[np.bool_] | None:
    """Return which numbers, written without leading zeros, are below 0 or above `MAX_ID`; None when there is none."""
    length = pc.binary_length(text)
    is_high = pc.and_(pc.equal(length, len(MAX_ID)), pc.greater(text, MAX_ID))
    outside = pc.or_(pc.or_(pc.starts_with(text, "-"), is_high), pc.greater(length, len(MAX_ID)))
    found = outside.fill_null(False).to_numpy(zero_copy_only=False)  # noqa: FBT003 - the value
    return found if found.any() else None


def uuid_text(column: pa.Array) -> pa.Array:
    """Return UUIDs in their usual form, 36 characters, as string."""
    values = column.storage.to_pylist()
    return pa.array([None if value is None else str(uuid.UUID(bytes=value)) for value in values], pa.string())


def _floats_as_text(column: pa.Array) -> tuple[pa.Array, NDArray[np.bool_] | None]:
    values = column.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    is_whole = (np.abs(values) < _EXACT[column.type]) & (np.floor(values) == values)
    text = pa.array(np.where(is_whole, values, 0.0).astype(np.int64), mask=~is_whole).cast(pa.string())
    broken = ~is_whole & ~np.isnan(values)
    return text, broken if broken.any() else None


def _decimals_as_text(column: pa.Array) -> tuple[pa.Array, NDArray[np.bool_] | None]:
    try:  # nearly all fit, and a decimal of 32 bits is too narrow for its own scale
        return column.cast(pa.decimal256(76, column.type.scale)).cast(pa.int64()).cast(pa.string()), None
    except pa.ArrowInvalid:
        pass
    values: list[Decimal | None] = column.to_pylist()
    text = [None if v is None or v != v.to_integral_value() else str(int(v)) for v in values]
    broken = np.array([v is not None and t is None for v, t in zip(values, text, strict=True)], dtype=bool)
    return pa.array(text, pa.string()), broken if broken.any() else None
