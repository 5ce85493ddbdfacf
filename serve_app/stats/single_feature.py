"""What one feature alone knows of the target: the baseline to beat, and the way leaks are seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_BINS: Final = 64
PRIOR_ROWS: Final = 50.0
"""A bin's rate is drawn to the base rate as if it had this many more rows of it."""


@dataclass(frozen=True, slots=True)
class FeatureRates:
    """The rate of positives over the values of one feature.

    Attributes
    ----------
    edges : ndarray of float64
        Upper edges (inclusive) of all bins but the last; a category is a bin of its own.
    rates : ndarray of float64
        Smoothed rate of positives in each bin; the last one is of values that are missing.
    """

    edges: NDArray[np.float64]
    rates: NDArray[np.float64]

    def find_bins(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return each value's bin; a missing value has the last one."""
        bins = np.searchsorted(self.edges, values.astype(np.float64), side="left")
        return np.where(np.isnan(values), len(self.rates) - 1, bins)

    def score(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return each value's rate."""
        return self.rates[self.find_bins(values)]


def fit_rates(values: NDArray[np.float32], target: NDArray[np.bool_], *, is_category: bool) -> FeatureRates:
    """Learn the rate of positives by bins of about equal size, or by category."""
    known = values[~np.isnan(values)].astype(np.float64)
    distinct = np.unique(known)
    if is_category or len(distinct) <= MAX_BINS:
        edges = distinct[:-1]
    else:
        edges = np.unique(np.quantile(known, np.arange(1, MAX_BINS) / MAX_BINS))
    base = float(target.mean())
    draft = FeatureRates(edges, np.full(len(edges) + 2, base))
    bins = draft.find_bins(values)
    count = np.bincount(bins, minlength=len(edges) + 2)
    positive = np.bincount(bins, target, minlength=len(edges) + 2)
    return FeatureRates(edges, (positive + PRIOR_ROWS * base) / (count + PRIOR_ROWS))
