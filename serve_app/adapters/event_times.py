"""Times of event logs: parsed from and formatted as the published form ``2019-10-01 00:00:00 UTC``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve_app.core.errors import InvalidDataError

_SUFFIX = " UTC"


def parse_times(source: str, column: pa.Array) -> pa.Array:
    """Parse times to int64 seconds since 1970 UTC; fractions of a second are cut off.

    Parameters
    ----------
    source : str
        Where the column is from, for the error.
    column : Array
        Timestamps, or strings in the published form or in ISO 8601 (with ``Z``, an offset, or none for UTC).

    Raises
    ------
    InvalidDataError
        Another type, or a text that is neither form.
    """
    if pa.types.is_timestamp(column.type):
        return _seconds(column)
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    if not pa.types.is_string(column.type):
        raise InvalidDataError(f"{source}: column event_time must hold times, not {column.type}")
    if pc.all(pc.ends_with(column, _SUFFIX), min_count=0).as_py():
        column = pc.binary_slice(column.cast(pa.binary()), 0, -len(_SUFFIX)).cast(pa.string())
    try:
        return _seconds(column.cast(pa.timestamp("us")))
    except pa.ArrowInvalid:
        pass
    zoned = pc.replace_substring_regex(column, r"( UTC)?$", "")
    zoned = pc.replace_substring_regex(zoned, r"([0-9]:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?)$", r"\1Z")
    zoned = pc.replace_substring_regex(zoned, r"([+-][0-9]{2}:[0-9]{2})Z$", r"\1")
    try:
        return _seconds(zoned.cast(pa.timestamp("us", "UTC")))
    except pa.ArrowInvalid as exc:
        raise InvalidDataError(
            f"{source}: column event_time must look like '2019-10-01 00:00:00 UTC' or ISO 8601 "
            f"('2019-10-01T00:00:00Z'): {exc}"
        ) from exc


def _seconds(column: pa.Array) -> pa.Array:
    # A timestamp without a zone is UTC, as everywhere here. Times before 1970 are rounded down, too.
    return pc.floor_temporal(column.cast(pa.timestamp("us")), unit="second").cast(pa.timestamp("s")).cast(pa.int64())


def format_times(time_s: NDArray[np.int64]) -> pa.Array:
    """Format seconds since 1970 UTC as ``2019-10-01 00:00:00 UTC``; the inverse of `parse_times`."""
    text = np.datetime_as_string(time_s.astype("datetime64[s]"))
    chars: NDArray[Any] = text.view(np.uint32).reshape(len(text), -1)[:, :19]
    out = np.empty((len(text), 23), dtype=np.uint8)
    out[:, :19] = chars
    out[:, 10] = ord(" ")
    out[:, 19:] = np.frombuffer(_SUFFIX.encode(), dtype=np.uint8)
    offsets = np.arange(len(text) + 1, dtype=np.int32) * 23
    return pa.StringArray.from_buffers(len(text), pa.py_buffer(offsets), pa.py_buffer(out))
