"""The alias ``champion`` follows a canary that succeeded, unless somebody else moved it meanwhile."""

from __future__ import annotations

from typing import Final

from serve_app.models.service.registry import CHAMPION, Registry
from serve_app.rollouts.core.state import Phase
from serve_app.rollouts.service.ports import Rollout, RolloutStore
from serve_app.rollouts.service.running_rollout import Champion, RunningRollout

_DEPTH: Final = 5
"""So many of the newest rollouts are looked at; an older one's end was followed long ago."""


def is_unsettled(stored: Rollout) -> bool:
    """Return whether the alias has not followed a rollout's end yet."""
    if stored.kind != "canary":
        return False
    ends = (stored.phase, stored.state.get("champion"))
    if ends in ((Phase.SUCCEEDED, ""), (Phase.ROLLED_BACK, "moved")):
        return True
    was_named = stored.plan["terms"]["champion"] == stored.canary  # which is worth a word once the canary is gone
    return was_named and ends in ((Phase.ROLLED_BACK, ""), (Phase.FAILED, ""))


def find_unsettled(store: RolloutStore, model: str) -> list[Rollout]:
    """Return the model's rollouts whose end the alias has not followed yet, oldest first."""
    return [stored for stored in reversed(store.recent(model, _DEPTH)) if is_unsettled(stored)]


def settle_champion(registry: Registry, running: RunningRollout, served: int) -> tuple[Champion, str]:
    """Move the alias where an ended rollout wants it; return what became of it, and why in plain words.

    Doing it twice does no harm. An alias that points where neither the start nor the end of the rollout
    explains was moved by somebody else, and is left alone. The words are empty when nothing had to be done.

    Parameters
    ----------
    served : int
        The version that is served now; the alias follows no rollout whose version is not.

    Raises
    ------
    ConflictError
        Somebody moves aliases right now: look again where this one is.
    """
    stored, model = running.stored, running.stored.model
    aliases = registry.aliases(model)
    found = aliases.versions.get(CHAMPION)
    before = (running.terms.champion, stored.stable)
    is_back = running.state.phase is not Phase.SUCCEEDED
    target = stored.canary
    if is_back:  # where it pointed before, but never at what was taken back
        target = stored.stable if running.terms.champion in (None, stored.canary) else running.terms.champion
    if is_back and not running.champion:  # it never had everything, so that the alias is still a person's
        stays = f"{CHAMPION} stays at {_name(found)}, where it was before, and the next `scorecat up` serves that"
        return "left", f"{stays}; `scorecat models alias {model}@{served} {CHAMPION}` names v{served}, which is served"
    if not is_back and served != stored.canary:
        return "left", f"{CHAMPION} stays at {_name(found)}: v{served} is served by now"
    if is_back and found in before and found != stored.canary:
        return "returned", ""
    if not is_back and found == target:
        return "moved", f"{CHAMPION} points to v{target}"
    if found != stored.canary if is_back else found not in before:
        return "left", f"{CHAMPION} was moved to {_name(found)} by somebody else meanwhile and stays there"
    what = "taken back" if is_back else "succeeded"
    registry.move_alias(model, CHAMPION, target, expected=aliases, reason=f"rollout {stored.id} {what}")
    return ("returned" if is_back else "moved"), f"{CHAMPION} moved from {_name(found)} to v{target}"


def _name(version: int | None) -> str:
    return "nothing" if version is None else f"v{version}"
