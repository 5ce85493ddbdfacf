"""Where a rollout stands: its phase, its step and all evidence so far, as plain data that outlives a controller."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from serve_app.errors import ConflictError, InvariantError
from serve_app.rollouts.core.latency_shift import LatencyEvidence
from serve_app.rollouts.core.plan import Plan
from serve_app.rollouts.core.sample_ratio import RatioEvidence
from serve_app.rollouts.core.sequential import ErrorEvidence, begin_step
from serve_app.scoring.core.counters import N_SCORE_BINS


class Phase(StrEnum):
    """The phases of a rollout."""

    PENDING = "pending"
    DEPLOYING = "deploying"
    PROGRESSING = "progressing"
    PAUSED = "paused"
    PROMOTING = "promoting"
    SUCCEEDED = "succeeded"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"


TRANSITIONS: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.PENDING: frozenset({Phase.DEPLOYING, Phase.ROLLED_BACK, Phase.FAILED}),
    Phase.DEPLOYING: frozenset({Phase.PROGRESSING, Phase.PROMOTING, Phase.ROLLED_BACK, Phase.FAILED}),
    Phase.PROGRESSING: frozenset({Phase.PAUSED, Phase.PROMOTING, Phase.ROLLED_BACK, Phase.FAILED}),
    Phase.PAUSED: frozenset({Phase.PROGRESSING, Phase.PROMOTING, Phase.ROLLED_BACK, Phase.FAILED}),
    Phase.PROMOTING: frozenset({Phase.SUCCEEDED, Phase.ROLLED_BACK, Phase.FAILED}),
    Phase.SUCCEEDED: frozenset({Phase.ROLLED_BACK}),
    Phase.ROLLED_BACK: frozenset(),
    Phase.FAILED: frozenset(),
}
"""What may follow each phase. From succeeded back only within the plan's rollback window."""

ACTIVE: Final = frozenset({Phase.PENDING, Phase.DEPLOYING, Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING})
"""Phases in which a rollout owns the model's split."""

BAKED: Final = "errors"
"""The metric that goes on at 100 %: the only one that can be held against what was recorded before."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Measurements of one metric.

    Attributes
    ----------
    n_passed, n_failed, n_inconclusive, n_errors_in_row : int
        Of the current step.
    n_looks : int
        Looks of the whole rollout that spent alpha.
    next_at_s : float
        When the next measurement is due, seconds since the epoch.
    outcome, evidence : str
        The latest verdict and its reason in plain words.
    """

    n_passed: int = 0
    n_failed: int = 0
    n_inconclusive: int = 0
    n_errors_in_row: int = 0
    n_looks: int = 0
    next_at_s: float = 0.0
    outcome: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class StepCounts:
    """Sums of the current step, in which shares are constant so that both versions saw the same hours.

    At 100 % the stable version's sums are those of the whole rollout before.

    Attributes
    ----------
    n_stable, x_stable : int
        Requests and errors.
    log_harmless : float
        Evidence that the canary adds less than the plan's limit, see `rate_bounds.log_harmless`.
    latency : LatencyEvidence
    scores_canary, scores_stable : tuple of int
        Counts in the bins of `serve_app.scoring.core.counters`.
    """

    n_stable: int = 0
    x_stable: int = 0
    log_harmless: float = 0.0
    latency: LatencyEvidence = field(default_factory=LatencyEvidence)
    scores_canary: tuple[int, ...] = (0,) * N_SCORE_BINS
    scores_stable: tuple[int, ...] = (0,) * N_SCORE_BINS


@dataclass(frozen=True, slots=True)
class RolloutState:
    """The state of one rollout.

    Attributes
    ----------
    stable, canary : int
        Versions.
    phase : Phase
    step : int
        Index of the plan's step whose share the canary has; -1 before the first.
    since_s : float
        When the current phase or step began, seconds since the epoch.
    why : str
        What led here, in plain words.
    tallies : mapping of str to Tally
        By metric.
    errors : ErrorEvidence
        Of the whole rollout.
    ratio : RatioEvidence
        Of the current shares.
    in_step : StepCounts
        Of the current step.
    """

    stable: int
    canary: int
    phase: Phase = Phase.PENDING
    step: int = -1
    since_s: float = 0.0
    why: str = ""
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    errors: ErrorEvidence = field(default_factory=ErrorEvidence)
    ratio: RatioEvidence = field(default_factory=RatioEvidence)
    in_step: StepCounts = field(default_factory=StepCounts)

    @property
    def is_active(self) -> bool:
        """Whether the rollout still owns the split."""
        return self.phase in ACTIVE


