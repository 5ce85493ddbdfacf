"""A rollout as the control app works with it: what is stored, parsed, and put back.

Beside the plan and the state that `serve_app.rollouts.core` decides by, a stored rollout holds what was agreed at its
start (`Terms`) and what was counted since (`RolloutCounts`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from serve_app.errors import InvariantError
from serve_app.rollouts.core.plan import Plan, dump_plan, restore_plan
from serve_app.rollouts.core.state import Phase, RolloutState, dump_state, parse_state
from serve_app.rollouts.service.ports import Report, Rollout
from serve_app.scoring.core.counters import ArmCounters
from serve_app.scoring.core.shadow import ShadowCounters

COUNTED: Final = frozenset({Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING})
"""Phases in which a rollout's version may get requests, and is measured."""

Champion = Literal["", "moved", "left", "returned"]
"""What became of the alias: not touched yet, moved to the canary, left to somebody else who moved it, taken back."""

_LAST_S: Final = datetime(9999, 12, 31, tzinfo=UTC).timestamp()

Arms = Mapping[int, ArmCounters]


@dataclass(frozen=True, slots=True)
class Terms:
    """What was agreed when a rollout began; never changes.

    Attributes
    ----------
    salt : bytes
        Of the split.
    allow : mapping of str to int
        Version by user.
    shares : mapping of int to float
        A/B/n: share of the users by version, 0-1, in the order of their buckets; empty otherwise.
    share : float
        Shadow: share of the requests that are copied, 0-1.
    champion : int or None
        Where the alias pointed then.
    """

    salt: bytes = b""
    allow: Mapping[str, int] = field(default_factory=dict)
    shares: Mapping[int, float] = field(default_factory=dict)
    share: float = 0.0
    champion: int | None = None


@dataclass(frozen=True, slots=True)
class RolloutCounts:
    """What Gateways counted for a rollout.

    Attributes
    ----------
    total : mapping of int to ArmCounters
        By version, since the rollout first changed the split.
    pending : mapping of int to ArmCounters
        Of these, under the current split and not handed to a measurement yet.
    shadow : ShadowCounters
    """

    total: Arms = field(default_factory=dict)
    pending: Arms = field(default_factory=dict)
    shadow: ShadowCounters = field(default_factory=ShadowCounters)


@dataclass(frozen=True, slots=True)
class RunningRollout:
    """A rollout, parsed.

    Attributes
    ----------
    stored : Rollout
        As it was read.
    plan : Plan
    terms : Terms
    state : RolloutState
    counts : RolloutCounts
    champion : {"", "moved", "left", "returned"}
    is_warm : bool
        Whether Gateways have been told to connect to the versions that are tried, before these get any share.
    """

    stored: Rollout
    plan: Plan
    terms: Terms
    state: RolloutState
    counts: RolloutCounts = field(default_factory=RolloutCounts)
    champion: Champion = ""
    is_warm: bool = False

    @property
    def tried(self) -> tuple[int, ...]:
        """Versions that the rollout brings beside the stable one."""
        others = tuple(version for version in self.terms.shares if version != self.stored.stable)
        return others or (self.stored.canary,)

    @property
    def versions(self) -> set[int]:
        """Every version that the rollout needs."""
        return {self.stored.stable, *self.tried}

    def with_state(self, state: RolloutState) -> RunningRollout:
        """Return the rollout in another state; counters of another step are not pending any more."""
        moved = dataclasses.replace(self, state=state)
        has_all, had_all = (each.phase is Phase.PROMOTING for each in (state, self.state))
        is_same_split = state.step == self.state.step and has_all == had_all
        return moved if is_same_split and state.phase in COUNTED else moved.without_pending()

    def without_pending(self) -> RunningRollout:
        """Return the rollout after its pending counters were handed over."""
        return dataclasses.replace(self, counts=dataclasses.replace(self.counts, pending={}))


def parse_running(stored: Rollout) -> RunningRollout:
    """Parse a stored rollout.

    Raises
    ------
    InvariantError
        It is not what `dump_running` wrote.
    """
    plan, state = dict(stored.plan), dict(stored.state)
    try:
        terms, counts, champion = plan.pop("terms"), state.pop("counts"), state.pop("champion")
        is_warm = bool(state.pop("is_warm"))
        return RunningRollout(
            stored,
            restore_plan(plan),
            Terms(**{**terms, "salt": bytes.fromhex(terms["salt"]), "shares": dict(terms["shares"])}),
            parse_state(state),
            RolloutCounts(
                _parse_arms(counts["total"]), _parse_arms(counts["pending"]), ShadowCounters.parse(counts["shadow"])
            ),
            champion,
            is_warm,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise InvariantError(f"rollout {stored.id} cannot be read: {exc!r}") from exc


def dump_running(running: RunningRollout, split_revision: int, now_s: float) -> Rollout:
    """Return the rollout as it is stored, with the revision of the split that belongs to it."""
    state, terms = running.state, running.terms
    return dataclasses.replace(
        running.stored,
        plan={
            **dump_plan(running.plan),
            "terms": {
                **dataclasses.asdict(terms),
                "salt": terms.salt.hex(),
                "shares": [[version, share] for version, share in terms.shares.items()],
            },
        },
        state={
            **dump_state(state),
            "counts": {
                "total": _dump_arms(running.counts.total),
                "pending": _dump_arms(running.counts.pending),
                "shadow": running.counts.shadow.dump(),
            },
            "champion": running.champion,
            "is_warm": running.is_warm,
        },
        phase=str(state.phase),
        step=state.step,
        is_active=state.is_active,
        split_revision=split_revision,
        updated_at=to_time(now_s),
    )


def add_reports(running: RunningRollout, reports: Iterable[Report], shares: Mapping[int, float]) -> RunningRollout:
    """Return the rollout with reports of the current split counted.

    Parameters
    ----------
    shares : mapping of int to float
        Share by version under the current split; what other versions were sent by a wrong choice compares nothing.
    """
    reports = list(reports)
    counts = running.counts
    arms = [report.arms for report in reports]
    compared = [{version: arm for version, arm in each.items() if version in shares} for each in arms]
    is_compared = running.stored.kind == "canary" and running.state.phase in COUNTED
    counts = RolloutCounts(
        total=_merge([counts.total, *arms]),
        pending=_merge([counts.pending, *compared]) if is_compared else {},
        shadow=ShadowCounters.merge(
            [counts.shadow, *(report.shadow for report in reports if report.shadow is not None)]
        ),
    )
    return dataclasses.replace(running, counts=counts)


def to_time(now_s: float) -> datetime:
    """Return seconds since the epoch as an aware time; the last day of the year 9999 for all that is later."""
    return datetime.fromtimestamp(min(now_s, _LAST_S), UTC)


def _merge(parts: Iterable[Arms]) -> Arms:
    by_version: dict[int, list[ArmCounters]] = {}
    for part in parts:
        for version, arm in part.items():
            by_version.setdefault(version, []).append(arm)
    return {version: ArmCounters.merge(arms) for version, arms in by_version.items()}


def _parse_arms(record: Mapping[str, Any]) -> Arms:
    return {int(version): ArmCounters.parse(counters) for version, counters in record.items()}


def _dump_arms(arms: Arms) -> dict[str, Any]:
    return {str(version): counters.dump() for version, counters in arms.items()}
