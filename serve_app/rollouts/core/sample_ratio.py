"""Did each version get the share that was asked for? Looked at before anything else is believed.

A sample-ratio mismatch means that requests are lost or misrouted on the way to one version, and then the
versions' users are not comparable, whatever their figures say. The test is exact and may be looked at after
every interval: a Dirichlet mixture of multinomials against the multinomial with the shares that were set.
Under the right shares the Bayes factor is a martingale that starts at 1.

References
----------
Lindon & Malek (2022), NeurIPS: Anytime-valid inference for multinomial count data. Fabijan et al. (2019), KDD:
Diagnosing sample ratio mismatch in online controlled experiments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from scipy.special import gammaln

from serve_app.scoring.core.split import N_GROUPS
from serve_app.stats.design_effect import measure_dispersion

CONCENTRATION: Final = 100.0
"""Weight of the prior around the shares that were set: at 1 % it looks for 0 to 3 %, at 50 % for 40 to 60 %."""

ALPHA: Final = 0.001
"""A good split is called mismatched once in 1,000 rollouts at most."""


@dataclass(frozen=True, slots=True)
class RatioEvidence:
    """Counts under the current shares; plain numbers.

    Attributes
    ----------
    n_closed : int
        How often the shares changed. The k-th shares are tested at level alpha / (k (k + 1)), which adds up to
        alpha: a rollout that was right so far has earned no credit.
    shares : mapping of str to float
        The current shares by version, as text so that JSON keeps them.
    groups : mapping of str to tuple of int
        Compared requests by version and group under the current shares.
    """

    n_closed: int = 0
    shares: Mapping[str, float] = field(default_factory=dict)
    groups: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Compared requests by version under the current shares."""
        return {version: sum(groups) for version, groups in self.groups.items()}

    def dispersion(self, version: str) -> float:
        """Return by how much clusters of requests inflate the variance of this version's counts."""
        return measure_dispersion(self.groups.get(version, (0,) * N_GROUPS))

    @property
    def log_bayes_factor(self) -> float:
        """Evidence against the current shares, divided by the clusters' factor."""
        if len(self.shares) < 2:  # noqa: PLR2004
            return 0.0
        expected = np.array(list(self.shares.values()))
        found = np.array([sum(self.groups[version]) for version in self.shares])
        factor = log_bayes_factor(found, expected)
        worst = max(self.dispersion(version) for version in self.shares)
        return factor / worst if factor > 0 else factor

    @property
    def bound(self) -> float:
        """What the log Bayes factor must reach to refute the current shares."""
        k = max(1, self.n_closed)
        return math.log(k * (k + 1) / ALPHA)

    @property
    def is_mismatched(self) -> bool:
        """Whether the current shares are refuted."""
        return self.log_bayes_factor >= self.bound


def log_bayes_factor(counts: np.ndarray, shares: np.ndarray) -> float:
    """Return log of (Dirichlet-multinomial around the shares / multinomial with the shares).

    Parameters
    ----------
    counts : ndarray of int, shape (n_versions,)
    shares : ndarray of float, shape (n_versions,)
        Above 0, together 1.
    """
    prior = CONCENTRATION * shares
    total = counts.sum()
    mixture = gammaln(prior.sum()) - gammaln(prior.sum() + total) + (gammaln(prior + counts) - gammaln(prior)).sum()
    return float(mixture - (counts * np.log(shares)).sum())


def add_routed(evidence: RatioEvidence, shares: Mapping[int, float], groups: Mapping[int, list[int]]) -> RatioEvidence:
    """Return the evidence after one more interval; other shares than before begin new counts.

    Parameters
    ----------
    shares : mapping of int to float
        Share by version under the split that was in force, each above 0.
    groups : mapping of int to list of int
        Compared requests by version and group.
    """
    current = {str(version): share for version, share in shares.items()}
    if current != evidence.shares:
        nothing = dict.fromkeys(current, (0,) * N_GROUPS)
        evidence = RatioEvidence(evidence.n_closed + 1, current, nothing)
    added = {
        version: tuple([a + b for a, b in zip(seen, groups[int(version)], strict=True)])
        if int(version) in groups
        else seen
        for version, seen in evidence.groups.items()
    }
    return RatioEvidence(evidence.n_closed, current, added)
