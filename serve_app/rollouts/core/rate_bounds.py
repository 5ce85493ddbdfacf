"""Is it ruled out that a canary adds more errors than a plan allows? Bounds for error rates that hold at every look.

Passing is another question than not failing: a second E-value, against "the canary adds at least the limit to
the stable version's error rate", has to become large. Its null rate is the limit above a lower bound for the
stable rate that holds at every look, its alternative the stable rate itself, both from earlier intervals only.

References
----------
Robbins (1970), Ann. Math. Stat. 41: mixtures of likelihood ratios, confidence sequences.
"""

from __future__ import annotations

import math
from typing import Final

from scipy.optimize import brentq
from scipy.special import betaln

from serve_app.rollouts.core.sequential import ErrorEvidence
from serve_app.stats.design_effect import measure_dispersion

_PRIOR: Final = (0.5, 0.5)
"""Beta prior (Jeffreys) of the confidence sequences: tight for rare errors, valid for all."""


def log_harmless(canary: tuple[int, int], stable: tuple[int, int], limit: float, alpha: float) -> float:
    """Return the log ratio of one interval for "the canary is like stable" over "it adds at least the limit".

    Parameters
    ----------
    canary : pair of int
        Requests and errors in the interval.
    stable : pair of int
        Requests and errors of the same step in the intervals before, never in this one: chosen beforehand, both
        rates make the product over intervals a supermartingale whenever the canary adds the limit or more.
    limit : float
        Share of requests.
    alpha : float
        Probability that the lower bound for the stable rate fails.

    Notes
    -----
    0 while the bound is too loose to tell the two apart.
    """
    (n_c, x_c), (n_s, x_s) = canary, stable
    if not n_c or not n_s:
        return 0.0
    alike = (x_s + _PRIOR[0]) / (n_s + _PRIOR[0] + _PRIOR[1])
    harmful = min(lower_rate(x_s, n_s, alpha) + limit, 1.0 - 1e-9)
    if alike >= harmful:
        return 0.0
    return x_c * math.log(alike / harmful) + (n_c - x_c) * (math.log1p(-alike) - math.log1p(-harmful))


def upper_rate(evidence: ErrorEvidence, alpha: float) -> float:
    """Return an upper bound for the stable version's error rate from all that was recorded of it; 1 without anything.

    Notes
    -----
    Counts are divided by how much the errors are clustered by user.
    """
    n, x = evidence.n_stable, evidence.x_stable
    if not n:
        return 1.0
    factor = measure_dispersion(evidence.stable_groups)
    return 1.0 - lower_rate((n - x) / factor, n / factor, alpha)


def lower_rate(x: float, n: float, alpha: float) -> float:
    """Return a lower bound for an error rate that holds at every look with probability 1 - alpha.

    Notes
    -----
    The rate below the observed one at which a Beta mixture has 1/alpha times its likelihood.
    """
    if x <= 0:
        return 0.0
    a, b = _PRIOR
    constant = float(betaln(a + x, b + n - x) - betaln(a, b)) + math.log(alpha)

    def excess(p: float) -> float:
        return constant - x * math.log(p) - ((n - x) * math.log1p(-p) if n > x else 0.0)

    lowest, observed = 1e-12, min(x / n, 1.0 - 1e-12)
    if excess(lowest) <= 0.0:
        return 0.0
    return float(brentq(excess, lowest, observed, xtol=1e-10, rtol=1e-8))
