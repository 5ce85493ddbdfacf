"""Rollouts: what people ask for, what Gateways counted and what the cluster says become decisions and a split.

The store is the only memory. A decision is stored together with the split that follows from it, and only then
written where Gateways read it; a crash in between is healed by the next tick. What is kept in this process alone can
be lost: reports of the last second, and how the versions' apps were when last looked at.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from serve_app.errors import ConflictError, NotReadyError
from serve_app.models.service.registry import CHAMPION, Registry
from serve_app.rollouts.core.state import Phase, restart_phase, shift_times
from serve_app.rollouts.service.app_reconciler import AppReconciler
from serve_app.rollouts.service.changes import make_change
from serve_app.rollouts.service.commands import list_commands, obey
from serve_app.rollouts.service.decision import collect_evidence, decide_running, is_due
from serve_app.rollouts.service.inbox import ReportInbox
from serve_app.rollouts.service.ports import (
    Command,
    Report,
    Rollout,
    RolloutChange,
    RolloutStore,
    SplitSink,
    StartRollout,
    VersionApps,
)
from serve_app.rollouts.service.report import describe_briefly, describe_change, describe_running
from serve_app.rollouts.service.running_rollout import (
    Champion,
    RunningRollout,
    add_reports,
    dump_running,
    parse_running,
)
from serve_app.rollouts.service.split import find_split, follow_state, put_split, read_split
from serve_app.rollouts.service.start import begin_running, check_asked
from serve_app.rollouts.service.version_reconciler import VersionReconciler, find_unsettled
from serve_app.runtime.clock_jumps import SMALLEST_S, ClockJumps
from serve_app.scoring.core.split import Split, dump_split

CONTROLLER: Final = "controller"
"""Who decides when no person does."""
SILENCE_S: Final = 60.0
"""When nothing was stored for so long before this process began, nothing ran: phases that time ends begin anew."""
MAX_RECENT: Final = 200

logger = logging.getLogger("scorecat.rollouts")


class RolloutControl:
    """Owns the rollouts of the served model; every method may be called from any thread.

    Parameters
    ----------
    store : RolloutStore
    sink : SplitSink
        What Gateways read: a copy, written again whenever it is not what the store says.
    registry : Registry
    apps : VersionApps
    notify : callable
        Called when a webhook is to be told something; never blocks.
    model : str
        The served model.
    clock : callable
        Seconds since the epoch; may be set by somebody while this runs.
    steady : callable
        Seconds that only grow.
    pins : bool
        Whether requests may name their version.
    drain_s : float
        How long an app that nothing wants is kept, for requests in flight and Gateways that are slow to notice.
    """

    def __init__(
        self,
        store: RolloutStore,
        sink: SplitSink,
        registry: Registry,
        apps: VersionApps,
        notify: Callable[[], None],
        *,
        model: str,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        pins: bool = False,
        drain_s: float = 70.0,
    ) -> None:
        self._store = store
        self._sink = sink
        self._registry = registry
        self._notify = notify
        self._model = model
        self._clock = clock
        self._pins = pins
        self._steady = steady
        self._jumps = ClockJumps(clock, steady)
        self._reconciler = AppReconciler(apps, steady, drain_s)
        self._care = VersionReconciler(store, registry, self._reconciler, model, self._note_champion, steady)
        self._lock = threading.Lock()
        self._inbox = ReportInbox()
        self._unwritten = ""
        self._is_fresh = True

    def start(self, asked: StartRollout, who: str, why: str) -> dict[str, Any]:
        """Start a rollout, see `Rollouts.start`; no traffic moves before its version is ready."""
        model = self._model
        stable = read_split(self._store, model).stable
        canary, terms = check_asked(asked, model, stable, self._registry)
        with contextlib.suppress(ConflictError):  # aliases move right now: refused below while it is unsettled
            self._care.settle_champion()  # what this rollout begins with is what it goes back to
        now_s = self._clock()
        text = why or f"{who} asked for v{canary}"
        running = begin_running(asked, canary, terms, model, stable, self._registry, now_s, text)
        with self._lock:
            split = read_split(self._store, model)
            if split.stable != stable:
                raise NotReadyError(f"v{split.stable} took over from v{stable} just now: ask again")
            if find_unsettled(self._store, model):
                raise NotReadyError(f"the alias {CHAMPION} follows the rollout before just now: ask again")
            change = make_change(running, running.state, now_s, who, text, {"kind": asked.kind})
            stored = self._store.create(dump_running(running, split.revision, now_s), change)
            self._inbox.clear()  # counted before the rollout began
            self._care.wake()
        self._tell(dataclasses.replace(running, stored=stored), change)
        return self.describe(stored.id)

    def command(self, rollout_id: int, command: Command, who: str, why: str) -> dict[str, Any]:
        """Tell a rollout what to do, see `Rollouts.command`; the split that follows is written when this returns.

        NotReadyError says that nothing was stored, or that it was and Gateways cannot read the split yet.
        """
        with self._lock:
            running = parse_running(self._store.find(rollout_id))
            split, now_s = read_split(self._store, running.stored.model), self._clock()
            text = f"{who}: {command}" + (f", {why}" if why else "")
            state = obey(running, command, now_s, text, is_current=self._is_current(running.stored, split))
            moved = running.with_state(state)
            if running.state.phase is Phase.SUCCEEDED and not running.champion:
                moved = dataclasses.replace(moved, champion="moved")  # it may be: the alias is looked at again
            self._save(moved, split, now_s, make_change(running, state, now_s, who, text, {"command": command}))
            unwritten = self._unwritten
        if unwritten:
            raise NotReadyError(f"rollout {rollout_id} is {state.phase} from now on, but {unwritten}")
        return self.describe(rollout_id)

    def describe(self, rollout_id: int) -> dict[str, Any]:
        """Return a rollout as plain JSON, see `serve_app.rollouts.service.report.describe_running`."""
        running = parse_running(self._store.find(rollout_id))
        split = read_split(self._store, running.stored.model)
        is_current = self._is_current(running.stored, split)
        commands = list_commands(running, self._clock(), is_current=is_current)
        return describe_running(running, split, self._reconciler.describe(self._clock()), commands)

    def recent(self, model: str, limit: int) -> list[dict[str, Any]]:
        """Return rollouts in short form, newest first; an empty model is the served one."""
        name = model or self._model
        found = self._store.recent(name, max(1, min(limit, MAX_RECENT)))
        return [describe_briefly(stored, parse_running(stored)) for stored in found]

    def history(self, rollout_id: int) -> list[dict[str, Any]]:
        """Return the changes of a rollout, oldest first."""
        return [describe_change(change) for change in self._store.history(rollout_id)]

    def report(self, report: Report) -> None:
        """Take in what a Gateway counted; quick, and never in the way of a decision."""
        self._inbox.add(report, self._steady())

    def tick(self) -> None:
        """Heal the split that Gateways see, count what they reported, decide, and move the split."""
        with self._lock:
            now_s = self._clock()
            split = find_split(self._store, self._sink, self._model, now_s, pins=self._pins)
            self._put(split)
            self._look(split, now_s)
            if self._unwritten:
                raise NotReadyError(self._unwritten)

    def _look(self, split: Split, now_s: float) -> None:
        newest = next(iter(self._store.recent(self._model, 1)), None)
        if newest is None:
            self._inbox.clear()
            return
        running = self._begin_anew(parse_running(newest), split, now_s)
        if running.state.is_active:
            self._go_on(running, split, now_s)
        else:
            self._inbox.clear()
            self._close_window(running, split, now_s)

    def reconcile(self) -> None:
        """Create and delete version apps, prove those that are tried, let the alias follow; trouble is logged."""
        self._care.run_round()

    def _is_current(self, stored: Rollout, split: Split) -> bool:
        newest = next(iter(self._store.recent(stored.model, 1)), None)
        return newest is not None and newest.id == stored.id and stored.split_revision == split.revision

    def _go_on(self, running: RunningRollout, split: Split, now_s: float) -> None:
        due = is_due(running, now_s)
        reports = self._inbox.take(running, split, now_s, is_due=due)
        counted = add_reports(running, reports, split.shares) if reports else running
        found = self._reconciler.find(running.stored.id, running.tried)
        if running.state.phase is Phase.DEPLOYING and found.is_ready and running.stored.kind != "shadow":
            if not running.is_warm:
                self._save(dataclasses.replace(running, is_warm=True), split, now_s, None)
                return
            waiting = self._inbox.explain_waiting(split.revision, self._steady())
            found = dataclasses.replace(found, is_ready=not waiting, unready=waiting)
        seen = dataclasses.replace(found, unmeasured=self._inbox.explain_missing() if due else None)
        after, decision = decide_running(counted, split, seen, now_s)
        if decision.action != "hold":
            evidence = collect_evidence(running, decision, seen)
            change = make_change(running, decision.state, now_s, CONTROLLER, decision.why, evidence)
            self._save(after, split, now_s, change)
        elif due or any(report.arms or report.shadow for report in reports):
            self._save(after, split, now_s, None)

    def _begin_anew(self, running: RunningRollout, split: Split, now_s: float) -> RunningRollout:
        """Return the rollout without time that did not pass: nothing ran, or somebody set the clock."""
        was_fresh, self._is_fresh = self._is_fresh, False
        silence_s, jump_s = now_s - running.stored.updated_at.timestamp(), self._jumps.take()
        is_silent = was_fresh and not -SMALLEST_S <= silence_s < SILENCE_S and running.state.is_active
        if is_silent:
            state = restart_phase(running.state, now_s)
            why = f"nothing ran for {silence_s:.0f} s: {state.phase} begins anew"
        elif jump_s and (running.state.is_active or running.state.phase is Phase.SUCCEEDED):
            state = shift_times(running.state, jump_s)
            why = f"the clock was set by {jump_s:+.0f} s: what is measured in time goes on as if it had not been"
        else:
            return running
        change = make_change(running, state, now_s, CONTROLLER, why, {})
        return self._save(dataclasses.replace(running, state=state), split, now_s, change)

    def _close_window(self, running: RunningRollout, split: Split, now_s: float) -> None:
        """Let the version before go once it cannot be taken back any more."""
        if running.state.phase is not Phase.SUCCEEDED or running.stored.split_revision != split.revision:
            return
        if follow_state(running, split, now_s, pins=split.pins) is split:
            return
        why = f"the rollback window is over: v{running.state.stable} leaves the split"
        self._save(running, split, now_s, make_change(running, running.state, now_s, CONTROLLER, why, {}))

    def _note_champion(self, rollout_id: int, champion: Champion, why: str) -> None:
        with self._lock:
            running = parse_running(self._store.find(rollout_id))
            now_s = self._clock()
            change = make_change(running, running.state, now_s, CONTROLLER, why, {"champion": champion})
            settled = dataclasses.replace(running, champion=champion)
            self._store.save(dump_running(settled, running.stored.split_revision, now_s), change if why else None)
        if why:
            self._tell(settled, change)

    def _save(
        self, running: RunningRollout, split: Split, now_s: float, change: RolloutChange | None
    ) -> RunningRollout:
        """Store the rollout with its change and its split in one transaction, then let Gateways see the split."""
        self._care.wake()
        wanted = follow_state(running, split, now_s, pins=self._pins)
        is_new = wanted.revision != split.revision
        stored = dump_running(running, wanted.revision, now_s)
        stored = self._store.save(stored, change, dump_split(wanted) if is_new else None)
        if running.stored.model == self._model:
            self._put(wanted)
        if change is not None:
            self._tell(running, change)
        return dataclasses.replace(running, stored=stored)

    def _put(self, split: Split) -> None:
        """Let Gateways see a split; when it cannot be written, `_unwritten` says so and the next tick tries again."""
        try:
            put_split(self._sink, split)
            self._unwritten = ""
        except OSError as exc:
            self._unwritten = (
                f"the split could not be written where Gateways read it, so they follow the one before: {exc}. It is "
                "tried every second; look at the state folder"
            )

    def _tell(self, running: RunningRollout, change: RolloutChange) -> None:
        logger.info("rollout %d: %s -> %s: %s", running.stored.id, change.from_phase, change.to_phase, change.why)
        if running.plan.webhook is not None:
            self._notify()
