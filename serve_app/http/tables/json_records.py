"""Large JSON records to columns by Arrow's reader, where they are as plain as nearly all are.

Arrow reads lines of JSON twice as fast as objects are made and taken apart again, and without Python's interpreter
lock. It says less of what is wrong, and means other things by some of it: `parse_records` gives up on whatever is not
the plain case, and `serve_app.http.tables.table_formats.parse_json` decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.json as pajson
from numpy.typing import NDArray

from serve_app.features.core.specs import FeatureSpec, arrow_schema
from serve_app.features.core.typed_columns import MAX_ROWS, ParsedTable, table_from_arrow

Bytes = NDArray[np.uint8]
MIN_BYTES: Final = 64 * 1024
"""Below, it makes no difference."""
_GAP: Final = rb"[ \t\r\n]*"  # what JSON calls white space; \s is more
_HEAD: Final = re.compile(
    _GAP.join([b"", rb"\{", b'"(?:dataframe_records|instances|inputs)"', b":", rb"\[", rb"(?=\{)"])
)
_TAIL: Final = re.compile(rb"\}(" + _GAP.join([b"", rb"\]", rb"\}", b""]) + rb")\Z")
_MAX_FRAME: Final = 256
"""Bytes within which the list must begin, and end."""
BLOCK_BYTES: Final = 1024 * 1024
"""What one thread reads at a time."""
MAX_RECORD_BYTES: Final = 64 * 1024
"""A longer first record is left to the other parser."""
_CLOSE, _COMMA, _NEWLINE = b"},\n"


def parse_records(body: bytes, features: Sequence[FeatureSpec]) -> ParsedTable | None:
    """Parse ``{"dataframe_records": [{...}, ...]}`` when it is plain.

    The first record has features only, none has others, and every value is of its feature's type.

    Parameters
    ----------
    body : bytes
    features : sequence of FeatureSpec

    Returns
    -------
    ParsedTable or None
        None when it takes another parser to tell what the body means, or what is wrong with it.

    Raises
    ------
    ScorecatError
        What the other parser raises for a plain table that cannot be scored.

    Notes
    -----
    Memory: one copy of the body, and the columns. What takes time with the size of the body releases the lock.
    """
    lines = _split_lines(body)
    schema = lines and _describe_first(lines[1], features)
    if lines is None or schema is None:
        return None
    n_rows, text = lines
    try:
        table = pajson.read_json(
            pa.BufferReader(pa.py_buffer(text)),
            read_options=pajson.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
        )
        table.validate(full=True)  # which finds strings that are no UTF-8
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    if table.num_rows != n_rows or not all(map(_is_plain, table.columns)):
        return None
    return table_from_arrow(table, features)


def _split_lines(body: bytes) -> tuple[int, Bytes] | None:
    """Return how many records there are when each comma after a brace separates two, and the text with a line each.

    A comma that is part of a record, or a missing one, breaks a line or changes how many Arrow finds.
    """
    head = _HEAD.match(body, 0, _MAX_FRAME)
    tail = _TAIL.search(body, max(0, len(body) - _MAX_FRAME))
    if head is None or tail is None:
        return None
    text = np.frombuffer(body, np.uint8)[head.end() : tail.start(1)].copy()
    is_close = text[:-1] == _CLOSE
    if np.count_nonzero(is_close) >= MAX_ROWS:
        return None
    after = np.flatnonzero(is_close) + 1
    commas = after[text[after] == _COMMA]
    text[commas] = _NEWLINE
    return len(commas) + 1, text


def _describe_first(text: Bytes, features: Sequence[FeatureSpec]) -> pa.Schema | None:
    """Return the columns that the first record has, when all are features: all others must have no more."""
    line = text[:MAX_RECORD_BYTES].tobytes().partition(b"\n")[0]
    try:
        first = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    fields = [field for field in arrow_schema(tuple(features)) if field.name in first]
    return pa.schema(fields) if first and len(fields) == len(first) else None


def _is_plain(column: pa.ChunkedArray) -> bool:
    """Return whether no number is infinite, which is refused elsewhere, or minus zero, which may have been ``-0``."""
    if not pa.types.is_floating(column.type):
        return True
    values = column.drop_null().to_numpy()
    return bool(np.isfinite(values).all()) and not bool(((values == 0) & np.signbit(values)).any())
