"""The applications of versions: created when wanted, proved while tried, deleted when nothing wants them any more.

Level-triggered: each round compares what is with what is wanted, so a round that was lost changes nothing.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from serve_app.errors import GoldenMismatchError, NotFoundError, PackageError, ScorecatError
from serve_app.rollouts.core.decide import Observations
from serve_app.rollouts.service.ports import VersionApps
from serve_app.rollouts.service.running_rollout import to_time
from serve_app.runtime.log_once import LogOnce
from serve_app.scoring.service.ports import AppState

CREATE_EVERY_S: Final = 10.0
PROVE_EVERY_S: Final = 5.0
"""How often a version that answered is asked again."""
MISSES: Final = 3
MISS_EVERY_S: Final = 1.0
"""A version that was ready fails when it does not answer so many times in a row, each so long after the last: one
killed replica does not do that."""
FOUND_FOR_S: Final = 30.0
"""What was found longer ago says nothing any more."""

logger = logging.getLogger("scorecat.rollouts")


@dataclass(frozen=True, slots=True)
class Watch:
    """Versions that a rollout tries and what it needs to know of them.

    Attributes
    ----------
    rollout_id : int
    versions : tuple of int
    is_live : bool
        Whether they were ready once, so that not answering is a failure.
    deploy_timeout_s : float
        Seconds that a version may take to start.
    """

    rollout_id: int = 0
    versions: tuple[int, ...] = ()
    is_live: bool = False
    deploy_timeout_s: float = 0.0


@dataclass(frozen=True, slots=True)
class AppHealth:
    """What was last found of a version that is tried.

    Attributes
    ----------
    rollout_id : int
    first_s, checked_s : float
        When it was first and last looked at.
    proved_s : float or None
        When it last reproduced its golden rows.
    n_missed, missed_s : int, float
        How often in a row it did not answer, and when that was last counted.
    problem : str
        What is wrong, in plain words; empty when nothing is.
    is_failure : bool
        Whether the problem ends the rollout.
    """

    rollout_id: int
    first_s: float
    checked_s: float
    proved_s: float | None = None
    n_missed: int = 0
    missed_s: float = 0.0
    problem: str = ""
    is_failure: bool = False


class AppReconciler:
    """Keeps the apps of one model; `keep` is called by one thread, everything else by any.

    Parameters
    ----------
    apps : VersionApps
    clock : callable
        Seconds that only grow.
    drain_s : float
        How long an app lives on that nothing wants any more.
    """

    def __init__(self, apps: VersionApps, clock: Callable[[], float], drain_s: float) -> None:
        self._apps = apps
        self._clock = clock
        self._drain_s = drain_s
        self._states: dict[int, AppState] = {}
        self._health: dict[int, AppHealth] = {}
        self._errors: dict[int, tuple[int, Exception]] = {}
        self._tried_s: dict[int, tuple[int, float]] = {}
        self._created_for: dict[int, int] = {}
        self._unwanted_s: dict[int, float] = {}
        self._trouble = LogOnce(logger)

    def keep(self, model: str, wanted: Collection[int], watch: Watch, is_wanted: Callable[[int], bool]) -> None:
        """Do one round; the trouble of one version is logged and keeps no other from its turn.

        Parameters
        ----------
        model : str
        wanted : collection of int
            Versions that need an app.
        watch : Watch
        is_wanted : callable
            Asked once more right before a version's app is deleted.
        """
        states = {version: state for (name, version), state in self._apps.states().items() if name == model}
        self._states = states
        for version in sorted(wanted):
            with self._trouble.guard("cannot create v%d", version):
                self._create(model, version, watch)
        self._health = {v: h for v, h in self._health.items() if v in watch.versions}
        for version in watch.versions:
            with self._trouble.guard("cannot check v%d", version):
                self._look(model, version, watch)
        self._unwanted_s = {v: at for v, at in self._unwanted_s.items() if v in states and v not in wanted}
        for version in sorted(set(states) - set(wanted)):
            with self._trouble.guard("cannot delete v%d", version):
                self._retire(model, version, is_wanted)

    def find(self, rollout_id: int, versions: Collection[int]) -> Observations:
        """Return what the last rounds found of a rollout's versions."""
        health, now_s = self._health, self._clock()
        known = {v: h for v in versions if (h := health.get(v)) and h.rollout_id == rollout_id}
        fresh = {v: h for v, h in known.items() if now_s - h.checked_s <= FOUND_FOR_S}
        failures = tuple(h.problem for h in fresh.values() if h.is_failure)
        unready = [
            fresh[v].problem if v in fresh else f"v{v} was not looked at lately"
            for v in versions
            if v not in fresh or fresh[v].proved_s is None or fresh[v].problem
        ]
        return Observations(is_ready=not unready, failures=failures, unready="; ".join(filter(None, unready)))

    def is_settled(self, wanted: Collection[int]) -> bool:
        """Return whether the last round found the wanted apps running, and no others."""
        states = self._states
        return set(states) == set(wanted) and all(state.status == "running" for state in states.values())

    def describe(self, now_s: float) -> list[dict[str, Any]]:
        """Return the apps as they were last seen, as plain JSON; the wall clock says `now_s`."""
        states, health, errors = self._states, self._health, dict(self._errors)
        steady_s = self._clock()
        rows = []
        for version in sorted({*states, *health, *errors}):
            state, found = states.get(version), health.get(version)
            proved_s = found.proved_s if found else None
            rows.append(
                {
                    "version": version,
                    "status": state.status if state else "absent",
                    "detail": state.detail if state else str(errors.get(version, (0, ""))[1]),
                    "problem": found.problem if found else "",
                    "proved_at": to_time(now_s - (steady_s - proved_s)).isoformat() if proved_s is not None else None,
                }
            )
        return rows

    def _create(self, model: str, version: int, watch: Watch) -> None:
        if not self._is_missing(version, watch):
            self._errors.pop(version, None)
            return
        now_s = self._clock()
        tried_for, tried_s = self._tried_s.get(version, (watch.rollout_id, -math.inf))
        if tried_for == watch.rollout_id and now_s - tried_s < CREATE_EVERY_S:
            return
        self._tried_s[version] = watch.rollout_id, now_s
        try:
            self._apps.create(model, version)
        except Exception as exc:
            self._errors[version] = watch.rollout_id, exc
            raise
        self._errors.pop(version, None)
        self._created_for[version] = watch.rollout_id
        self._states = {**self._states, version: AppState("starting")}

    def _is_missing(self, version: int, watch: Watch) -> bool:
        """Return whether an app has to be created: there is none, or one that failed and that no rollout fails by."""
        state = self._states.get(version)
        if state is None or state.status != "failed":
            return not self._is_there(version)
        return version not in watch.versions or self._is_left_over(version, watch)

    def _is_left_over(self, version: int, watch: Watch) -> bool:
        """Return whether what is there of a version was begun before its rollout."""
        return not watch.is_live and self._created_for.get(version) != watch.rollout_id

    def _is_there(self, version: int) -> bool:
        state = self._states.get(version)
        return state is not None and state.status != "deleting"

    def _look(self, model: str, version: int, watch: Watch) -> None:
        now_s = self._clock()
        before = self._health.get(version)
        if before is None or before.rollout_id != watch.rollout_id:
            before = AppHealth(watch.rollout_id, now_s, now_s)
        found = self._judge(model, version, watch, before)
        self._health = {**self._health, version: dataclasses.replace(found, checked_s=self._clock())}

    def _judge(self, model: str, version: int, watch: Watch, before: AppHealth) -> AppHealth:
        state, now_s = self._states.get(version), self._clock()
        if state is not None and state.status == "failed":
            if self._is_left_over(version, watch):
                return dataclasses.replace(before, problem=f"v{version} failed before and is tried again")
            return _fail(before, f"the app of v{version} failed: {state.detail or 'no reason is known'}")
        if state is None or state.status == "deleting":
            return self._judge_absent(version, watch, before)
        # Until it was proved by this process, an app that starts (after the cluster did, say) is given its time.
        is_early = before.proved_s is None and now_s < before.first_s + watch.deploy_timeout_s
        if state.status == "starting" and (is_early or not watch.is_live):
            return dataclasses.replace(before, problem=f"v{version} is starting {state.detail}".rstrip())
        is_fine = before.proved_s is not None and not before.problem and not state.is_down
        if is_fine and now_s - (before.proved_s or 0.0) < PROVE_EVERY_S:
            return before
        return self._prove(model, version, watch, before)

    def _judge_absent(self, version: int, watch: Watch, before: AppHealth) -> AppHealth:
        tried_for, error = self._errors.get(version, (0, None))
        if error is None or tried_for != watch.rollout_id:  # what kept an earlier rollout from it may be mended
            return _miss(before, f"v{version} has no app", watch, self._clock())
        problem = f"the app of v{version} cannot be created: {error}"
        if watch.is_live or isinstance(error, PackageError | NotFoundError):
            return _fail(before, problem)
        return dataclasses.replace(before, problem=problem)

    def _prove(self, model: str, version: int, watch: Watch, before: AppHealth) -> AppHealth:
        if watch.is_live and self._states[version].is_down:  # it would be waited for what cannot come
            return _miss(before, f"v{version} has no running replica", watch, self._clock())
        try:
            self._apps.prove(model, version)
        except (GoldenMismatchError, PackageError) as exc:
            return _fail(before, f"v{version} does not reproduce its golden rows: {exc}")
        except ScorecatError as exc:
            return _miss(before, f"v{version} does not answer: {exc}", watch, self._clock())
        except Exception as exc:  # whatever it is, nobody knows that the version is well
            logger.exception("v%d could not be proved", version)
            return _miss(before, f"v{version} could not be proved: {exc!r}", watch, self._clock())
        return dataclasses.replace(before, proved_s=self._clock(), n_missed=0, problem="", is_failure=False)

    def _retire(self, model: str, version: int, is_wanted: Callable[[int], bool]) -> None:
        now_s = self._clock()
        since_s = self._unwanted_s.setdefault(version, now_s)
        if not self._is_there(version) or now_s - since_s < self._drain_s or is_wanted(version):
            return
        logger.info("deleting the app of %s v%d, which nothing has wanted for %g s", model, version, now_s - since_s)
        self._apps.delete(model, version)


def _fail(before: AppHealth, problem: str) -> AppHealth:
    return dataclasses.replace(before, problem=problem, is_failure=True)


def _miss(before: AppHealth, problem: str, watch: Watch, now_s: float) -> AppHealth:
    is_counted = before.n_missed == 0 or now_s - before.missed_s >= MISS_EVERY_S
    if is_counted:
        before = dataclasses.replace(before, n_missed=before.n_missed + 1, missed_s=now_s)
    is_failure = watch.is_live and before.n_missed >= MISSES
    text = f"{problem} ({before.n_missed} times in a row)" if is_failure else problem
    return dataclasses.replace(before, problem=text, is_failure=is_failure)
