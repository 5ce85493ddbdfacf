"""What a person may tell a rollout, and the state that it leads to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from serve_app.errors import ConflictError
from serve_app.rollouts.core.decide import PLAN_ENDS
from serve_app.rollouts.core.sequential import forget_errors
from serve_app.rollouts.core.state import Phase, RolloutState, can_take_back, move_state
from serve_app.rollouts.service.ports import Command
from serve_app.rollouts.service.running_rollout import RunningRollout

_CANARY: Final[Mapping[Phase, tuple[Command, ...]]] = {
    Phase.PENDING: ("abort",),
    Phase.DEPLOYING: ("abort",),
    Phase.PROGRESSING: ("pause", "promote", "abort"),
    Phase.PAUSED: ("resume", "promote", "abort"),
    Phase.PROMOTING: ("abort",),
}
_TARGETS: Final[Mapping[Command, Phase]] = {
    "pause": Phase.PAUSED,
    "resume": Phase.PROGRESSING,
    "promote": Phase.PROMOTING,
    "abort": Phase.ROLLED_BACK,
}
_NAMES: Final = {"canary": "a canary", "ab": "an A/B test", "shadow": "a shadow"}


def list_commands(running: RunningRollout, now_s: float, *, is_current: bool) -> tuple[Command, ...]:
    """Return what a rollout may be told now.

    Parameters
    ----------
    is_current : bool
        Whether the split that is stored is this rollout's, so that it can still be taken back.
    """
    if running.state.is_active:
        possible = _CANARY[running.state.phase] if running.stored.kind == "canary" else ("abort",)
        # to resume would only measure the last step again and pause there once more
        return tuple(each for each in possible if each != "resume" or not running.state.why.endswith(PLAN_ENDS))
    is_open = running.stored.kind == "canary" and is_current and can_take_back(running.plan, running.state, now_s)
    return ("abort",) if is_open else ()


def obey(running: RunningRollout, command: Command, now_s: float, why: str, *, is_current: bool) -> RolloutState:
    """Return the state after a command.

    Raises
    ------
    ConflictError
        The rollout's phase or kind does not allow it; says what can be done.
    """
    possible = list_commands(running, now_s, is_current=is_current)
    if command not in possible:
        raise ConflictError(_explain(running, command, possible))
    state = move_state(running.state, _TARGETS[command], now_s, why)
    if command != "promote":
        return state
    # What was measured so far did not stop a person; what comes now may.
    return dataclasses.replace(state, step=len(running.plan.steps) - 1, errors=forget_errors(state.errors))


def _explain(running: RunningRollout, command: Command, possible: tuple[Command, ...]) -> str:
    stored, state = running.stored, running.state
    which = f"rollout {stored.id}"
    if not possible:
        takes_back = state.phase is Phase.SUCCEEDED and stored.kind == "canary"
        hint = f"start a rollout of version {stored.stable} to go back" if takes_back else "start another one"
        return f"{which} is over ({state.phase}): it cannot be told to {command}; {hint}"
    can = f"it can be told to {', '.join(possible)}"
    if stored.kind != "canary":
        advice = "to ship a version, abort this and start a canary of it (`scorecat rollout start VERSION`)"
        return f"{which} is {_NAMES[stored.kind]} and cannot be told to {command}; {can}; {advice}"
    if state.phase is Phase.DEPLOYING and command == "promote":
        return f"{which} cannot be promoted: v{stored.canary} is not ready yet; {can}"
    if state.phase is Phase.PAUSED and command == "resume":
        return f"{which} cannot be told to resume: {PLAN_ENDS.partition(',')[0]}; {can}"
    return f"{which} is {state.phase} and cannot be told to {command}; {can}"
