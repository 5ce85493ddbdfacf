"""How much less a sample says whose rows come in clusters of one user than one of independent rows.

`effective_rows` knows who sent each row and takes the worst case; `measure_dispersion` knows only how many events
there were in each of some groups of users, as counters do.

References
----------
Kish (1965), Survey Sampling: design effect. Wolter (2007), Introduction to Variance Estimation, ch. 2: random
groups. Wedderburn (1974), Biometrika 61: the same factor as dispersion of a quasi-likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

DISPERSION_LEVEL: Final = 0.05
"""Counts that spread over the groups no more than chance would in 95 % of cases are taken for independent."""


def effective_rows(cluster: NDArray[np.int64]) -> float:
    """Return how many independent rows clustered rows are worth at least, (sum m)**2 / sum m**2.

    Notes
    -----
    Kish's effective size for clusters whose rows are all alike, the worst case.
    """
    sizes = np.unique(cluster, return_counts=True)[1].astype(np.float64)
    return float(sizes.sum() ** 2 / (sizes @ sizes)) if len(sizes) else 0.0


def measure_dispersion(counts: Sequence[int]) -> float:
    """Return how many times more the counts of the groups vary than independent events would; at least 1.

    Parameters
    ----------
    counts : sequence of int
        By group.

    Notes
    -----
    For users with k events each the index of dispersion estimates ``E[k^2] / E[k]``: 1 when everybody has one,
    m when one user has all m of them. What chance explains in 95 % of cases counts as 1, so that independent
    events keep their full weight.
    """
    total = sum(counts)
    if total <= 1:
        return 1.0
    n_free = len(counts) - 1
    spread = sum([count * count for count in counts]) * len(counts) / total - total
    return spread / n_free if spread > _critical(n_free) else 1.0


@cache
def _critical(n_free: int) -> float:
    return float(chdtri(n_free, DISPERSION_LEVEL))
