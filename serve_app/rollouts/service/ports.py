"""What rollouts need from outside, as protocols, and what passes between Gateways and the control app."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from serve_app.rollouts.core.plan import Plan
from serve_app.scoring.core.counters import ArmCounters
from serve_app.scoring.core.shadow import ShadowCounters
from serve_app.scoring.service.ports import AppState

RolloutKind = Literal["canary", "ab", "shadow"]


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout as it is stored.

    Attributes
    ----------
    id : int
        Given by the store.
    model : str
    stable, canary : int
        Versions.
    kind : {"canary", "ab", "shadow"}
    plan, state : mapping
        Plain JSON, see `serve_app.rollouts.core.plan.dump_plan` and `serve_app.rollouts.core.state.dump_state`; with
        what was agreed at the start and what was counted since, see `serve_app.rollouts.service.running_rollout`.
    phase : str
        Of the state, for queries.
    step : int
        Of the state.
    is_active : bool
        Whether it owns the model's split.
    split_revision : int
        Revision of the split that belongs to the state.
    revision : int
        Grows with every save; hand back what was read to save on condition that nothing changed since.
    created_at, updated_at : datetime
        Aware, UTC.
    """

    id: int
    model: str
    stable: int
    canary: int
    kind: RolloutKind
    plan: Mapping[str, Any]
    state: Mapping[str, Any]
    phase: str
    step: int
    is_active: bool
    split_revision: int
    revision: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class RolloutChange:
    """One change of a rollout's phase or step; never altered once written.

    Attributes
    ----------
    at : datetime
        Aware, UTC.
    who : str
        A person's name or ``controller``.
    from_phase, to_phase : str
        `from_phase` is empty for the first change.
    why : str
        In plain words.
    evidence : mapping
        Verdicts and figures behind it, plain JSON.
    delivery : str
        What became of telling the webhook, in plain words; empty without one. Only ever read.
    """

    at: datetime
    who: str
    from_phase: str
    to_phase: str
    why: str
    evidence: Mapping[str, Any]
    delivery: str = ""


class RolloutStore(Protocol):
    """Rollouts, their history and the current splits, all or nothing per call.

    Every call raises NotReadyError while the store cannot be reached.
    """

    def create(self, rollout: Rollout, change: RolloutChange) -> Rollout:
        """Store a new active rollout and return it with its id; ConflictError when its model has one already."""
        ...

    def save(
        self, rollout: Rollout, change: RolloutChange | None = None, split: Mapping[str, Any] | None = None
    ) -> Rollout:
        """Store a rollout as it is now, with its change and the split that follows from it.

        Raises
        ------
        ConflictError
            The rollout or the split changed since it was read.
        NotFoundError
            There is no such rollout.
        """
        ...

    def find(self, rollout_id: int) -> Rollout:
        """Return a rollout; raises NotFoundError."""
        ...

    def find_active(self, model: str) -> Rollout | None:
        """Return the model's rollout that owns the split, or None."""
        ...

    def recent(self, model: str, limit: int = 20) -> list[Rollout]:
        """Return the model's rollouts, newest first."""
        ...

    def history(self, rollout_id: int) -> list[RolloutChange]:
        """Return the changes of a rollout, oldest first; raises NotFoundError."""
        ...

    def read_split(self, model: str) -> Mapping[str, Any] | None:
        """Return the model's split record, or None."""
        ...

    def write_split(self, record: Mapping[str, Any]) -> None:
        """Store a split record whose revision is the next one (1 for the first); raises ConflictError."""
        ...


class VersionApps(Protocol):
    """The applications of model versions. Calls may take seconds; none belongs on an event loop.

    A living app is never run again (all its replicas would be replaced).
    """

    def states(self) -> dict[tuple[str, int], AppState]:
        """Return the state of every version's app, by model and version."""
        ...

    def create(self, model: str, version: int) -> None:
        """Begin to start a version's app and return; does nothing while one lives.

        Raises
        ------
        ScorecatError
            The package cannot be fetched or is damaged, or the cluster refused the app.
        """
        ...

    def delete(self, model: str, version: int) -> None:
        """Begin to remove a version's app, whose replicas finish what they have; does nothing when there is none."""
        ...

    def prove(self, model: str, version: int) -> None:
        """Send golden rows through every deployment of a version and compare.

        Raises
        ------
        GoldenMismatchError
            It answers, and wrongly.
        NotReadyError
            It does not answer, or its replicas fail for a reason of their own.
        """
        ...


class SplitSink(Protocol):
    """Where the split record is put for Gateways to read."""

    def read(self) -> Mapping[str, Any] | None:
        """Return the record that Gateways see, or None."""
        ...

    def write(self, record: Mapping[str, Any]) -> None:
        """Replace the record atomically."""
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """What one Gateway counted since its last report.

    Attributes
    ----------
    gateway : str
        Name of the Gateway replica.
    revision : int
        Revision of the split that all counts belong to.
    arms : mapping of int to ArmCounters
        By version.
    shadow : ShadowCounters or None
        Of the shadow, when there is one.
    """

    gateway: str
    revision: int
    arms: Mapping[int, ArmCounters]
    shadow: ShadowCounters | None = None


@dataclass(frozen=True, slots=True)
class StartRollout:
    """What a person asks for.

    Attributes
    ----------
    version : str
        Number or alias; for kind ``ab`` ignored in favour of `shares`.
    model : str
        Empty for the served model.
    kind : {"canary", "ab", "shadow"}
    plan : Plan or None
        Canaries only; None is the default plan.
    shares : mapping of int to float
        A/B/n: per cent of the users by version, together 100; the served version among them.
    share : float
        Shadow: share of the requests that are copied, above 0 and up to 1.
    allow : tuple of str
        Users who get the version whatever their bucket (canary and A/B).
    """

    version: str = ""
    model: str = ""
    kind: RolloutKind = "canary"
    plan: Plan | None = None
    shares: Mapping[int, float] = field(default_factory=dict)
    share: float = 0.1
    allow: tuple[str, ...] = ()


Command = Literal["pause", "resume", "promote", "abort"]
"""What a person may tell a rollout; ``abort`` also ends A/B tests, shadows and, within the rollback window,
takes back a canary that succeeded."""


class Rollouts(Protocol):
    """The control app as Gateways and their routes see it; every call raises NotReadyError while it is away."""

    async def start(self, asked: StartRollout, who: str, why: str) -> dict[str, Any]:
        """Start a rollout and return it as `describe` does.

        Raises
        ------
        BadRequestError
            It cannot be done, and why: NotFoundError for a version that is not there, ConflictError when the model
            has an active rollout.
        PackageError
            The version's package is damaged.
        """
        ...

    async def command(self, rollout_id: int, command: Command, who: str, why: str) -> dict[str, Any]:
        """Tell a rollout what to do and return it; raises ConflictError when its phase does not allow that."""
        ...

    async def describe(self, rollout_id: int) -> dict[str, Any]:
        """Return a rollout with its plan, shares, verdicts and figures as plain JSON; raises NotFoundError."""
        ...

    async def recent(self, model: str, limit: int) -> list[dict[str, Any]]:
        """Return rollouts, newest first, in short form; an empty model is the served one."""
        ...

    async def history(self, rollout_id: int) -> list[dict[str, Any]]:
        """Return the changes of a rollout, oldest first."""
        ...

    async def report(self, report: Report) -> None:
        """Take in what a Gateway counted; each count is reported once at most."""
        ...
