"""What a Gateway counts of each version: whole numbers and sums, so that counters of many Gateways simply add up.

Only requests that chance assigned (``user-hash`` and ``random``) are compared between versions; pins and the
allow-list are counted by reason and otherwise left out, since whoever chooses a version is not comparable.

One user may send many requests, all to one version, so requests are not independent draws. Users are
therefore also dealt into `N_GROUPS` groups that have nothing to do with their version; the spread of the
counts over the groups shows by how much clusters inflate the variance (`serve_app.stats.design_effect`), and every
test divides its evidence by that factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Final

from serve_app.scoring.core.split import N_GROUPS, Reason
from serve_app.scoring.core.sums import Sums

N_SCORE_BINS: Final = 64
SCORE_LOGIT_MAX: Final = 8.0
"""Scores are counted in equal steps of log-odds from -8 to 8 (probability 0.0003 to 0.9997); rare positives
need fine steps where probabilities are small. The outermost bins take what lies beyond."""

COMPARED: Final[frozenset[str]] = frozenset({"user-hash", "random"})
"""Reasons under which a request is compared."""

_MIN_LATENCY_S: Final = 1e-6
_BINS_PER_LOGIT: Final = N_SCORE_BINS / (2 * SCORE_LOGIT_MAX)


@dataclass(slots=True)
class ArmCounters(Sums):
    """Counts of one version under one revision of the split; mutable, filled on the hot path.

    Attributes
    ----------
    n_requests : int
        Compared requests that the version answered or failed.
    n_errors : int
        Of these, failures owed to the version: exceptions, invalid answers, timeouts, callers who gave up.
    n_latencies : int
    log_latency_sum, log_latency_squares : float
        Of the natural logarithm of the seconds to an answer.
    n_scores : int
    score_sum, score_squares : float
    score_bins : list of int, length `N_SCORE_BINS`
    routed : dict of str to int
        All requests by reason, compared or not.
    group_requests, group_errors : list of int, length `N_GROUPS`
        Compared requests and errors by group of users.
    """

    TITLE: ClassVar[str] = "counters"
    n_requests: int = 0
    n_errors: int = 0
    n_latencies: int = 0
    log_latency_sum: float = 0.0
    log_latency_squares: float = 0.0
    n_scores: int = 0
    score_sum: float = 0.0
    score_squares: float = 0.0
    score_bins: list[int] = field(default_factory=lambda: [0] * N_SCORE_BINS)
    routed: dict[str, int] = field(default_factory=dict)
    group_requests: list[int] = field(default_factory=lambda: [0] * N_GROUPS)
    group_errors: list[int] = field(default_factory=lambda: [0] * N_GROUPS)

    def count_answer(self, reason: Reason, group: int, latency_s: float, probability: float) -> None:
        """Count one answered request; about 1 us."""
        self.routed[reason] = self.routed.get(reason, 0) + 1
        if reason not in COMPARED:
            return
        self.n_requests += 1
        self.group_requests[group] += 1
        log_latency = math.log(max(latency_s, _MIN_LATENCY_S))
        self.n_latencies += 1
        self.log_latency_sum += log_latency
        self.log_latency_squares += log_latency * log_latency
        self.n_scores += 1
        self.score_sum += probability
        self.score_squares += probability * probability
        self.score_bins[find_score_bin(probability)] += 1

    def count_table(self, reason: Reason, group: int) -> None:
        """Count one answered table: one request whose latency and scores compare with no single row's."""
        self.routed[reason] = self.routed.get(reason, 0) + 1
        if reason in COMPARED:
            self.n_requests += 1
            self.group_requests[group] += 1

    def count_error(self, reason: Reason, group: int) -> None:
        """Count one request that the version failed."""
        self.routed[reason] = self.routed.get(reason, 0) + 1
        if reason not in COMPARED:
            return
        self.n_requests += 1
        self.n_errors += 1
        self.group_requests[group] += 1
        self.group_errors[group] += 1


def find_score_bin(probability: float) -> int:
    """Return the bin of a probability in [0, 1]."""
    if probability <= 0.0:
        return 0
    if probability >= 1.0:
        return N_SCORE_BINS - 1
    step = int((math.log(probability / (1.0 - probability)) + SCORE_LOGIT_MAX) * _BINS_PER_LOGIT)
    return min(max(step, 0), N_SCORE_BINS - 1)
