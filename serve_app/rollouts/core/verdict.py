"""What the counters say of a canary: evidence is added up interval by interval, verdicts say it in plain words.

A verdict is ``fail`` when a bound on chance is crossed, ``pass`` when harm beyond the plan's limit is ruled out,
and ``inconclusive`` in between: too little data is never a pass and never a failure.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from serve_app.errors import InvariantError
from serve_app.rollouts.core.latency_shift import MIN_LATENCIES, add_latencies, log_msprt_above
from serve_app.rollouts.core.plan import Metric, Plan
from serve_app.rollouts.core.rate_bounds import log_harmless, upper_rate
from serve_app.rollouts.core.sample_ratio import RatioEvidence, add_routed
from serve_app.rollouts.core.score_shift import MIN_SCORES, compare_scores, spend_alpha
from serve_app.rollouts.core.sequential import ErrorEvidence, add_alone, add_counts, add_errors
from serve_app.rollouts.core.state import Phase, RolloutState, StepCounts, spend_by_step
from serve_app.scoring.core.counters import ArmCounters

Outcome = Literal["pass", "fail", "inconclusive", "error"]
PASS_ALPHA: Final = 0.05
"""Probability at most of passing, at one step, a canary that harms by the plan's limit or more; it would still be
compared at every later step."""

_BIG: Final = 1e6


@dataclass(frozen=True, slots=True)
class Interval:
    """What Gateways counted under one revision of the split since the last report.

    Attributes
    ----------
    shares : mapping of int to float
        Share by version under that revision, without versions that have none.
    arms : mapping of int to ArmCounters
        Counters by version.

    Raises
    ------
    InvariantError
        A version without a share has compared requests.
    """

    shares: Mapping[int, float]
    arms: Mapping[int, ArmCounters]

    def __post_init__(self) -> None:
        for version, counters in self.arms.items():
            if counters.n_requests and version not in self.shares:
                raise InvariantError(f"version {version} counted {counters.n_requests} requests but has no share")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one measurement.

    Attributes
    ----------
    metric : str
    outcome : {"pass", "fail", "inconclusive", "error"}
    evidence : str
        Counts, statistic and bound in plain words.
    figures : mapping of str to float
        The same for machines.
    is_dry_run : bool
        Shown only.
    """

    metric: str
    outcome: Outcome
    evidence: str
    figures: Mapping[str, float] = field(default_factory=dict)
    is_dry_run: bool = False


def add_intervals(plan: Plan, state: RolloutState, intervals: Sequence[Interval]) -> RolloutState:
    """Return the state with the evidence of intervals added, in the order in which they happened."""
    metric = next((metric for metric in plan.metrics if metric.name == "errors"), None)
    for interval in intervals:
        state = _add_interval(state, interval, metric)
    return state


def judge_metric(metric: Metric, state: RolloutState) -> tuple[Verdict, bool]:
    """Return the verdict of one metric, and whether this look spends alpha."""
    if metric.name == "score":
        return judge_score(metric, state)
    judge = {"errors": judge_errors, "latency": judge_latency}[metric.name]
    return judge(metric, state), False


def judge_errors(metric: Metric, state: RolloutState) -> Verdict:
    """Fail when the E-value reaches 1/alpha; pass when "it adds the limit or more" is refuted in this step.

    At 100 % the canary is held against what was recorded of the stable version before.
    """
    seen, is_alone = state.errors, state.phase is Phase.PROMOTING
    factor, bound, needed = seen.dispersion, 1.0 / metric.alpha, 2.0 / PASS_ALPHA
    e_value, harmless = _exp(seen.log_e), _exp(state.in_step.log_harmless / factor)
    counts = (
        f"v{state.canary} failed {_rate(seen.x_canary, seen.n_canary)}, "
        f"v{state.stable} {_rate(seen.x_stable, seen.n_stable)}"
    ) + _one_group(seen)
    if is_alone:
        counts += _held_against(metric, seen)
    figures = {
        "n_canary": seen.n_canary,
        "x_canary": seen.x_canary,
        "x_counted": seen.counted,
        "n_stable": seen.n_stable,
        "x_stable": seen.x_stable,
        "e_value": e_value,
        "bound": bound,
        "e_value_harmless": harmless,
        "bound_harmless": needed,
        "dispersion": factor,
    }
    if e_value >= bound:
        chance = f"E-value {_number(e_value)} reached {bound:.3g}; chance gets there in at most {metric.alpha:.2%}"
        return Verdict(metric.name, "fail", f"{counts}; {chance} of good rollouts", figures, metric.dry_run)
    is_harmless = harmless >= needed
    where = "at 100 %" if is_alone else f"in this step{_clusters(factor)}"
    ruled = f"{metric.limit:.2%} or more added is {'ruled out' if is_harmless else 'not ruled out yet'} {where}"
    ruled += f" ({_number(harmless)} of {needed:.3g})"
    if is_alone and not is_harmless:  # nothing waits for that any more: only harm that is shown would count
        ruled = "no harm found at 100 %"
    detail = f"{counts}; E-value {_number(e_value)} of {bound:.3g}; {ruled}"
    return Verdict(metric.name, "pass" if is_harmless else "inconclusive", detail, figures, metric.dry_run)


