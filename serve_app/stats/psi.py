"""The population stability index (PSI): how far the shares of bins in two samples are apart.

It is above zero for two samples of one population too: (B - 1)(1/n + 1/m) on average for n and m rows in B bins, so
"PSI above 0.1" is noise below some hundred rows. In units of 1/n + 1/m it is close to a chi-square with B - 1
degrees of freedom, noncentral by PSI_true / (1/n + 1/m) when the populations are apart.

References
----------
Yurdakul (2018), Statistical properties of the Population Stability Index, WMU dissertation 3208.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

_COUNTS = NDArray[Any]


N_BINS: Final = 10

_FLOAT = NDArray[np.float64]


def decile_edges(known: _FLOAT) -> _FLOAT:
    """Return the distinct deciles; a lowest value that fills a tenth or more has a bin of its own.

    Most shoppers have bought nothing yet: with 0 in one bin with what is above, no index would see their
    share change.
    """
    deciles = np.quantile(known, np.arange(N_BINS + 1) / N_BINS)
    edges = np.unique(deciles)
    return np.concatenate([edges[:1], edges]) if deciles[0] == deciles[1] else edges


def count_ranges(edges: Sequence[float] | _FLOAT, values: _FLOAT) -> NDArray[np.int64]:
    """Count values in ranges: each is above its lower edge, up to its upper one; what is beyond is in the ends."""
    return np.bincount(np.searchsorted(edges[1:-1], values, side="left"), minlength=max(len(edges) - 1, 0))


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


def measure_psi(reference: _COUNTS, new: _COUNTS, added: _COUNTS | float = 0.5) -> tuple[float, int]:
    """Return the PSI between two samples' counts of the same bins, and the number of bins that hold rows.

    Parameters
    ----------
    reference, new : ndarray, shape (n,)
    added : float or ndarray, shape (n,)
        Rows added to every bin of both samples, so that one that is empty on one side gives a finite index. With
        many bins that hold few rows, half a row keeps chance from being called drift; with few bins and many rows
        it hides some of the chance that is there, and `pooled_shares` hide none.

    Notes
    -----
    PSI = sum over bins of (q - p) ln(q / p). Bins that are empty in both samples do not count.
    """
    used = (reference > 0) | (new > 0)
    n_bins = int(used.sum())
    if n_bins == 0:
        return 0.0, 0
    p, q = ((counts + added)[used] for counts in (reference, new))
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((q - p) * np.log(q / p))), n_bins


def pooled_shares(reference: _COUNTS, new: _COUNTS) -> _COUNTS:
    """Return each bin's share of both samples together: one row in all."""
    total: _COUNTS = reference + new
    return np.divide(total, max(float(total.sum()), 1.0))


def expected_psi(n_bins: int, n_reference: float, n_new: float) -> float:
    """Return the mean PSI of two samples of one population, (B - 1)(1/n + 1/m)."""
    return max(n_bins - 1, 0) * (1 / n_reference + 1 / n_new)


def psi_p_value(psi: float, n_bins: int, n_reference: float, n_new: float) -> float:
    """Return the probability of a PSI at least this large without drift."""
    if n_bins <= 1:
        return 1.0
    return float(special.chdtrc(n_bins - 1, psi / (1 / n_reference + 1 / n_new)))


def smallest_visible_psi(n_bins: int, n_reference: float, n_new: float, alpha: float) -> float:
    """Return the PSI from which chance is ruled out, at most a share `alpha` of drift-free samples being above it."""
    if n_bins <= 1:
        return 0.0
    return float(special.chdtri(n_bins - 1, alpha)) * (1 / n_reference + 1 / n_new)


def psi_share_below(psi: float, n_bins: int, n_reference: float, n_new: float, true: float) -> float:
    """Return the probability of a PSI at most this large when the populations are apart by `true`."""
    unit = 1 / n_reference + 1 / n_new
    return float(special.chndtr(psi / unit, n_bins - 1, true / unit))
