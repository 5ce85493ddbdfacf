"""95 % intervals of shares and means, also of requests that come in clusters of one user.

A clustered sample says as much as a smaller one of independent requests; every interval takes the factor by which
clusters inflate the variance, see `serve_app.stats.design_effect`.

References
----------
Clopper & Pearson (1934), Biometrika 26. Korn & Graubard (1998), Survey Methodology 24: the same with the effective
sample size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy.special import bdtrik, betaincinv, stdtrit

TAIL: Final = (1 - 0.95) / 2
"""Probability beyond each end of an interval."""


def share_interval(k: float, n: float, dispersion: float = 1.0) -> tuple[float, float, float]:
    """Return k / n with its exact (Clopper-Pearson) interval; without any observation all of 0 to 1."""
    if n <= 0:
        return 0.0, 0.0, 1.0
    share, k, n = k / n, k / dispersion, n / dispersion
    low = float(betaincinv(k, n - k + 1, TAIL)) if k > 0 else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - TAIL)) if k < n else 1.0
    return share, low, high


def mean_interval(n: int, total: float, squares: float, dispersion: float = 1.0) -> tuple[float, float, float] | None:
    """Return a mean with its interval by Student's t, from sums; None below two observations.

    Parameters
    ----------
    n : int
    total, squares : float
        Sum of the values and of their squares.
    dispersion : float
        Factor of the variance, at least 1.
    """
    if n < 2:  # noqa: PLR2004
        return None
    mean = total / n
    variance = max(squares - total * mean, 0.0) / (n - 1) * dispersion
    reach = float(stdtrit(max(n / dispersion - 1, 1.0), 1 - TAIL)) * math.sqrt(variance / n)
    return mean, mean - reach, mean + reach


def median_interval(values: Sequence[float]) -> tuple[float, float, float] | None:
    """Return the median with its distribution-free 95 % interval from order statistics."""
    if not values:
        return None
    ordered = sorted(values)
    n = len(ordered)
    k = max(0, math.ceil(float(bdtrik(TAIL, n, 0.5))) - 1)
    return float(np.median(ordered)), float(ordered[k]), float(ordered[n - 1 - k])
