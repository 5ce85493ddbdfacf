"""What a rollout does next: a pure function of the plan, the state, what was observed and the time.

The controller in production and the simulator call the same `decide`. A/B tests and shadows are not decided by
figures; `decide_trial` only starts them, and ends them when a version fails.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from serve_app.rollouts.core.plan import Metric, Plan
from serve_app.rollouts.core.state import BAKED, Phase, RolloutState, Tally, enter_step, move_state
from serve_app.rollouts.core.verdict import Interval, Verdict, add_intervals, describe_mismatch, judge_metric

Action = Literal["hold", "advance", "pause", "roll_back", "promote", "finish", "fail"]

_FULL = 100.0

PLAN_ENDS: Final = "the plan ends here, promote or abort"
"""Why a rollout is paused whose plan has no step left; only a person goes on from there."""


@dataclass(frozen=True, slots=True)
class Observations:
    """What was seen since the last decision.

    Attributes
    ----------
    intervals : tuple of Interval
        Counters since then, each counted once, in the order of the split's revisions.
    is_ready : bool
        Every replica of the canary has proved its golden rows and answered.
    failures : tuple of str
        Failed health checks or golden rows of the canary, in plain words: each means instant rollback, or that the
        rollout has failed where the canary had no traffic yet.
    unmeasured : str or None
        Why the counters could not be had.
    unready : str
        What is known of why a version is not ready.
    """

    intervals: tuple[Interval, ...] = ()
    is_ready: bool = True
    failures: tuple[str, ...] = ()
    unmeasured: str | None = None
    unready: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, why, and the state that it leads to.

    Attributes
    ----------
    action : str
        ``hold``, ``advance`` (to `state.step`), ``pause`` (for a person), ``roll_back``, ``promote`` (everything to
        the canary), ``finish`` (the rollout has succeeded) or ``fail`` (nothing was ever moved).
    why : str
        The reason in plain words.
    state : RolloutState
        To be stored before the split is changed; the split follows from it (`canary_share`).
    verdicts : tuple of Verdict
        Of the metrics whose measurement was due.
    """

    action: Action
    why: str
    state: RolloutState
    verdicts: tuple[Verdict, ...] = ()


def decide(plan: Plan, state: RolloutState, observations: Observations, now_s: float) -> Decision:
    """Return what a rollout does now.

    Parameters
    ----------
    plan : Plan
    state : RolloutState
        As the decision before left it.
    observations : Observations
    now_s : float
        Seconds since the epoch; does not run backwards.
    """
    early = _decide_early(plan, state, observations, now_s)
    if early is not None:
        return early
    if state.phase is Phase.DEPLOYING:
        return _advance(plan, state, f"v{state.canary} is ready: every replica proved its golden rows", now_s)
    if state.phase is Phase.PROMOTING:
        return _bake(plan, state, observations, now_s)
    state = add_intervals(plan, state, observations.intervals)
    mismatch = describe_mismatch(state)
    state, verdicts = _measure_due(plan, state, observations, mismatch, now_s, now_s)
    return dataclasses.replace(_conclude(plan, state, mismatch, now_s), verdicts=verdicts)


def decide_trial(plan: Plan, state: RolloutState, observations: Observations, now_s: float) -> Decision:
    """Return what an A/B test or a shadow does now: it starts when ready and ends when a version fails, no more."""
    early = _decide_early(plan, state, observations, now_s)
    if early is not None:
        return early
    if state.phase is not Phase.DEPLOYING:
        return Decision("hold", state.why, state)
    why = "every version is ready: every replica proved its golden rows"
    return Decision("advance", why, dataclasses.replace(move_state(state, Phase.PROGRESSING, now_s, why), step=0))


def _give_up(state: RolloutState, failures: tuple[str, ...], now_s: float) -> Decision:
    why = "; ".join(failures)
    if state.phase is Phase.DEPLOYING:
        return _leave("fail", Phase.FAILED, state, f"{why}; no traffic was moved", now_s)
    return _leave("roll_back", Phase.ROLLED_BACK, state, why, now_s)


def _decide_early(plan: Plan, state: RolloutState, observations: Observations, now_s: float) -> Decision | None:
    """Return the decision about what is over, failed, or not ready yet; None about all else."""
    if not state.is_active or state.phase is Phase.PENDING:
        return Decision("hold", state.why, state)
    if observations.failures:
        return _give_up(state, observations.failures, now_s)
    if state.phase is not Phase.DEPLOYING or observations.is_ready:
        return None
    if now_s >= state.since_s + plan.deploy_timeout_s:
        what = f": {observations.unready}" if observations.unready else ""
        why = f"not ready within {plan.deploy_timeout_s:g} s{what}; no traffic was moved"
        return _leave("fail", Phase.FAILED, state, why, now_s)
    return Decision("hold", f"v{state.canary} is starting", state)


def find_due(plan: Plan, state: RolloutState, now_s: float) -> tuple[Metric, ...]:
    """Return the metrics whose measurement is due; at 100 % the errors alone can be measured."""
    measured = plan.metrics
    if state.phase is Phase.PROMOTING:
        measured = tuple(metric for metric in plan.metrics if metric.name == BAKED)
    return tuple(m for m in measured if now_s >= state.tallies.get(m.name, Tally()).next_at_s)


