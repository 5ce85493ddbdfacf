"""What a row may say beside its features, so that its history can be looked up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serve_app.features.core.arrow_types import as_plain, as_text, is_text
from serve_app.features.core.event_times import TIME_RULE, read_times
from serve_app.features.core.row_errors import RowError
from serve_app.features.core.specs import FeatureSpec

TIME_KEY: Final = "event_time"
REQUIRED_KEYS: Final = ("user_id", "session_id", "product_id")
"""Without one of them nothing can be looked up."""
CATEGORY_KEY: Final = "category_id"
NO_CATEGORY: Final = ""
"""As a category id: the product has none, which the caller says by null; absent it is the one last seen for it."""
KEY_NAMES: Final = (*REQUIRED_KEYS, CATEGORY_KEY, "event_id", TIME_KEY)

KEY_SPECS: Final[tuple[FeatureSpec, ...]] = tuple(
    FeatureSpec(name, "categorical", "time" if name == TIME_KEY else "id", "key", on_null="fill", fill="")
    for name in KEY_NAMES
)
"""The same as columns of a table: text or whole numbers; `TIME_KEY` is ISO 8601 text, a timestamp or a date."""

KEY_SCHEMA: Final = pa.schema([pa.field(name, pa.int64() if name == TIME_KEY else pa.string()) for name in KEY_NAMES])
"""As an Encoder gets them: ids are text, the time is in seconds since 1970 UTC."""

ID_RULE: Final = "must be text or a whole number, as a float below 2^53"


def convert_keys(columns: Mapping[str, pa.Array], errors: dict[int, RowError]) -> dict[str, pa.Array]:
    """Return columns of `KEY_NAMES` in the types of `KEY_SCHEMA`.

    Parameters
    ----------
    columns : mapping of str to Array
        Of types that `serve_app.features.core.column_types.can_hold` for `KEY_SPECS`.
    errors : dict of int to RowError
        Rows whose time cannot be read, or whose id is no whole number, are added.
    """
    return {
        name: _convert_times(column, errors) if name == TIME_KEY else _convert_ids(name, column, errors)
        for name, column in columns.items()
    }


def _convert_ids(name: str, column: pa.Array, errors: dict[int, RowError]) -> pa.Array:
    text, broken = as_text(column)
    for row in () if broken is None else np.flatnonzero(broken).tolist():
        errors.setdefault(row, RowError(row, name, f"{ID_RULE}, got {column[row].as_py()}", "type"))
    return as_plain(text)


def _convert_times(column: pa.Array, errors: dict[int, RowError]) -> pa.Array:
    column = as_plain(column)
    if is_text(column.type):
        column = pc.if_else(pc.equal(column, ""), None, column)
    times, bad = read_times(column)
    for row in bad:
        errors.setdefault(row, RowError(row, TIME_KEY, f"{TIME_RULE}, got {column[row].as_py()[:40]!r}", "type"))
    return times


MAX_ID_LENGTH: Final = 512
"""Characters of an id."""

PUBLISHED_COLUMNS: Final = (
    "event_time",
    "event_type",
    "product_id",
    "category_id",
    "category_code",
    "brand",
    "price",
    "user_id",
    "user_session",
)
"""The nine columns of the published REES46 log, in its order."""
