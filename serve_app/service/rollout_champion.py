"""The alias ``champion`` follows a canary that succeeded, unless somebody else moved it meanwhile."""

from __future__ import annotations

from serve_app.core.rollout_state import Phase
from serve_app.service.ports import CHAMPION, Registry
from serve_app.service.rollout_course import Champion, Course
from serve_app.service.rollout_ports import Rollout


def is_unsettled(stored: Rollout) -> bool:
    """Return whether the alias has not followed a rollout's end yet."""
    ends = (stored.phase, stored.state.get("champion"))
    return stored.kind == "canary" and ends in ((Phase.SUCCEEDED, ""), (Phase.ROLLED_BACK, "moved"))


def settle_champion(registry: Registry, course: Course, served: int) -> tuple[Champion, str]:
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
    stored, model = course.stored, course.stored.model
    aliases = registry.aliases(model)
    found = aliases.versions.get(CHAMPION)
    before = (course.terms.champion, stored.stable)
    is_back = course.state.phase is Phase.ROLLED_BACK
    target = (course.terms.champion or stored.stable) if is_back else stored.canary
    if not is_back and served != stored.canary:
        return "left", f"{CHAMPION} stays at {_name(found)}: v{served} is served by now"
    if is_back and found in before:
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
