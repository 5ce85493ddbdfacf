"""Do two versions score alike? PSI between histograms, with what chance alone would give.

What is known of the index of two samples (`serve_app.stats.psi`) turns "the shift is above (or below) a limit" into a
p-value at every sample size. Looks are many, so the k-th look spends alpha 6 / (pi^2 k^2), which adds up to alpha.

Counters carry fine fixed bins; they are joined into about ten bins of the stable version (`serve_app.stats.bins`), so
that the bins do not depend on the canary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serve_app.stats.psi import expected_psi, join_bins, measure_psi, pooled_shares, psi_share_below

MIN_SCORES: Final = 100
"""Below this many scores (after division by the clusters' factor) ten bins say nothing."""


@dataclass(frozen=True, slots=True)
class ScoreShift:
    """How far the canary's scores are from the stable version's.

    Attributes
    ----------
    psi : float
        Observed.
    expected : float
        What chance alone gives on average.
    n_bins : int
    p_above, p_below : float
        How surprising a PSI this large (this small) is when the true one is exactly the limit.
    """

    psi: float
    expected: float
    n_bins: int
    p_above: float
    p_below: float


def compare_scores(
    canary: NDArray[Any],
    stable: NDArray[Any],
    limit: float,
    dispersion_canary: float = 1.0,
    dispersion_stable: float = 1.0,
) -> ScoreShift | None:
    """Return how far apart the scores are, or None while there are too few.

    Parameters
    ----------
    canary, stable : ndarray of int
        Counts in the same fine bins.
    limit : float
        PSI that the p-values refer to.
    dispersion_canary, dispersion_stable : float
        Factors of the clusters; the rows count that many times less.
    """
    n, m = canary.sum() / dispersion_canary, stable.sum() / dispersion_stable
    if min(n, m) < MIN_SCORES:
        return None
    bins = join_bins(stable)
    q, p = (np.bincount(bins, counts) for counts in (stable / dispersion_stable, canary / dispersion_canary))
    psi, _ = measure_psi(q, p, pooled_shares(q, p))
    n_bins = max(1, int(bins.max())) + 1
    below = psi_share_below(psi, n_bins, n, m, limit)
    return ScoreShift(psi, expected_psi(n_bins, n, m), n_bins, p_above=1.0 - below, p_below=below)


def spend_alpha(alpha: float, look: int) -> float:
    """Return the share of alpha that the look (1, 2, …) may use; over all looks they add up to alpha."""
    return alpha * 6.0 / (math.pi * look) ** 2
