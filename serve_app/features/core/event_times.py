"""Times of events and of rows: what is a time, in logs, in requests and in jobs.

`parse_time` is the rule. `read_times` is the same for a column, with the common forms read by Arrow.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve_app.features.core.arrow_types import as_plain, meaning_of

TIME_RULE: Final = "must be like '2019-10-01 00:00:00 UTC' or ISO 8601 ('2019-10-01T00:00:00Z')"

_SUFFIX: Final = " UTC"
_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_YEAR_1: Final = -62_135_596_800
"""Arrow reads the year 0, which is none."""
_ZONE: Final = r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)"


def parse_time(text: str) -> int:
    """Return a time of `TIME_RULE` as seconds since 1970 UTC, fractions cut off; without a zone it is UTC.

    Raises
    ------
    ValueError
        It is no such time.
    """
    if text[4:5] != "-":  # a plain number, which fromisoformat may take for a date
        raise ValueError(text)
    text = text.upper().removesuffix(_SUFFIX)
    blank = text.find(" ", 11)
    if blank > 0 and text[blank + 1 : blank + 2] in {"Z", "+", "-"}:  # a zone apart
        text = text[:blank] + text[blank + 1 :]
    time = datetime.fromisoformat(text)
    return math.floor((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


def cut_times(column: pa.Array) -> pa.Array:
    """Return timestamps or dates as seconds since 1970 UTC, int64; fractions are cut off, without a zone it is UTC."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    ticks = column.cast(pa.int64())
    per_second = _PER_SECOND[column.type.unit]
    if per_second == 1:
        return ticks
    # Times before 1970 are rounded down, too, which a division of Arrow would not do.
    seconds = ticks.fill_null(0).to_numpy() // per_second
    return pa.array(seconds, mask=_null_mask(column))


def read_times(column: pa.Array) -> tuple[pa.Array, list[int]]:
    """Return a column of `TIMES` as seconds since 1970 UTC, int64, and the places of texts that are no times.

    Null where nothing, or no time, is said.
    """
    values = as_plain(column)
    meaning = meaning_of(values.type)
    if meaning == "text":
        return _read_texts(values)
    return (values.cast(pa.int64()) if meaning == "null" else cut_times(values)), []


def _read_texts(column: pa.Array) -> tuple[pa.Array, list[int]]:
    for spell in (_published, _iso):
        try:
            times = spell(column).cast(pa.int64())
        except pa.ArrowInvalid:
            continue
        if (pc.min(times).as_py() or 0) >= _YEAR_1:
            return times, []
    return _parse_each(column)


def _published(column: pa.Array) -> pa.Array:
    if pc.all(pc.ends_with(column, _SUFFIX), min_count=0).as_py():
        column = pc.binary_slice(column.cast(pa.binary()), 0, -len(_SUFFIX)).cast(pa.string())
    return column.cast(pa.timestamp("s"))


def _iso(column: pa.Array) -> pa.Array:
    """Bring every form of fraction and zone to whole seconds with a zone, which is all that Arrow reads in one go."""
    text = pc.replace_substring_regex(column, f"{_SUFFIX}$", "")
    text = pc.replace_substring_regex(text, rf"(:[0-9]{{2}}:[0-9]{{2}})[.,][0-9]+( ?{_ZONE})?$", r"\1\2")
    text = pc.replace_substring_regex(text, rf" ({_ZONE})$", r"\1")
    text = pc.replace_substring_regex(text, r"([T ][0-9]{2}:[0-9]{2}(?::[0-9]{2})?)$", r"\1Z")
    return text.cast(pa.timestamp("s", "UTC"))


def _parse_each(column: pa.Array) -> tuple[pa.Array, list[int]]:
    codes = column.dictionary_encode()
    found = [_try_parse(text) for text in codes.dictionary.to_pylist()]
    times = pa.array(found, pa.int64()).take(codes.indices)
    bad = np.flatnonzero(_null_mask(times) & ~_null_mask(column))
    return times, bad.tolist()


def _try_parse(text: str) -> int | None:
    try:
        return parse_time(text)
    except (ValueError, OverflowError):
        return None


def _null_mask(column: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False))


def format_times(time_s: NDArray[np.int64]) -> pa.Array:
    """Format seconds since 1970 UTC as ``2019-10-01 00:00:00 UTC``, which `read_times` reads back."""
    text = np.datetime_as_string(time_s.astype("datetime64[s]"))
    chars: NDArray[Any] = text.view(np.uint32).reshape(len(text), -1)[:, :19]
    out = np.empty((len(text), 23), dtype=np.uint8)
    out[:, :19] = chars
    out[:, 10] = ord(" ")
    out[:, 19:] = np.frombuffer(_SUFFIX.encode(), dtype=np.uint8)
    offsets = np.arange(len(text) + 1, dtype=np.int32) * 23
    return pa.StringArray.from_buffers(len(text), pa.py_buffer(offsets), pa.py_buffer(out))
