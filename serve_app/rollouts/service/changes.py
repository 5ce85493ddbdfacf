"""What is recorded of each change of a rollout, and what a webhook is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from serve_app.rollouts.core.state import Phase, RolloutState
from serve_app.rollouts.service.ports import Rollout, RolloutChange
from serve_app.rollouts.service.running_rollout import RunningRollout, to_time

MAX_WHO: Final = 256
_EVENTS: Final[Mapping[str, str]] = {
    Phase.DEPLOYING: "pre-rollout",
    Phase.PROGRESSING: "rollout",
    Phase.PROMOTING: "confirm-promotion",
    Phase.SUCCEEDED: "post-rollout",
    Phase.ROLLED_BACK: "rollback",
    Phase.FAILED: "rollback",
}


def make_change(
    running: RunningRollout, state: RolloutState, now_s: float, who: str, why: str, evidence: Mapping[str, Any]
) -> RolloutChange:
    """Return the record of the rollout that goes over into a state."""
    before = str(running.state.phase) if running.stored.id else ""
    return RolloutChange(to_time(now_s), who[:MAX_WHO], before, str(state.phase), why, {"step": state.step, **evidence})


def make_event(rollout: Rollout, change: RolloutChange) -> dict[str, Any]:
    """Return what a webhook is told of a change.

    ``event`` has a name of Flagger's hooks: ``pre-rollout`` when a version begins to start, ``rollout`` when it gets
    a share, ``confirm-promotion`` when it gets everything, ``post-rollout`` when it has succeeded, ``rollback`` when
    it was taken back or never came, and ``event`` for all else (a pause, the alias). ``rollout`` is the id.
    """
    is_moved = change.from_phase != change.to_phase or change.evidence.get("action") == "advance"
    return {
        "event": _EVENTS.get(change.to_phase, "event") if is_moved else "event",
        "rollout": rollout.id,
        "model": rollout.model,
        "version": rollout.canary,
        "from": change.from_phase,
        "to": change.to_phase,
        "why": change.why,
        "who": change.who,
        "at": change.at.isoformat(),
    }