def judge_latency(metric: Metric, state: RolloutState) -> Verdict:
    """Fail when this step's mean log latency is shown to be above the limit, pass when it is shown to be below."""
    factors = [state.ratio.dispersion(str(version)) for version in (state.canary, state.stable)]
    seen, margin = state.in_step.latency, math.log(metric.limit)
    figures: dict[str, float] = {
        "n_canary": seen.n_canary,
        "n_stable": seen.n_stable,
        "ratio": math.exp(seen.difference),
    }
    if not seen.is_enough:
        detail = f"{seen.n_canary:,} and {seen.n_stable:,} latencies in this step, {MIN_LATENCIES} of each are needed"
        return Verdict(metric.name, "inconclusive", detail, figures, metric.dry_run)
    side, alpha = "below", PASS_ALPHA
    if seen.difference > margin:
        side, alpha = "above", spend_by_step(metric.alpha, state.step)
    value = _exp(log_msprt_above(abs(seen.difference - margin), seen.variance(*factors)))
    outcome: Outcome = "inconclusive"
    if value >= 1.0 / alpha:
        outcome = "fail" if side == "above" else "pass"
    figures |= {"statistic": value, "bound": 1.0 / alpha}
    detail = (
        f"{math.exp(seen.difference):.2f} times the stable version's latency (geometric means of {seen.n_canary:,} "
        f"and {seen.n_stable:,} requests in this step){_clusters(max(factors))}; {side} the limit {metric.limit:g} "
        f"with mSPRT {_number(value)} of {1.0 / alpha:.3g}"
    )
    return Verdict(metric.name, outcome, detail, figures, metric.dry_run)


def judge_score(metric: Metric, state: RolloutState) -> tuple[Verdict, bool]:
    """Fail when the PSI of this step is shown to be above the limit, pass when it is shown to be below."""
    factors = [state.ratio.dispersion(str(version)) for version in (state.canary, state.stable)]
    canary, stable = np.asarray(state.in_step.scores_canary), np.asarray(state.in_step.scores_stable)
    shift = compare_scores(canary, stable, metric.limit, *factors)
    n_c, n_s = int(canary.sum()), int(stable.sum())
    figures: dict[str, float] = {"n_canary": n_c, "n_stable": n_s}
    if shift is None:
        needed = f"{n_c:,} and {n_s:,} scores in this step{_clusters(max(factors))}, {MIN_SCORES} of each are needed"
        return Verdict(metric.name, "inconclusive", needed, figures, metric.dry_run), False
    look = state.tallies[metric.name].n_looks + 1
    outcome: Outcome = "inconclusive"
    p_value, spent, side = shift.p_below, spend_alpha(PASS_ALPHA, look), "below"
    if shift.p_above < shift.p_below:
        p_value, spent, side = shift.p_above, spend_alpha(metric.alpha, look), "above"
    if p_value <= spent:
        outcome = "fail" if side == "above" else "pass"
    detail = (
        f"PSI {shift.psi:.3f} over {n_c:,} and {n_s:,} scores in {shift.n_bins} bins ({shift.expected:.3f} by chance "
        f"alone){_clusters(max(factors))}; {side} the limit {metric.limit:g} with p {max(p_value, 1e-12):.2g} (needed "
        f"{spent:.2g})"
    )
    figures |= {"psi": shift.psi, "expected_psi": shift.expected, "p_above": shift.p_above, "p_below": shift.p_below}
    return Verdict(metric.name, outcome, detail, figures | {"bound": spent}, metric.dry_run), True


