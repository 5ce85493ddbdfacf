"""What the purchase model learns: will this user buy this product later in this session.

Never the row's own type: a purchase row is no training row, and the target of a view or a cart looks
only at what follows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serve_app.errors import InvalidDataError
from serve_app.events.core.columns import EventColumns, group_rows, pair_codes

OPEN_SESSION_S: Final = 1800
"""A session with an event in the last 30 minutes of the log may go on, so its rows are left out."""

OPEN_SHARE: Final = 0.1
"""Of a log shorter than five hours, only this share of its time is left out at the end: 30 minutes would
leave next to nothing of the published head of the log (see docs/adr)."""

TRAIN: Final = 0
STOP: Final = 1
TEST: Final = 2
SLICE_NAMES: Final = ("train", "stop", "test")
STOP_SHARE: Final = 0.1
TEST_SHARE: Final = 0.2


def purchase_target(events: EventColumns) -> NDArray[np.bool_]:
    """Return for every row whether the same user buys the same product later in the same session.

    Notes
    -----
    Pure; one sort. "Later" is later in the order of the events, so equal times keep the log's order.
    """
    n = len(events.user)
    target = np.zeros(n, dtype=bool)
    if not events.is_purchase.any():
        return target
    pairs = group_rows(pair_codes(events.session, events.product))
    places = np.arange(n)
    starts = np.flatnonzero(pairs.start == places)
    last = np.maximum.reduceat(np.where(events.is_purchase[pairs.rows], places, -1), starts)
    sizes = np.diff(np.append(starts, n))
    target[pairs.rows] = np.repeat(last, sizes) > places
    return target


def session_end_s(events: EventColumns) -> NDArray[np.int64]:
    """Return for every row the time of the last event of its session, seconds since 1970 UTC."""
    ends = np.empty(int(events.session.max()) + 1 if len(events.session) else 0, dtype=np.int64)
    ends[events.session] = events.time_s  # ascending, and the last of equal indices stays
    return ends[events.session]


def may_be_open(end_s: NDArray[np.int64], log_first_s: int, log_last_s: int) -> NDArray[np.bool_]:
    """Return which rows belong to a session that may go on after the end of the log."""
    window_s = min(OPEN_SESSION_S, round(OPEN_SHARE * (log_last_s - log_first_s)))
    return end_s > log_last_s - window_s


@dataclass(frozen=True, slots=True)
class TimeSplit:
    """Three slices of time, one after the other.

    Attributes
    ----------
    stop_from_s, test_from_s : int
        First second of the sessions for early stopping and of those for the test, seconds since 1970 UTC.
    slices : ndarray of int8, shape (n,)
        `TRAIN`, `STOP` or `TEST` for each row.
    """

    stop_from_s: int
    test_from_s: int
    slices: NDArray[np.int8]


def choose_split(start_s: NDArray[np.int64]) -> TimeSplit:
    """Split rows by the time their session began: train first, then early stopping, then test.

    Parameters
    ----------
    start_s : ndarray of int64, shape (n,)
        Time of the first event of the row's session, seconds since 1970 UTC.

    Raises
    ------
    InvalidDataError
        All rows are too close in time to be split.

    Notes
    -----
    Sessions stay whole. Targets never look beyond their session, so no outcome of a later slice is
    known in an earlier one.
    """
    if len(start_s) == 0:
        raise InvalidDataError("the log has no rows to train on: only views and carts of closed sessions are")
    at = np.quantile(start_s, [1 - STOP_SHARE - TEST_SHARE, 1 - TEST_SHARE], method="higher")
    stop_from, test_from = int(at[0]), int(at[1])
    slices = np.full(len(start_s), TRAIN, dtype=np.int8)
    slices[start_s >= stop_from] = STOP
    slices[start_s >= test_from] = TEST
    for code, name in enumerate(SLICE_NAMES):
        if not (slices == code).any():
            raise InvalidDataError(
                f"the {name} slice is empty: the log's {len(start_s)} rows are too few or too close in time to be "
                f"split into {', '.join(SLICE_NAMES)}"
            )
    return TimeSplit(stop_from, test_from, slices)
