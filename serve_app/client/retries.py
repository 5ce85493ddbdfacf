"""When another try is worth it, and how long to wait for it."""

from __future__ import annotations

import math
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 5.0
"""Back-off doubles from the first to the longest; a lost replica takes 3-10 s to come back."""

RETRIED_STATUS: Final = frozenset({429, 503})
"""The service refused before it scored."""

RETRIED_FAILURES: Final = (httpx.NetworkError, httpx.RemoteProtocolError)
"""The connection failed. The row may have been scored, which is safe to do again: it changes no state."""


def parse_retry_after(value: str | None, now_s: float) -> float | None:
    """Parse a ``Retry-After`` header.

    Parameters
    ----------
    value : str or None
        Seconds, or an HTTP date.
    now_s : float
        Seconds since 1970.

    Returns
    -------
    float or None
        Seconds from now, 0 for a date that passed; None when the header is absent or neither form.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        pass
    else:
        return seconds if math.isfinite(seconds) and seconds >= 0 else None
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, at.timestamp() - now_s)


def backoff_s(n_tries: int, jitter: float) -> float:
    """Return the wait after `n_tries` tries, seconds; `jitter` in 0..1 takes up to half of it away."""
    longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(n_tries - 1, 16))
    return longest * (1 - jitter / 2)
