"""How much one group of users may weigh: one client with bad requests is not a bad version.

Errors of independent users spread over the groups as chance has it. The largest count that chance explains, given
the level of the other groups, is the cap; what a group has beyond it is not counted. A version that fails many users
keeps nearly all of its errors (98 of 100), a single client that fails a thousand times counts like one or two.

References
----------
Tukey (1962), Ann. Math. Stat. 33: winsorised sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from scipy.special import pdtrc

MAX_EXPECTED: Final = 0.25
"""A cap is high enough when chance takes fewer groups than this above it, on average."""


def find_cap(counts: Sequence[int]) -> int:
    """Return the largest count of a group that chance explains, at least 1.

    Notes
    -----
    The smallest k with ``n P(X > k) <= MAX_EXPECTED``, where X is Poisson and its mean that of the counts capped at
    k. Found by bisection, about 30 us.
    """
    low, high = 1, max(1, *counts)
    while low < high:
        middle = (low + high) // 2
        if _expect_above(counts, middle) <= MAX_EXPECTED:
            high = middle
        else:
            low = middle + 1
    return low


def cap_counts(counts: Sequence[int]) -> list[int]:
    """Return the counts with none above the cap."""
    cap = find_cap(counts)
    return [min(count, cap) for count in counts]


def _expect_above(counts: Sequence[int], cap: int) -> float:
    mean = sum([min(count, cap) for count in counts]) / len(counts)
    return len(counts) * float(pdtrc(cap, mean))