def _bake(plan: Plan, state: RolloutState, observations: Observations, now_s: float) -> Decision:
    """Return the decision at 100 %: errors go on being measured, the end of the time is success."""
    state = add_intervals(plan, state, observations.intervals)
    is_over = now_s >= state.since_s + plan.bake_time_s
    state, verdicts = _measure_due(plan, state, observations, None, math.inf if is_over else now_s, now_s)
    metrics = tuple(metric for metric in plan.metrics if metric.name == BAKED and metric.name in state.tallies)
    stop = _find_stop(metrics, state, None)
    if stop is not None and stop[0] is Phase.ROLLED_BACK:
        decision = _leave("roll_back", Phase.ROLLED_BACK, state, stop[1], now_s)
    elif is_over:
        seen = [f"{metric.name}: {state.tallies[metric.name].evidence}" for metric in metrics]
        why = "; ".join([f"healthy for {plan.bake_time_s:g} s at 100 %", *seen])
        decision = _leave("finish", Phase.SUCCEEDED, state, why, now_s)
    else:
        decision = Decision("hold", f"v{state.canary} has everything and bakes for {plan.bake_time_s:g} s", state)
    return dataclasses.replace(decision, verdicts=verdicts)


def _measure_due(
    plan: Plan, state: RolloutState, observations: Observations, mismatch: str | None, due_s: float, now_s: float
) -> tuple[RolloutState, tuple[Verdict, ...]]:
    """Return the state with what was due by `due_s` measured, and the verdicts."""
    verdicts, tallies = [], {metric.name: Tally() for metric in plan.metrics} | dict(state.tallies)
    for metric in find_due(plan, state, due_s):
        verdict, is_spent = _measure(metric, state, observations.unmeasured, mismatch)
        tallies[metric.name] = _count(tallies[metric.name], verdict, now_s + metric.interval_s, is_spent=is_spent)
        verdicts.append(verdict)
    return dataclasses.replace(state, tallies=tallies), tuple(verdicts)


def _measure(metric: Metric, state: RolloutState, unmeasured: str | None, mismatch: str | None) -> tuple[Verdict, bool]:
    if unmeasured is not None:
        return Verdict(metric.name, "error", f"not measured: {unmeasured}", {}, metric.dry_run), False
    verdict, is_spent = judge_metric(metric, state)
    if mismatch is not None:
        evidence = f"not believed ({mismatch}); it would be {verdict.outcome}: {verdict.evidence}"
        verdict = dataclasses.replace(verdict, outcome="inconclusive", evidence=evidence)
    return verdict, is_spent


def _count(tally: Tally, verdict: Verdict, next_at_s: float, *, is_spent: bool) -> Tally:
    outcome = verdict.outcome
    return Tally(
        n_passed=tally.n_passed + (outcome == "pass"),
        n_failed=tally.n_failed + (outcome == "fail"),
        n_inconclusive=tally.n_inconclusive + (outcome == "inconclusive"),
        n_errors_in_row=tally.n_errors_in_row + 1 if outcome == "error" else 0,
        n_looks=tally.n_looks + is_spent,
        next_at_s=next_at_s,
        outcome=outcome,
        evidence=verdict.evidence,
    )


def _conclude(plan: Plan, state: RolloutState, mismatch: str | None, now_s: float) -> Decision:
    stop = _find_stop(plan.metrics, state, mismatch)
    if stop is not None and stop[0] is Phase.ROLLED_BACK:
        return _leave("roll_back", Phase.ROLLED_BACK, state, stop[1], now_s)
    if state.phase is Phase.PAUSED:
        return Decision("hold", state.why, state)
    if stop is not None:
        return _leave("pause", Phase.PAUSED, state, stop[1], now_s)
    where = f"step {state.step + 1} of {len(plan.steps)} ({plan.steps[state.step]:g} %)"
    waiting = [m.name for m in plan.metrics if not m.dry_run and state.tallies[m.name].n_passed < m.count]
    if waiting:
        return Decision("hold", f"{where}: not enough data yet for {', '.join(waiting)}", state)
    if now_s < state.since_s + plan.interval_s:
        return Decision("hold", f"{where}: every metric passed; it lasts at least {plan.interval_s:g} s", state)
    passed = [f"{m.name} passed: {state.tallies[m.name].evidence}" for m in plan.metrics if not m.dry_run]
    return _advance(plan, state, "; ".join([f"{where} is done", *passed]), now_s)


def _find_stop(metrics: Sequence[Metric], state: RolloutState, mismatch: str | None) -> tuple[Phase, str] | None:
    """Return what the tallies stop the rollout for, worst first; dry-run metrics are not asked.

    Under a mismatch nothing is believed, no failure either: a person has to look.
    """
    if mismatch is not None:
        return Phase.PAUSED, mismatch
    asked = [(metric, state.tallies[metric.name]) for metric in metrics if not metric.dry_run]
    for metric, tally in asked:
        if tally.n_failed > metric.failure_limit:
            return Phase.ROLLED_BACK, f"{metric.name}: {tally.evidence}"
        if tally.n_errors_in_row > metric.consecutive_error_limit:
            why = f"{metric.name} could not be measured {tally.n_errors_in_row} times in a row; {tally.evidence}"
            return Phase.ROLLED_BACK, why
    for metric, tally in asked:
        if tally.n_passed < metric.count and tally.n_inconclusive > metric.inconclusive_limit:
            why = f"{metric.name} stayed inconclusive {tally.n_inconclusive} times; {tally.evidence}"
            return Phase.PAUSED, why
    return None


def _advance(plan: Plan, state: RolloutState, why: str, now_s: float) -> Decision:
    step = state.step + 1
    if step == len(plan.steps):
        return _leave("pause", Phase.PAUSED, state, f"{why}; {PLAN_ENDS}", now_s)
    if plan.steps[step] >= _FULL:
        moved = dataclasses.replace(move_state(state, Phase.PROMOTING, now_s, why), step=step)
        return Decision("promote", why, moved)
    return Decision("advance", why, enter_step(plan, state, step, now_s, why))


def _leave(action: Action, phase: Phase, state: RolloutState, why: str, now_s: float) -> Decision:
    return Decision(action, why, move_state(state, phase, now_s, why))
