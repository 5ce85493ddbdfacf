"""Large JSON records to columns by Arrow's reader, where they are as plain as nearly all are.

Arrow reads lines of JSON twice as fast as objects are made and taken apart again, and without Python's interpreter
lock. It says less of what is wrong, and means other things by some of it: `parse_records` gives up on whatever is not
the plain case, and `serve_app.http.table_formats.parse_json` decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pajson

from serve_app.core.features import FeatureSpec, arrow_schema
from serve_app.http.columns import MAX_ROWS, ParsedTable, table_from_arrow

MIN_BYTES: Final = 64 * 1024
"""Below, it makes no difference."""
_HEAD: Final = re.compile(rb'\s*\{\s*"(?:dataframe_records|instances|inputs)"\s*:\s*\[\s*(?=\{)', re.ASCII)
_TAIL: Final = re.compile(rb"\}(\s*\]\s*\}\s*)\Z", re.ASCII)
_MAX_FRAME: Final = 256
"""Bytes within which the list must begin, and end."""
_CLOSE, _COMMA, _NEWLINE = b"},\n"


def parse_records(body: bytes, features: Sequence[FeatureSpec]) -> ParsedTable | None:
    """Parse ``{"dataframe_records": [{...}, ...]}`` when every member is a feature and every value of its type.

    Parameters
    ----------
    body : bytes
    features : sequence of FeatureSpec

    Returns
    -------
    ParsedTable or None
        None when it takes another parser to tell what the body means, or what is wrong with it.

    Notes
    -----
    Memory: one copy of the body, and the columns. The lock is released but for a few hundred microseconds.
    """
    lines = _split_lines(body)
    if lines is None:
        return None
    n_rows, text = lines
    schema = arrow_schema(tuple(features))
    try:
        table = pajson.read_json(
            pa.BufferReader(pa.py_buffer(text)),
            read_options=pajson.ReadOptions(use_threads=False, block_size=max(1024 * 1024, len(text) + 1)),
            parse_options=pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
        )
        table.validate(full=True)  # which finds strings that are no UTF-8
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    if table.num_rows != n_rows or not all(map(_is_finite, table.columns)):
        return None
    empty = {name for name in table.column_names if table.column(name).null_count == n_rows}
    if empty and b"\\u" in body:
        return None  # a name may be written in another way
    present = [name for name in table.column_names if name not in empty or _is_named(name, body)]
    if any(spec.on_null == "reject" and spec.name not in present for spec in features):
        return None
    return table_from_arrow(table.select(present), features)


def _split_lines(body: bytes) -> tuple[int, np.ndarray[tuple[int], np.dtype[np.uint8]]] | None:
    """Return how many records there are when each comma after a brace separates two, and the text with a line each.

    A comma that is part of a record, or a missing one, breaks a line or changes how many Arrow finds.
    """
    head = _HEAD.match(body, 0, _MAX_FRAME)
    tail = _TAIL.search(body, max(0, len(body) - _MAX_FRAME))
    if head is None or tail is None:
        return None
    text = np.frombuffer(body, np.uint8)[head.end() : tail.start(1)].copy()
    after = np.flatnonzero(text[:-1] == _CLOSE) + 1
    commas = after[text[after] == _COMMA]
    if len(commas) >= MAX_ROWS:
        return None
    text[commas] = _NEWLINE
    return len(commas) + 1, text


def _is_finite(column: pa.ChunkedArray) -> bool:
    return not pa.types.is_floating(column.type) or bool(pc.all(pc.is_finite(column)).as_py() is not False)


def _is_named(name: str, body: bytes) -> bool:
    return re.search(rb'"%s"\s*:' % re.escape(name.encode()), body) is not None
