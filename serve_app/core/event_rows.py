"""What an event is, and which lines of a log are not events that count.

The rules are those of the online history (DESIGN, section 5); every line left out is counted under
the reason it was left out for.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

EVENT_TYPES: Final = ("view", "cart", "purchase")
VIEW: Final = 0
CART: Final = 1
PURCHASE: Final = 2

PRICE_LIMIT: Final = 1e8
"""Prices above are dropped: integer sums of cents in micro-units stay exact for 90,000 such events."""

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

DROP_REASONS: Final = (
    "no event_time",
    "no user_id",
    "no user_session",
    "no product_id",
    "unknown event_type",
    "price missing or not finite",
    "price not above 0",
    "price above 100 million",
    "event_id seen before",
)


def clean_events(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, dict[str, int]]:
    """Return the lines of a batch that are events, and how many were dropped by reason.

    Parameters
    ----------
    batch : RecordBatch
        Columns of `PUBLISHED_COLUMNS`, ``event_time`` as int64 seconds since 1970 UTC, ``price`` as
        float64, optionally ``event_id``.

    Returns
    -------
    (RecordBatch, dict)
        The same columns, with ``event_type`` as a uint8 code into `EVENT_TYPES`, in the same order. A
        line that breaks two rules is counted under the first.
    """
    types = pc.index_in(batch.column("event_type"), value_set=pa.array(EVENT_TYPES))
    price = batch.column("price").to_numpy(zero_copy_only=False).astype(np.float64)
    with np.errstate(invalid="ignore"):
        broken = (
            *(_is_null(batch.column(name)) for name in ("event_time", "user_id", "user_session", "product_id")),
            _is_null(types),
            ~np.isfinite(price),
            ~(price > 0),
            price > PRICE_LIMIT,
        )
    keep = np.ones(batch.num_rows, dtype=bool)
    dropped: dict[str, int] = {}
    for reason, bad in zip(DROP_REASONS, broken, strict=False):
        n_bad = int(np.count_nonzero(bad & keep))
        if n_bad:
            dropped[reason] = n_bad
            keep &= ~bad
    codes = pc.fill_null(types, 0).cast(pa.uint8())
    out = batch.set_column(batch.schema.get_field_index("event_type"), "event_type", codes)
    return (out if keep.all() else out.filter(pa.array(keep))), dropped


def price_cents(price: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return prices in whole hundredths, int64, rounded half to even."""
    cents: NDArray[np.int64] = np.rint(price * 100).astype(np.int64)
    return cents


def _is_null(column: pa.Array) -> NDArray[np.bool_]:
    if column.null_count == 0:
        return np.zeros(len(column), dtype=bool)
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False))
