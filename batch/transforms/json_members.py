"""Members of JSON lines that are no features: their types, by the first lines, and whether a value is of its type.

They are carried along as they are: no text becomes a time, no whole number loses a digit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from serve_app.errors import MalformedBodyError
from serve_app.runtime.json_bodies import CONSTANTS, load_json

EXACT: Final = 1 << 53
"""From here on a double does not hold every whole number."""
_LONG: Final = re.compile(rb"\d{19}")
_RANGES: Final = {
    pa.int64(): (-(1 << 63), (1 << 63) - 1),
    pa.uint64(): (0, (1 << 64) - 1),
    pa.float64(): (-EXACT, EXACT),
}
"""Whole numbers that a type holds to the last digit."""
_ANY: Final = {b"scorecat": b"any"}


def parse_object(line: bytes) -> dict[str, Any] | str:
    """Return the JSON object of a line, the token NaN as null, or why it is none."""
    if not is_utf8(line):
        return "no UTF-8: save the file as UTF-8"
    try:
        found = load_json(line, "the line")
    except MalformedBodyError as exc:
        return str(exc)
    if not isinstance(found, dict):
        return "the line is no JSON object"
    if _LONG.search(line):  # orjson makes doubles of whole numbers beyond 64 bits
        found = json.loads(line, parse_constant=CONSTANTS.__getitem__)
    return dict(found)


def is_utf8(text: bytes) -> bool:
    """Return whether bytes are text in UTF-8."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def infer_types(rows: Iterable[dict[str, Any]], more: Iterable[dict[str, Any]] = ()) -> dict[str, pa.DataType]:
    """Return the type of each member: the wider where values differ, the first where none is; null where all are null.

    Where `rows` leave a type open, `more` may tell it. Members that hold empty objects only are left out: there is
    nothing to carry along.
    """
    found: dict[str, pa.DataType] = {}
    for row in rows:
        for name, value in row.items():
            found[name] = _merge(found.get(name, pa.null()), _infer(value))
    for row in more:
        for name, value in row.items():
            if _is_open(found.get(name, pa.null())):
                found[name] = _merge(found.get(name, pa.null()), _infer(value))
    return {name: kind for name, k in found.items() if (kind := _prune(k)) is not None}


def carry_any(name: str) -> pa.Field:
    """Return the column of a member whose first values are null: text, into which values of other types go as JSON."""
    return pa.field(name, pa.string(), metadata=_ANY)


def carries_any(field: pa.Field) -> bool:
    """Whether it is a column of `carry_any`."""
    return bool(field.metadata == _ANY)


def write_text(value: Any) -> str | None:
    """Return a value of JSON as it goes into a column of `carry_any`."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def fits(value: Any, kind: pa.DataType) -> bool:
    """Whether a value of JSON is of a type, to the last digit; null is of any."""
    if value is None:
        return True
    if pa.types.is_list(kind):
        return isinstance(value, list) and all(fits(item, kind.value_type) for item in value)
    if pa.types.is_struct(kind):
        members = {field.name: field.type for field in kind}
        return isinstance(value, dict) and all(
            fits(member, members[name]) if name in members else _is_nothing(member) for name, member in value.items()
        )
    if pa.types.is_string(kind) or pa.types.is_boolean(kind):
        return isinstance(value, str if pa.types.is_string(kind) else bool)
    return type(value) in (int, float) and _is_exact(value, kind)


def may_be_cut(column: pa.Array | pa.ChunkedArray) -> bool:
    """Whether a column holds doubles that may have been whole numbers with more digits."""
    if isinstance(column, pa.ChunkedArray):
        return any(may_be_cut(chunk) for chunk in column.chunks)
    if pa.types.is_list(column.type):
        return may_be_cut(column.flatten())
    if pa.types.is_struct(column.type):
        return any(may_be_cut(member) for member in column.flatten())
    return pa.types.is_floating(column.type) and (pc.max(pc.abs(column)).as_py() or 0.0) >= EXACT


def holds_objects(kind: pa.DataType) -> bool:
    """Whether values of a type are objects, or lists of them."""
    return bool(pa.types.is_struct(kind) or (pa.types.is_list(kind) and holds_objects(kind.value_type)))


def list_new(table: pa.Table, known: Collection[str]) -> list[str]:
    """Return the columns that are not known and hold something."""
    return [f.name for f in table.schema if f.name not in known and _prune(f.type) not in (None, pa.null())]


def list_new_members(rows: Iterable[Mapping[str, Any]], known: Collection[str]) -> list[str]:
    """Return the members that are not known and hold something."""
    return [name for row in rows for name, value in row.items() if name not in known and not _is_nothing(value)]


def _is_nothing(value: Any) -> bool:
    """Whether nothing is lost with a value: null, or an object without members."""
    return value is None or (isinstance(value, dict) and all(map(_is_nothing, value.values())))


def _is_exact(value: float, kind: pa.DataType) -> bool:
    if isinstance(value, float) and (pa.types.is_float64(kind) or not value.is_integer() or abs(value) >= EXACT):
        return bool(pa.types.is_float64(kind))
    low, high = _RANGES.get(kind, (1, 0))
    return low <= value <= high


def _is_open(kind: pa.DataType) -> bool:
    """Whether a type is not known yet, or that of what it holds."""
    if pa.types.is_list(kind):
        return _is_open(kind.value_type)
    if pa.types.is_struct(kind):
        return not kind.num_fields or any(_is_open(field.type) for field in kind)
    return bool(pa.types.is_null(kind))


def _infer(value: Any) -> pa.DataType:
    if isinstance(value, list):
        kind = pa.null()
        for item in value:
            kind = _merge(kind, _infer(item))
        return pa.list_(kind)
    if isinstance(value, dict):
        return pa.struct([pa.field(name, _infer(member)) for name, member in value.items()])
    if type(value) is int and (1 << 63) <= value < (1 << 64):
        return pa.uint64()
    kinds = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    return kinds.get(type(value), pa.null())


def _merge(known: pa.DataType, more: pa.DataType) -> pa.DataType:
    """Return the wider type, and what is known where none is: misfits are rejected."""
    if pa.types.is_null(known):
        return more
    if pa.types.is_list(known) and pa.types.is_list(more):
        return pa.list_(_merge(known.value_type, more.value_type))
    if pa.types.is_struct(known) and pa.types.is_struct(more):
        members = {field.name: field.type for field in known}
        for field in more:
            members[field.name] = _merge(members.get(field.name, pa.null()), field.type)
        return pa.struct([pa.field(name, kind) for name, kind in members.items()])
    numbers = (pa.int64(), pa.uint64(), pa.float64())
    if known in numbers and more in numbers:
        return max(known, more, key=numbers.index)
    return known


def _prune(kind: pa.DataType) -> pa.DataType | None:
    """Return a type without members that are empty objects, which no file can hold."""
    if pa.types.is_list(kind):
        item = _prune(kind.value_type)
        return None if item is None else pa.list_(item)
    if pa.types.is_struct(kind):
        members = {field.name: _prune(field.type) for field in kind}
        kept = [pa.field(name, member) for name, member in members.items() if member is not None]
        return pa.struct(kept) if kept else None
    return kind
