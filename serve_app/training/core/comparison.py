"""Whether a candidate may take its parent's place in line: the rule, on differences with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from serve_app.stats.classification import ScoredRows, compute_metrics, paired_intervals

Outcome = Literal["better", "not worse", "undecided", "worse"]

DECISIVE: Final = "log_loss"
"""What the models are trained on; the other metrics can only object."""


@dataclass(frozen=True, slots=True)
class Margin:
    """How much worse a metric may be and still count as not worse.

    Attributes
    ----------
    absolute : float
        In the metric's own unit.
    relative : float
        Share of the parent's value; the larger of the two holds.
    is_loss : bool
        Whether a larger value is worse.
    """

    absolute: float = 0.0
    relative: float = 0.0
    is_loss: bool = True


MARGINS: Final[Mapping[str, Margin]] = {
    "log_loss": Margin(relative=0.01),
    "brier": Margin(relative=0.01),
    "roc_auc": Margin(absolute=0.005, is_loss=False),
    "pr_auc": Margin(relative=0.02, is_loss=False),
    "ece": Margin(absolute=0.0025),
}
"""Several times what another seed on the same rows changes, see docs/adr/0011-a-candidate-beside-its-parent.md.
The margin of the calibration error is a quarter of the floor of its guard."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of candidate and parent on the same rows.

    Attributes
    ----------
    metric : str
    candidate, parent : float
    low, high : float
        95 % interval of candidate minus parent.
    margin : float
        Largest worsening that still counts as not worse, above 0.
    is_loss : bool
        Whether a larger value is worse.
    """

    metric: str
    candidate: float
    parent: float
    low: float
    high: float
    margin: float
    is_loss: bool

    @property
    def difference(self) -> float:
        """Candidate minus parent."""
        return self.candidate - self.parent

    @property
    def worsening(self) -> tuple[float, float, float]:
        """How much worse the candidate is: least, as measured, most; below 0 is better."""
        if self.is_loss:
            return self.low, self.difference, self.high
        return -self.high, -self.difference, -self.low


@dataclass(frozen=True, slots=True)
class ComparisonVerdict:
    """What the rule says, and why in words."""

    outcome: Outcome
    reasons: tuple[str, ...]

    @property
    def is_accepted(self) -> bool:
        """Whether the candidate may be registered without being told to."""
        return self.outcome in {"better", "not worse"}


def measure_differences(candidate: ScoredRows, parent: ScoredRows, rng: np.random.Generator) -> list[Difference]:
    """Compare two models on the same rows, ranked with the same clusters."""
    one, other = compute_metrics(candidate, ()), compute_metrics(parent, ())
    intervals = paired_intervals(candidate, parent, rng)
    return [
        Difference(
            name,
            one[name],
            other[name],
            *intervals[name],
            max(margin.absolute, margin.relative * other[name]),
            margin.is_loss,
        )
        for name, margin in MARGINS.items()
    ]


def decide_verdict(differences: Sequence[Difference]) -> ComparisonVerdict:
    """Decide whether a candidate is not worse than its parent.

    Notes
    -----
    It is not worse when both hold:

    1. its log loss is not higher as measured, or the upper end of the difference's 95 % interval stays
       within the margin;
    2. no metric is worse by more than its margin with 95 % confidence (the whole interval lies beyond).

    It is better when the whole interval of the log loss lies below 0 besides. What is not shown to be worse
    but fails the first point is undecided: too few rows for a difference this small.
    """
    beyond = [one for one in differences if one.worsening[0] > one.margin]
    if beyond:
        return ComparisonVerdict("worse", tuple(_describe(one, "is worse by more than its margin") for one in beyond))
    loss = next(one for one in differences if one.metric == DECISIVE)
    _, measured, most = loss.worsening
    if most < 0:
        return ComparisonVerdict("better", (_describe(loss, "is lower"),))
    if most <= loss.margin:
        return ComparisonVerdict("not worse", (_describe(loss, "is within its margin"),))
    if measured <= 0:
        return ComparisonVerdict("not worse", (_describe(loss, "is not higher as measured"),))
    return ComparisonVerdict(
        "undecided", (_describe(loss, "is higher as measured, and may be higher by more than its margin"),)
    )


def _describe(one: Difference, what: str) -> str:
    name = one.metric.replace("_", " ")
    return (
        f"{name} {what}: {one.candidate:.5f} against {one.parent:.5f}, difference {one.difference:+.5f} "
        f"({one.low:+.5f} to {one.high:+.5f}), margin {one.margin:.5f}"
    )


def differences_to_json(differences: Sequence[Difference]) -> dict[str, dict[str, Any]]:
    """Return differences by metric, for a manifest."""
    members = ("candidate", "parent", "difference", "low", "high", "margin")
    return {one.metric: {name: getattr(one, name) for name in members} for one in differences}
