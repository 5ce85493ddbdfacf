"""What an event is, and which lines of a log are not events that count.

The rules are here twice and nowhere else: `clean_events` for the lines of a log, `find_reason` for an event that
arrives. Every line left out is counted under the reason it was left out for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve_app.features.core.arrow_types import is_text
from serve_app.features.core.row_keys import MAX_ID_LENGTH

EVENT_TYPES: Final = ("view", "cart", "purchase")
VIEW: Final = 0
CART: Final = 1
PURCHASE: Final = 2

PRICE_LIMIT: Final = 1e8
"""Prices above are dropped: integer sums of cents in micro-units stay exact for 90,000 such events."""

PRICE_FLOOR: Final = 2.0**-150
"""Prices up to it are dropped: as a 32-bit float, which is what a model sees, they are 0."""


FIRST_S: Final = 0
END_S: Final = 4_102_444_800
"""Events are of the years 1970 to 2099: a time outside is a clock's default or an end of time (0001, 2106, 9999)."""


OPTIONAL_COLUMNS: Final = ("category_id", "category_code", "brand")
"""Those a log need not have: no event is left out for want of them."""

ID_COLUMNS: Final = ("user_id", "user_session", "product_id", "category_id", "event_id")
"""Columns of ids; an empty id is none."""

NO_TIME: Final = "no event_time"
TOO_EARLY: Final = "event_time before 1970"
TOO_LATE: Final = "event_time after 2099"
NO_IDS: Final = ("no user_id", "no user_session", "no product_id")
TOO_LONG: Final = tuple(f"{name} longer than {MAX_ID_LENGTH} characters" for name in ID_COLUMNS)
NO_ID: Final = tuple(f"{name} below 0 or above 2^63-1" for name in ID_COLUMNS)
NOT_AN_ID: Final = "\0" * (MAX_ID_LENGTH + 1)
"""Stands in a column of text for a number that is no id; it is too long to be one itself."""
UNKNOWN_TYPE: Final = "unknown event_type"
NO_PRICE: Final = "price missing or not finite"
NOT_POSITIVE: Final = "price not above 0"
TOO_HIGH: Final = "price above 100 million"
SEEN_BEFORE: Final = "event_id seen before"


def find_reason(
    time_s: int | None,
    ids: tuple[str | None, str | None, str | None],
    event_type: str | None,
    price: float | None,
) -> str:
    """Return why something is no event, empty if it is one; the first of several reasons.

    Parameters
    ----------
    time_s : int or None
        Seconds since 1970 UTC; None is now, which is a time.
    ids : tuple
        Of user, session and product. That no id is too long is seen to where requests are read.
    event_type : str or None
    price : float or None
    """
    if time_s is not None and not FIRST_S <= time_s < END_S:
        return TOO_EARLY if time_s < FIRST_S else TOO_LATE
    for value, reason in zip(ids, NO_IDS, strict=True):
        if not value:
            return reason
    if event_type not in EVENT_TYPES:
        return UNKNOWN_TYPE
    return _find_price_reason(price)


def _find_price_reason(price: float | None) -> str:
    if price is None or not math.isfinite(price):
        return NO_PRICE
    if price <= PRICE_FLOOR:
        return NOT_POSITIVE
    return TOO_HIGH if price > PRICE_LIMIT else ""


def is_price(price: float | None) -> bool:
    """Return whether an event can have this price."""
    return not _find_price_reason(price)


def clean_events(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, dict[str, int]]:
    """Return the lines of a batch that are events, and how many were dropped by reason.

    Parameters
    ----------
    batch : RecordBatch
        Columns of `PUBLISHED_COLUMNS`, ``event_time`` as int64 seconds since 1970 UTC, ``price`` as
        float64, ids as string or int64, optionally ``event_id``.

    Returns
    -------
    (RecordBatch, dict)
        The same columns, with ``event_type`` as a uint8 code into `EVENT_TYPES` and empty ids as null, in the
        same order. A line that breaks two rules is counted under the first.
    """
    batch = _null_empty_ids(batch)
    types = pc.index_in(batch.column("event_type"), value_set=pa.array(EVENT_TYPES))
    keep, dropped = _drop(batch.num_rows, _find_broken(batch, types))
    codes = pc.fill_null(types, 0).cast(pa.uint8())
    out = batch.set_column(batch.schema.get_field_index("event_type"), "event_type", codes)
    return (out if keep.all() else out.filter(pa.array(keep))), dropped


