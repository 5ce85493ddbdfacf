"""How a shadow's scores differ from the live version's, as whole numbers and sums that simply add up."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from serve_app.scoring.core.sums import Sums

N_DIFFERENCE_BINS: Final = 120
MIN_DIFFERENCE: Final = 1e-9
"""Smaller differences of probabilities count as none; golden rows are proved to this."""
BINS_PER_DECADE: Final = 13
"""So that a bin is 20 % wide: 120 bins reach from 1e-9 to above 1."""


@dataclass(slots=True)
class ShadowCounters(Sums):
    """Counts of a shadow; mutable, filled beside the hot path.

    Attributes
    ----------
    n_copied : int
        Rows that were meant for the shadow, whatever became of them.
    n_dropped : int
        Of these, dropped under pressure, unasked.
    n_failed : int
        Of these, asked and not answered.
    n_compared : int
        Rows that both versions scored.
    n_changed : int
        Of these, rows with another recommendation.
    difference_sum, difference_squares, absolute_sum : float
        Of shadow minus live probability.
    largest : float
        Largest absolute difference.
    difference_bins : list of int, length `N_DIFFERENCE_BINS` + 1
        Absolute differences: bin 0 is none, the others are logarithmic.
    latency_sum_s : float
        Of the compared rows' time in the shadow; a table's for each of its rows.
    """

    TITLE: ClassVar[str] = "a shadow's counters"
    LARGEST: ClassVar[frozenset[str]] = frozenset({"largest"})
    n_copied: int = 0
    n_dropped: int = 0
    n_failed: int = 0
    n_compared: int = 0
    n_changed: int = 0
    difference_sum: float = 0.0
    difference_squares: float = 0.0
    absolute_sum: float = 0.0
    largest: float = 0.0
    difference_bins: list[int] = field(default_factory=lambda: [0] * (N_DIFFERENCE_BINS + 1))
    latency_sum_s: float = 0.0

    def count_pair(self, live: float, shadow: float, *, is_changed: bool, latency_s: float) -> None:
        """Count one row that both versions scored; about 1 us."""
        difference = shadow - live
        size = abs(difference)
        self.n_compared += 1
        self.n_changed += is_changed
        self.difference_sum += difference
        self.difference_squares += difference * difference
        self.absolute_sum += size
        self.largest = max(self.largest, size)
        self.difference_bins[find_difference_bin(size)] += 1
        self.latency_sum_s += latency_s

    def count_table(
        self, live: NDArray[np.float64], shadow: NDArray[np.float64], *, n_changed: int, latency_s: float
    ) -> None:
        """Count the rows of a table, (n,) each; NaN where a version rejected the row.

        Rows that both rejected are neither compared nor failed; `latency_s` is that of the whole table.
        """
        both = ~np.isnan(live) & ~np.isnan(shadow)
        self.n_failed += int((np.isnan(shadow) & ~np.isnan(live)).sum())
        differences = shadow[both] - live[both]
        sizes = np.abs(differences)
        self.n_compared += len(sizes)
        self.n_changed += n_changed
        self.difference_sum += float(differences.sum())
        self.difference_squares += float((differences * differences).sum())
        self.absolute_sum += float(sizes.sum())
        self.largest = max(self.largest, float(sizes.max(initial=0.0)))
        for bin_, count in Counter(map(find_difference_bin, sizes.tolist())).items():
            self.difference_bins[bin_] += count
        self.latency_sum_s += latency_s * len(sizes)


def find_difference_bin(size: float) -> int:
    """Return the bin of an absolute difference."""
    if size < MIN_DIFFERENCE:
        return 0
    return min(1 + int(math.log10(size / MIN_DIFFERENCE) * BINS_PER_DECADE), N_DIFFERENCE_BINS)


def describe_shadow(counters: ShadowCounters) -> dict[str, Any]:
    """Return a summary: counts, mean difference with its standard error, quantiles of the absolute difference.

    Quantiles are upper ends of 20 % wide bins, hence at most 20 % too large.
    """
    n = counters.n_compared
    summary: dict[str, Any] = {
        "n_copied": counters.n_copied,
        "n_dropped": counters.n_dropped,
        "n_failed": counters.n_failed,
        "n_compared": n,
    }
    if not n:
        return summary
    mean = counters.difference_sum / n
    variance = max(counters.difference_squares / n - mean * mean, 0.0) * n / max(n - 1, 1)
    return {
        **summary,
        "mean_difference": mean,
        "standard_error": math.sqrt(variance / n),
        "mean_absolute_difference": counters.absolute_sum / n,
        "quantiles": {f"p{q:g}": _find_quantile(counters, q / 100) for q in (50, 90, 99, 99.9)},
        "largest_difference": counters.largest,
        "changed_share": counters.n_changed / n,
        "mean_latency_s": counters.latency_sum_s / n,
    }


def _find_quantile(counters: ShadowCounters, share: float) -> float:
    wanted, seen = share * counters.n_compared, 0
    for k, count in enumerate(counters.difference_bins):
        seen += count
        if count and seen >= wanted:
            upper = MIN_DIFFERENCE * 10 ** (k / BINS_PER_DECADE)
            return 0.0 if k == 0 else min(upper, counters.largest)
    return counters.largest
