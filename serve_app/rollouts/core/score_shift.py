"""Do two versions score alike? PSI between histograms, with what chance alone would give.

In units of 1/n + 1/m the index (`serve_app.stats.psi`) is close to a chi-square with B - 1 degrees of freedom,
noncentral by PSI_true / (1/n + 1/m); that turns "the shift is above (or below) a limit" into a p-value at every
sample size. Looks are many, so the k-th look spends alpha 6 / (pi^2 k^2), which adds up to alpha.

Counters carry fine fixed bins; they are joined into about ten bins of equal mass of the stable version, so that
the bins do not depend on the canary, and what lies outside the stable version's range has bins of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import chndtr

from serve_app.stats.psi import measure_psi, pooled_shares

N_BINS: Final = 10
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


def join_bins(stable: NDArray[Any], n_bins: int = N_BINS) -> NDArray[np.int64]:
    """Return for each fine bin its joined bin: about equal mass of `stable`, the ends beyond its range apart."""
    counts = np.asarray(stable, dtype=np.float64)
    filled = np.flatnonzero(counts)
    if not len(filled):
        return np.zeros(len(counts), dtype=np.int64)
    before = np.cumsum(counts) - counts
    step = np.floor((before + counts / 2) / counts.sum() * n_bins)
    inner = np.clip(step, 0, n_bins - 1) + 1
    inner[: filled[0]] = 0
    inner[filled[-1] + 1 :] = n_bins + 1
    return np.unique(inner, return_inverse=True)[1].astype(np.int64)


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
    unit = 1.0 / n + 1.0 / m
    n_free = max(1, int(bins.max()))
    below = float(chndtr(psi / unit, n_free, limit / unit))
    return ScoreShift(psi, n_free * unit, n_free + 1, p_above=1.0 - below, p_below=below)


def spend_alpha(alpha: float, look: int) -> float:
    """Return the share of alpha that the look (1, 2, …) may use; over all looks they add up to alpha."""
    return alpha * 6.0 / (math.pi * look) ** 2
