"""Is a canary slower? A mixture sequential probability ratio test on the mean of log latency.

The difference d of the mean log latencies is the log of the ratio of geometric means: 0.18 is 20 % slower.
Latency changes with the time of day and with load, and the canary's share changes from step to step, so
differences are taken within each interval and averaged with weights n_c n_s / (n_c + n_s); pooling the raw
sums over steps would compare different hours (Simpson's paradox).

The variance is not known. It is estimated for each version from the spread within intervals, pooled over all
of them, and V = (s_c^2 sum w^2/n_c + s_s^2 sum w^2/n_s) / (sum w)^2. With an estimated V the guarantee holds for
large samples, so no verdict is given below `MIN_LATENCIES` of each version; a simulation in the tests shows
what is left of it. tau is fixed on the raw scale of d: on the scale of z it would grow with the sample, and the
test would forget how large a difference matters.

References
----------
Robbins (1970), Ann. Math. Stat. 41. Johari, Koomen, Pekelis, Walsh (2022), Operations Research 70: mSPRT for
A/B tests. Zhao, Chen, Matei et al. (2018), arXiv:1806.10412: mSPRT in experimentation at scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from scipy.special import log_ndtr

TAU: Final = 0.2
"""Scale of differences worth finding: 20 % slower or faster."""

MIN_LATENCIES: Final = 100
_MIN_VARIANCE: Final = 1e-12

Sums = tuple[int, float, float]
"""Number, sum and sum of squares of log latencies in one interval."""


@dataclass(frozen=True, slots=True)
class LatencyEvidence:
    """Sums over intervals; plain numbers, so they can be stored and resumed.

    Attributes
    ----------
    weight, weighted : float
        Sum of weights w, and of w times the difference of the interval's means (canary - stable).
    n_canary, n_stable : int
    free_canary, free_stable : int
        Degrees of freedom of the spread within intervals.
    squares_canary, squares_stable : float
        Squared deviations from the interval's mean.
    spread_canary, spread_stable : float
        Sum of w^2 / n.
    """

    weight: float = 0.0
    weighted: float = 0.0
    n_canary: int = 0
    n_stable: int = 0
    free_canary: int = 0
    free_stable: int = 0
    squares_canary: float = 0.0
    squares_stable: float = 0.0
    spread_canary: float = 0.0
    spread_stable: float = 0.0

    @property
    def is_enough(self) -> bool:
        """Whether the variance can be trusted."""
        return min(self.n_canary, self.n_stable) >= MIN_LATENCIES and min(self.free_canary, self.free_stable) > 1

    @property
    def difference(self) -> float:
        """Mean difference of log latency, canary - stable."""
        return self.weighted / self.weight if self.weight else 0.0

    def variance(self, dispersion_canary: float = 1.0, dispersion_stable: float = 1.0) -> float:
        """Return V, the variance of the difference, inflated by clusters of users."""
        if not self.weight or not self.free_canary or not self.free_stable:
            return math.inf
        canary = self.squares_canary / self.free_canary * self.spread_canary * dispersion_canary
        stable = self.squares_stable / self.free_stable * self.spread_stable * dispersion_stable
        return max((canary + stable) / self.weight**2, _MIN_VARIANCE)


def add_latencies(evidence: LatencyEvidence, canary: Sums, stable: Sums) -> LatencyEvidence:
    """Return the evidence after one more interval; an interval without both versions compares nothing."""
    (n_c, sum_c, squares_c), (n_s, sum_s, squares_s) = canary, stable
    if not n_c or not n_s:
        return evidence
    w = n_c * n_s / (n_c + n_s)
    return LatencyEvidence(
        evidence.weight + w,
        evidence.weighted + w * (sum_c / n_c - sum_s / n_s),
        evidence.n_canary + n_c,
        evidence.n_stable + n_s,
        evidence.free_canary + n_c - 1,
        evidence.free_stable + n_s - 1,
        evidence.squares_canary + max(0.0, squares_c - sum_c * sum_c / n_c),
        evidence.squares_stable + max(0.0, squares_s - sum_s * sum_s / n_s),
        evidence.spread_canary + w * w / n_c,
        evidence.spread_stable + w * w / n_s,
    )


def log_msprt(difference: float, variance: float, tau: float = TAU) -> float:
    """Return the log of the mixture likelihood ratio for "the mean is not 0".

    Notes
    -----
    L = sqrt(V / (V + tau^2)) exp(tau^2 d^2 / (2 V (V + tau^2))), the mixture over N(0, tau^2).
    """
    total = variance + tau * tau
    return 0.5 * math.log(variance / total) + tau * tau * difference**2 / (2 * variance * total)


def log_msprt_above(difference: float, variance: float, tau: float = TAU) -> float:
    """Return the same for "the mean is above 0": the mixture over positive effects alone.

    Notes
    -----
    The mixing density is 2 N(0, tau^2) on the positive half, which multiplies L by 2 Phi(d tau / sqrt(V (V +
    tau^2))). Against a mean of 0 or below it is a supermartingale, so it may reach 1/alpha with probability
    alpha at most.
    """
    if not math.isfinite(variance):
        return 0.0
    z = difference * tau / math.sqrt(variance * (variance + tau * tau))
    return log_msprt(difference, variance, tau) + math.log(2.0) + float(log_ndtr(z))