def drop_unsendable(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, NDArray[np.bool_], dict[str, int]]:
    """Return a batch with empty ids as null, which lines a service can be asked about, (n,), and why others cannot.

    One without a time would be taken for now, one with a number that is no id for the id of its text, and one with an
    id that is too long is refused with all others of its request.

    All other rules are the service's to apply, and the same.
    """
    batch = _null_empty_ids(batch)
    types = pa.nulls(batch.num_rows, pa.int32())
    rules = ((reason, bad) for reason, bad in _find_broken(batch, types) if reason in _UNSENDABLE)
    return batch, *_drop(batch.num_rows, rules)


_UNSENDABLE: Final = frozenset({NO_TIME, *NO_ID, *TOO_LONG})


def _drop(n: int, rules: Iterable[tuple[str, NDArray[np.bool_]]]) -> tuple[NDArray[np.bool_], dict[str, int]]:
    keep = np.ones(n, dtype=bool)
    dropped: dict[str, int] = {}
    for reason, bad in rules:
        n_bad = int(np.count_nonzero(bad & keep))
        if n_bad:
            dropped[reason] = n_bad
            keep &= ~bad
    return keep, dropped


def _find_broken(batch: pa.RecordBatch, types: pa.Array) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield each rule that a line breaks, in the order of `find_reason`, with the lines that break it."""
    times = batch.column("event_time")
    time_s = times.fill_null(FIRST_S).to_numpy()
    yield NO_TIME, _is_null(times)
    yield TOO_EARLY, time_s < FIRST_S
    yield TOO_LATE, time_s >= END_S
    for name, reason in zip(ID_COLUMNS, NO_IDS, strict=False):
        yield reason, _is_null(batch.column(name))
    for name, no_id, reason in zip(ID_COLUMNS, NO_ID, TOO_LONG, strict=True):
        if name not in batch.schema.names:
            continue
        if pa.types.is_integer(batch.column(name).type):
            yield no_id, batch.column(name).fill_null(0).to_numpy() < 0
        elif _may_be_long(batch.column(name)):
            yield no_id, pc.equal(batch.column(name), NOT_AN_ID).fill_null(False).to_numpy(zero_copy_only=False)  # noqa: FBT003 - the value
            lengths = pc.utf8_length(batch.column(name)).fill_null(0)
            yield reason, lengths.to_numpy(zero_copy_only=False) > MAX_ID_LENGTH
    yield UNKNOWN_TYPE, _is_null(types)
    price = batch.column("price").to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    with np.errstate(invalid="ignore"):
        yield NO_PRICE, ~np.isfinite(price)
        yield NOT_POSITIVE, ~(price > PRICE_FLOOR)
        yield TOO_HIGH, price > PRICE_LIMIT


def _may_be_long(column: pa.Array) -> bool:
    # counting bytes takes a sixth of the time of counting characters, of which there are not more
    return is_text(column.type) and (pc.max(pc.binary_length(column)).as_py() or 0) > MAX_ID_LENGTH


def _null_empty_ids(batch: pa.RecordBatch) -> pa.RecordBatch:
    for name in ID_COLUMNS:
        at = batch.schema.get_field_index(name)
        if at >= 0 and is_text(batch.schema.field(at).type):
            column = batch.column(at)
            if pc.min(pc.binary_length(column)).as_py() == 0:
                batch = batch.set_column(at, name, pc.if_else(pc.equal(column, ""), None, column))
    return batch


def price_cents(price: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return prices in whole hundredths, int64, rounded half to even."""
    cents: NDArray[np.int64] = np.rint(price * 100).astype(np.int64)
    return cents


def _is_null(column: pa.Array) -> NDArray[np.bool_]:
    if column.null_count == 0:
        return np.zeros(len(column), dtype=bool)
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False))
