"""Events as columns of integers, and rows brought together by a code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_KEY_BITS: Final = 63
_INT = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EventColumns:
    """The events of some users, all of their events, in the order they arrived.

    A log has no order of arrival; it is sorted by (event_time, position in the log) first.

    Attributes
    ----------
    user, session, product : ndarray of int64, shape (n,)
        Dense codes from 0. A session code stands for one pair of user and session id.
    category : ndarray of int64, shape (n,)
        Dense code of the category id, -1 for null.
    time_s : ndarray of int64, shape (n,)
        Seconds since 1970 UTC; ascending in a log, in any order online, where events come late.
    price_cents : ndarray of int64, shape (n,)
        Price in hundredths, not negative.
    is_purchase : ndarray of bool, shape (n,)
    """

    user: _INT
    session: _INT
    product: _INT
    category: _INT
    time_s: _INT
    price_cents: _INT
    is_purchase: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows brought together by a code, their order kept inside each group.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        Row numbers, group after group.
    start : ndarray of int64, shape (n,)
        For each place in `rows`, the first place of its group.
    """

    rows: _INT
    start: _INT


def group_rows(codes: _INT) -> Groups:
    """Group rows by a non-negative code.

    Notes
    -----
    One sort of ``code << bits | row`` in int64, several times faster than a stable argsort; codes too
    large to be packed with the row number take the stable argsort.
    """
    n = len(codes)
    places = np.arange(n, dtype=np.int64)
    if n == 0:
        return Groups(places, places)
    bits = max(n - 1, 1).bit_length()
    if int(codes.max()).bit_length() + bits <= _KEY_BITS:
        keys = np.sort(codes << bits | places)
        rows, ordered = keys & ((1 << bits) - 1), keys >> bits
    else:
        rows = np.argsort(codes, kind="stable").astype(np.int64)
        ordered = codes[rows]
    is_first = np.empty(n, dtype=bool)
    is_first[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    return Groups(rows, np.maximum.accumulate(np.where(is_first, places, 0)))


def pair_codes(session: _INT, item: _INT) -> _INT:
    """Return one code for each pair of a session and a non-negative item code."""
    width = int(item.max()) + 1 if len(item) else 1
    return session * width + item