def move_state(state: RolloutState, phase: Phase, now_s: float, why: str) -> RolloutState:
    """Return the state in another phase; for commands of a person and steps of the controller.

    Going on after a pause starts the step's tallies and the sample ratio anew: a person has looked at them. With
    everything for the canary, its errors are measured from here on against what was recorded of the stable version.

    Raises
    ------
    ConflictError
        `TRANSITIONS` does not allow it.
    """
    if phase not in TRANSITIONS[state.phase]:
        allowed = ", ".join(sorted(TRANSITIONS[state.phase])) or "nothing: it is over"
        raise ConflictError(f"the rollout is {state.phase} and cannot become {phase}; what can follow: {allowed}")
    moved = dataclasses.replace(state, phase=phase, since_s=now_s, why=why)
    if state.phase is Phase.PAUSED and phase is Phase.PROGRESSING:
        return dataclasses.replace(moved, tallies=clear_tallies(state.tallies, now_s), ratio=RatioEvidence())
    return _begin_bake(moved, now_s) if phase is Phase.PROMOTING else moved


def _begin_bake(state: RolloutState, now_s: float) -> RolloutState:
    cleared = clear_tallies({name: tally for name, tally in state.tallies.items() if name == BAKED}, now_s)
    return dataclasses.replace(
        state,
        tallies={**state.tallies, **cleared},
        errors=begin_step(state.errors),
        in_step=StepCounts(state.errors.n_stable, state.errors.x_stable),
    )


def enter_step(plan: Plan, state: RolloutState, step: int, now_s: float, why: str) -> RolloutState:
    """Return the state at the beginning of a step: the tallies and sums of the step start anew, evidence stays."""
    phase = Phase.PROGRESSING
    if state.phase is not phase:
        state = move_state(state, phase, now_s, why)
    tallies = clear_tallies(
        {m.name: state.tallies.get(m.name, Tally()) for m in plan.metrics}, now_s + plan.initial_delay_s
    )
    errors = begin_step(state.errors) if step > 0 else state.errors
    return dataclasses.replace(
        state, step=step, since_s=now_s, why=why, tallies=tallies, errors=errors, in_step=StepCounts()
    )


def shift_times(state: RolloutState, by_s: float) -> RolloutState:
    """Return the state with all its times moved, after somebody set the clock by so many seconds."""
    tallies = {
        name: dataclasses.replace(tally, next_at_s=tally.next_at_s + by_s if tally.next_at_s else 0.0)
        for name, tally in state.tallies.items()
    }
    return dataclasses.replace(state, since_s=state.since_s + by_s, tallies=tallies)


def restart_phase(state: RolloutState, now_s: float) -> RolloutState:
    """Return the state whose phase or step begins now, with no measurement later than now."""
    tallies = {
        name: dataclasses.replace(tally, next_at_s=min(tally.next_at_s, now_s)) for name, tally in state.tallies.items()
    }
    return dataclasses.replace(state, since_s=now_s, tallies=tallies)


def spend_by_step(alpha: float, step: int) -> float:
    """Return the share of alpha that a step (0, 1, …) may use; over all steps they add up to alpha."""
    return alpha / ((step + 1) * (step + 2))


def clear_tallies(tallies: Mapping[str, Tally], next_at_s: float) -> dict[str, Tally]:
    """Return tallies of nothing; only the looks, which alpha is spent on, are remembered."""
    return {name: Tally(n_looks=tally.n_looks, next_at_s=next_at_s) for name, tally in tallies.items()}


def canary_share(plan: Plan, state: RolloutState) -> float:
    """Return the canary's share of the users, 0-1, that belongs to a state; the split follows from it alone."""
    if state.phase in (Phase.PROGRESSING, Phase.PAUSED):
        return plan.steps[state.step] / 100.0
    return 1.0 if state.phase in (Phase.PROMOTING, Phase.SUCCEEDED) else 0.0


def can_take_back(plan: Plan, state: RolloutState, now_s: float) -> bool:
    """Return whether a rollout that succeeded may still be rolled back."""
    return state.phase is Phase.SUCCEEDED and now_s < state.since_s + plan.rollback_window_s


def dump_state(state: RolloutState) -> dict[str, Any]:
    """Return a state as the plain dict that JSON gives back."""
    record: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(state)))
    return record


def parse_state(record: Mapping[str, Any]) -> RolloutState:
    """Return the state of a record.

    Raises
    ------
    InvariantError
        The record is not what `dump_state` writes.
    """
    try:
        ratio, in_step = record["ratio"], record["in_step"]
        return RolloutState(
            **{
                **record,
                "phase": Phase(record["phase"]),
                "tallies": {name: Tally(**tally) for name, tally in record["tallies"].items()},
                "errors": ErrorEvidence(**_with_tuples(record["errors"])),
                "ratio": RatioEvidence(ratio["n_closed"], ratio["shares"], _with_tuples(ratio["groups"])),
                "in_step": StepCounts(**{**_with_tuples(in_step), "latency": LatencyEvidence(**in_step["latency"])}),
            }
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise InvariantError(f"this is not the state of a rollout: {exc!r}") from exc


def _with_tuples(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list | tuple) else value for name, value in record.items()}