def describe_mismatch(state: RolloutState) -> str | None:
    """Return what is wrong with the shares that the versions got, or None."""
    return f"sample-ratio mismatch: {describe_ratio(state.ratio)}" if state.ratio.is_mismatched else None


def describe_ratio(ratio: RatioEvidence) -> str:
    """Return what each version got of the compared requests beside what was set; empty before there were any."""
    counts = ratio.counts
    total = sum(counts.values())
    if not total:
        return ""
    parts = [
        f"v{version} got {counts[version]:,} of {total:,} requests ({counts[version] / total:.2%}) where {share:.2%} "
        "was set"
        for version, share in ratio.shares.items()
    ]
    factor, bound = _number(_exp(ratio.log_bayes_factor)), f"{math.exp(ratio.bound):,.0f}"
    judged = f"{factor} reached {bound}" if ratio.is_mismatched else f"{factor} of {bound}"
    return f"{', '.join(parts)}; Bayes factor {judged}"


def _add_interval(state: RolloutState, interval: Interval, metric: Metric | None) -> RolloutState:
    nothing = ArmCounters()
    canary, stable = interval.arms.get(state.canary, nothing), interval.arms.get(state.stable, nothing)
    latencies = (
        (canary.n_latencies, canary.log_latency_sum, canary.log_latency_squares),
        (stable.n_latencies, stable.log_latency_sum, stable.log_latency_squares),
    )
    step, harmless, seen = state.in_step, 0.0, (canary.n_requests, canary.n_errors)
    if metric is not None:
        harmless = log_harmless(seen, (step.n_stable, step.x_stable), metric.limit, PASS_ALPHA / 2)
    return dataclasses.replace(
        state,
        errors=_add_errors(state, metric, canary, stable),
        ratio=add_routed(
            state.ratio, interval.shares, {version: arm.group_requests for version, arm in interval.arms.items()}
        ),
        in_step=StepCounts(
            step.n_stable + stable.n_requests,
            step.x_stable + stable.n_errors,
            step.log_harmless + harmless,
            add_latencies(step.latency, *latencies),
            add_counts(step.scores_canary, canary.score_bins),
            add_counts(step.scores_stable, stable.score_bins),
        ),
    )


def _add_errors(state: RolloutState, metric: Metric | None, canary: ArmCounters, stable: ArmCounters) -> ErrorEvidence:
    seen, before = (canary.n_requests, canary.n_errors), state.errors
    if state.phase is Phase.PROMOTING:
        most = _find_most(metric, before) if metric is not None else 1.0
        return add_alone(before, seen, canary.group_errors, most)
    others = (stable.n_requests, stable.n_errors)
    return add_errors(before, seen, others, canary.group_errors, stable.group_errors)


def _find_most(metric: Metric, seen: ErrorEvidence) -> float:
    """Return the error rate that a canary with everything may have: hours differ, so the limit is added."""
    return min(1.0, upper_rate(seen, PASS_ALPHA / 2) + metric.limit)


def _held_against(metric: Metric, seen: ErrorEvidence) -> str:
    if not seen.n_stable:
        return "; nothing was recorded to compare with"
    return f" before; held against {_find_most(metric, seen):.2%} (an upper bound of that, and {metric.limit:.2%})"


def _one_group(seen: ErrorEvidence) -> str:
    is_lopsided = seen.counted < seen.x_canary
    return f" (few users make many of them: they count as {seen.counted:,})" if is_lopsided else ""


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


def _rate(errors: int, requests: int) -> str:
    share = f" ({errors / requests:.2%})" if requests else ""
    return f"{errors:,} of {requests:,} requests{share}"


def _clusters(factor: float) -> str:
    return f" (few users make many of them: they count {factor:.1f} times less)" if factor > 1.0 else ""


def _number(value: float) -> str:
    return f"{value:,.3g}" if value < _BIG else f"{value:.1e}"
