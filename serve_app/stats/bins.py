"""Bins of one sample, its reference, in which another one is counted to compare them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

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
