"""Where the history of scored rows came from, and which rows of a batch need a look-up."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.core.features import HISTORY_NAMES
from serve_app.core.history_keys import REQUIRED_KEYS

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
    lacks = _is_null(batch, HISTORY_NAMES[0]).copy()
    for name in HISTORY_NAMES[1:]:
        lacks |= _is_null(batch, name)
    unnamed = _is_null(batch, REQUIRED_KEYS[0]).copy()
    for name in (*REQUIRED_KEYS[1:], "price"):
        unnamed |= _is_null(batch, name)
    statuses = np.where(lacks, np.where(unnamed, NO_KEYS, NEW), GIVEN)
    return statuses.astype(np.uint8)


def _is_null(batch: pa.RecordBatch, name: str) -> NDArray[np.bool_]:
    at = batch.schema.get_field_index(name)
    if at < 0:
        return np.ones(batch.num_rows, dtype=bool)
    column = batch.column(at)
    if not column.null_count:
        return np.zeros(batch.num_rows, dtype=bool)
    found: NDArray[np.bool_] = column.is_null().to_numpy(zero_copy_only=False)
    return found
