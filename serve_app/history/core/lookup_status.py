"""Where the history of scored rows came from, and which rows of a batch need a look-up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.features.core.categories import find_nulls
from serve_app.features.core.row_keys import REQUIRED_KEYS
from serve_app.features.core.specs import HISTORY_NAMES

FOUND: Final = 0
NEW: Final = 1
GIVEN: Final = 2
NO_KEYS: Final = 3
UNAVAILABLE: Final = 4
OFF: Final = 5

HISTORY_STATUSES: Final = ("found", "new", "given", "no_ids", "unavailable", "off")
"""What became of a row's look-up: the user has a history; has none, so this row is the first event; the row
brought all 16 features; it lacks user, session or product; the store did not answer in time, and defaults were
used; this service keeps no history."""


def judge_rows(batch: pa.RecordBatch) -> NDArray[np.uint8]:
    """Return a status a row, (n,): `NEW` for rows that are to be looked up, else `GIVEN` or `NO_KEYS`.

    A row that brings all history features is not looked up.
    """
    has_all = _have_values(batch, HISTORY_NAMES)
    is_named = _have_values(batch, (*REQUIRED_KEYS, "price"))
    statuses = np.where(has_all, GIVEN, np.where(is_named, NEW, NO_KEYS))
    return statuses.astype(np.uint8)


def _have_values(batch: pa.RecordBatch, names: Sequence[str]) -> NDArray[np.bool_]:
    """Return which rows have a value in every one of some columns, (n,)."""
    n_rows, columns = batch.num_rows, batch.schema.names
    if not set(names) <= set(columns):
        return np.zeros(n_rows, dtype=bool)
    # Bitmaps are joined before they are unpacked: for few rows each column costs a microsecond, not four.
    packed = np.full((n_rows + 7) // 8, 0xFF, dtype=np.uint8)
    others: NDArray[np.bool_] | None = None
    for name in names:
        column = batch.column(columns.index(name))
        if not column.null_count:
            continue
        validity = column.buffers()[0]
        if validity is not None and column.offset == 0:
            packed &= np.frombuffer(validity, np.uint8, count=len(packed))
        elif (nulls := find_nulls(column)) is not None:
            others = nulls if others is None else others | nulls
    have = np.unpackbits(packed, bitorder="little", count=n_rows).astype(bool)
    return have if others is None else have & ~others
