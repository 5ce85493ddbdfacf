"""The split that belongs to a rollout: it follows from the rollout's state and from nothing else."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Final

from serve_app.errors import ConflictError, InvariantError, NotReadyError
from serve_app.rollouts.core.state import Phase, can_take_back, canary_share
from serve_app.rollouts.service.changes import MAX_WHO
from serve_app.rollouts.service.ports import RolloutChange, RolloutStore, SplitSink
from serve_app.rollouts.service.running_rollout import COUNTED, RunningRollout, parse_running, to_time
from serve_app.scoring.core.split import Arm, Shadow, Split, canary_arms, dump_split, only_arm, parse_split, share_arms

_UNCHANGED: Final = frozenset({Phase.PENDING, Phase.DEPLOYING})

SWITCH_S: Final = 0.5
"""From the writing of a split to the moment from which it holds; Gateways look every 0.25 s."""

logger = logging.getLogger("scorecat.rollouts")


def follow_state(running: RunningRollout, current: Split, now_s: float, *, pins: bool) -> Split:
    """Return the split of a rollout: `current` itself, or one with the next revision when anything is different.

    A new one begins to hold `SWITCH_S` from now, so that all Gateways have read it and switch together. No
    share changes before the version is ready. A canary that has everything leaves the stable version an empty range, so
    that Gateways stay connected to it and it can be taken back at once.
    """
    wanted = dataclasses.replace(
        _build(running, current, now_s),
        pins=pins,
        revision=current.revision,
        effective_at_s=current.effective_at_s,
    )
    if wanted == current:
        return current
    return dataclasses.replace(wanted, revision=current.revision + 1, effective_at_s=now_s + SWITCH_S)


def _build(running: RunningRollout, current: Split, now_s: float) -> Split:
    state, terms, model = running.state, running.terms, current.model
    if state.phase in _UNCHANGED:
        return _warm(running, current) if running.is_warm else current
    if running.stored.kind == "shadow":
        shadow = Shadow(state.canary, terms.share) if state.phase in COUNTED else None
        return Split(model, state.stable, only_arm(state.stable), shadow=shadow)
    if running.stored.kind == "ab" and state.phase in COUNTED:
        return Split(model, state.stable, share_arms(list(terms.shares.items())), salt=terms.salt, allow=terms.allow)
    if state.phase in COUNTED:
        arms = canary_arms(state.stable, state.canary, canary_share(running.plan, state))
        return Split(model, state.stable, arms, salt=terms.salt, allow=terms.allow)
    if can_take_back(running.plan, state, now_s):
        return Split(model, state.canary, canary_arms(state.stable, state.canary, 1.0))
    only = state.canary if state.phase is Phase.SUCCEEDED else state.stable
    return Split(model, only, only_arm(only))


def _warm(running: RunningRollout, current: Split) -> Split:
    """Return the split with an empty range for every version that is tried: Gateways connect to it before it counts."""
    served = {arm.version for arm in current.arms}
    tried = tuple(Arm(version, 0, 0) for version in running.tried if version not in served)
    return dataclasses.replace(current, arms=(*tried, *current.arms))


def read_split(store: RolloutStore, model: str) -> Split:
    """Return the stored split of a model; raises NotReadyError when there is none."""
    record = store.read_split(model)
    if record is None:
        raise NotReadyError(f"the rollout database has no split of {model}; the control app looks for it: ask again")
    return parse_split(record)


def put_split(sink: SplitSink, split: Split) -> None:
    """Write a split for Gateways to read, unless they see it already."""
    record = dump_split(split)
    try:
        seen = sink.read()
    except InvariantError as exc:
        logger.warning("the split record is replaced: %s", exc)
        seen = None
    if seen is None or dict(seen) != record:
        sink.write(record)


def find_split(store: RolloutStore, sink: SplitSink, model: str, now_s: float, *, pins: bool) -> Split:
    """Return the stored split of a model.

    When the database was lost, a split is stored in its place that gives everything to the stable version of the one
    that Gateways follow: of its canary nothing is known any more, and nobody would measure it.

    Raises
    ------
    NotReadyError
        There is nothing to go on from.
    """
    record = store.read_split(model)
    if record is not None:
        return parse_split(record)
    try:
        seen = sink.read()
        followed = parse_split(seen) if seen is not None else None
    except InvariantError:
        followed = None
    if followed is None or followed.model != model:
        raise NotReadyError(
            f"the rollout database was lost, and no split file of {model} says what was served: `scorecat down` and "
            "`scorecat up` begin with the champion"
        )
    split = Split(model, followed.stable, only_arm(followed.stable), pins=pins, effective_at_s=now_s + SWITCH_S)
    store.write_split(dump_split(split))
    logger.error("the rollout database was lost, and rollouts with it: v%d of %s gets everything", split.stable, model)
    return split


def begin_split(
    store: RolloutStore,
    sink: SplitSink,
    model: str,
    version: int,
    *,
    pins: bool,
    is_named: bool = True,
    who: str = "scorecat up",
    clock: Callable[[], float] = time.time,
    check: Callable[[Split], object] = lambda _: None,
) -> Split:
    """Return the split that a service begins with, stored and put where Gateways read it.

    For the time before anything runs. A rollout in flight keeps its split. So does one whose version has all
    traffic anyway: the version before it may still be taken back.

    Parameters
    ----------
    is_named : bool
        Whether a person asked for this version. Else a rollout in flight goes on, whatever its versions.
    who : str
        For the history of the newest rollout, when another version than its own is given everything.
    clock : callable
        Seconds since the epoch.
    check : callable
        Called with the split before anything is stored; raises what keeps it from being served.

    Raises
    ------
    ConflictError
        A rollout of other versions is in flight.
    NotReadyError
        The store cannot be reached.
    """
    record, active = store.read_split(model), store.find_active(model)
    stored = parse_split(record) if record is not None else None
    if active is not None and stored is not None:
        known = parse_running(active).versions
        if is_named and version not in known:
            raise ConflictError(
                f"rollout {active.id} of {model} is {active.phase} between versions "
                f"{' and '.join(map(str, sorted(known)))}; version {version} is neither. Start with one of them, then "
                f"`scorecat rollout abort {active.id}`"
            )
        split = stored
    elif stored is not None and stored.stable == version and stored.shares == {version: 1.0} and stored.shadow is None:
        split = stored
    else:
        split = Split(model, version, only_arm(version), revision=stored.revision if stored else 0)
    split = dataclasses.replace(split, pins=pins)
    check(split)
    if split != stored:
        split = dataclasses.replace(split, revision=split.revision + 1)
        why = f"`scorecat up` gives v{split.stable} everything, {'as named' if is_named else 'the champion by now'}"
        _store(store, split, stored, who, why, clock())
    put_split(sink, split)
    return split


def _store(store: RolloutStore, split: Split, before: Split | None, who: str, why: str, now_s: float) -> None:
    """Store a split; the rollout whose split it goes on from, with other pins alone, follows it."""
    newest = next(iter(store.recent(split.model, 1)), None)
    if newest is None or before is None:
        store.write_split(dump_split(split))
        return
    if dataclasses.replace(before, pins=split.pins, revision=split.revision) != split:
        text = f"{why}; v{before.stable} was served before, and this rollout cannot be taken back any more"
        change = RolloutChange(to_time(now_s), who[:MAX_WHO], newest.phase, newest.phase, text, {"step": newest.step})
        store.save(newest, change, dump_split(split))
    elif newest.split_revision == before.revision:
        store.save(dataclasses.replace(newest, split_revision=split.revision), None, dump_split(split))
    else:
        store.write_split(dump_split(split))
