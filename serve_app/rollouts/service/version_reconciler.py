"""Rounds that look after the versions of the served model: their apps, and the alias that names the one in charge."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import Final

from serve_app.models.service.registry import CHAMPION, Registry
from serve_app.rollouts.core.state import Phase
from serve_app.rollouts.service.app_reconciler import AppReconciler, Watch
from serve_app.rollouts.service.ports import Rollout, RolloutStore
from serve_app.rollouts.service.running_rollout import COUNTED, Champion, RunningRollout, parse_running
from serve_app.rollouts.service.split import read_split
from serve_app.runtime.log_once import LogOnce

QUIET_S: Final = 10.0
"""How often the apps are looked at while no rollout is active and all is as wanted: asking Serve takes 40 ms of CPU."""

logger = logging.getLogger("scorecat.rollouts")


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


class VersionReconciler:
    """Creates and deletes version apps, proves those that are tried, and lets the champion follow.

    Parameters
    ----------
    store : RolloutStore
    registry : Registry
    reconciler : AppReconciler
    model : str
        The served model.
    note_champion : callable
        Called with a rollout's id, what became of the alias, and why.
    clock : callable
        Seconds that only grow.
    """

    def __init__(
        self,
        store: RolloutStore,
        registry: Registry,
        reconciler: AppReconciler,
        model: str,
        note_champion: Callable[[int, Champion, str], None],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._registry = registry
        self._reconciler = reconciler
        self._model = model
        self._note_champion = note_champion
        self._clock = clock
        self._round = threading.Lock()
        self._quiet_until_s = -math.inf
        self._n_wakes = 0
        self._trouble = LogOnce(logger)

    def wake(self) -> None:
        """Let the next round look at the apps, and one that is under way not take everything for settled."""
        self._n_wakes += 1
        self._quiet_until_s = -math.inf

    def run_round(self) -> None:
        """Compare what is with what is wanted and act; trouble is logged and the next round tries again."""
        with self._round:
            if self._clock() >= self._quiet_until_s:
                with self._trouble.guard("cannot look after the versions to the end"):
                    self._look()

    def _look(self) -> None:
        n_wakes, model = self._n_wakes, self._model
        active = self._store.find_active(model)
        running = parse_running(active) if active is not None else None
        wanted, watch = self._list_wanted(model), Watch()
        if running is not None:
            is_live = running.state.phase in COUNTED
            watch = Watch(running.stored.id, running.tried, is_live, running.plan.deploy_timeout_s)
        self._reconciler.keep(model, wanted, watch, lambda v: v in self._list_wanted(model))
        self.settle_champion()
        if running is None and self._reconciler.is_settled(wanted) and n_wakes == self._n_wakes:
            self._quiet_until_s = self._clock() + QUIET_S

    def _list_wanted(self, model: str) -> set[int]:
        active = self._store.find_active(model)
        wanted = set(read_split(self._store, model).versions)
        return wanted | parse_running(active).versions if active is not None else wanted

    def settle_champion(self) -> None:
        """Let the alias follow every rollout that ended; raises ConflictError when somebody moves aliases right now."""
        for stored in find_unsettled(self._store, self._model):
            served = read_split(self._store, self._model).stable
            champion, why = settle_champion(self._registry, parse_running(stored), served)
            self._note_champion(stored.id, champion, why)
