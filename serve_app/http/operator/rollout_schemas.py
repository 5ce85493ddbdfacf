"""Bodies of the rollout routes, of requests and of answers."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from serve_app.http.records import REASON, Body
from serve_app.rollouts.core.plan import DEFAULT_PLAN, dump_plan
from serve_app.rollouts.service.request import MEMBERS

Kind = Literal["canary", "ab", "shadow"]


COMMAND: Final = Body(
    "CommandBody", "Who says so, and why; may be left out.", REASON, {"who": "anna", "why": "looks good"}
)
START: Final = Body(
    "StartBody",
    "A rollout to start: a canary, an A/B test, or a shadow.",
    {**REASON, **MEMBERS},
    {
        "plan": {"interval": "10m", "steps": [5, 25, 100]},
        "version": "challenger",
        "who": "anna",
        "why": "retrained on November",
    },
    title="StartRollout",
    examples={"plan": dump_plan(DEFAULT_PLAN)},
)


class RolloutBrief(BaseModel):
    """A rollout in short."""

    model_config = ConfigDict(extra="allow")

    id: int
    model: str
    kind: Kind
    stable: int = Field(description="Version that answers whom the rollout does not take.")
    version: int = Field(description="Version that is tried; of an A/B test the first one.")
    phase: str
    step: int = Field(description="From 0; -1 before the first.")
    n_steps: int
    share: float = Field(ge=0, le=1, description="What the version has of the users.")
    shares: dict[str, float] = Field(description="A/B test: per cent of the users by version.")
    is_active: bool = Field(description="Whether it owns the split.")
    why: str = Field(description="What led to this phase.")
    created_at: str
    updated_at: str


class RolloutVerdict(BaseModel):
    """The latest measurement of one metric."""

    model_config = ConfigDict(extra="allow")

    metric: str
    outcome: str = Field(description="pass, fail, inconclusive or error; empty before the first.")
    evidence: str = Field(description="In words.")


class RolloutArm(BaseModel):
    """What was counted of one version."""

    model_config = ConfigDict(extra="allow")

    version: int
    share: float
    requests: int = Field(description="Compared requests: placed by hash or at random, not by a pin or a name.")
    errors: int = Field(description="Of the compared requests.")
    routed: dict[str, int] = Field(description="All requests, by the reason that placed them.")


class RolloutView(RolloutBrief):
    """A rollout with its plan, shares, verdicts and figures."""

    since: str = Field(description="When the phase or step began.")
    plan: dict[str, Any]
    verdicts: list[RolloutVerdict]
    arms: list[RolloutArm]
    n_allowed: int = Field(description="Users that were named to get the version.")
    mismatch: str | None = Field(description="What is wrong with the shares that versions got.")
    sample_ratio: str = Field(description="What versions got of the compared requests beside what was set.")
    shadow: dict[str, Any] | None = Field(description="Of a shadow: how its scores differ from the live ones.")
    apps: list[dict[str, Any]] = Field(description="State of each version on the cluster.")
    commands: list[str] = Field(description="What can be done now.")


class RolloutList(BaseModel):
    """Rollouts, newest first."""

    rollouts: list[RolloutBrief]


class RolloutChangeView(BaseModel):
    """One change of a rollout."""

    model_config = ConfigDict(populate_by_name=True)

    at: str
    who: str
    from_: str = Field(alias="from", description="Phase before; empty for the first change.")
    to: str
    why: str
    evidence: dict[str, Any]
    webhook: str | None = Field(description="Waiting, delivered or undelivered and why; null without a webhook.")


class RolloutHistory(BaseModel):
    """The changes of a rollout, oldest first."""

    changes: list[RolloutChangeView]


class ServedVersion(BaseModel):
    """One version of a model that is served."""

    version: int
    role: Literal["stable", "canary", "standby", "shadow"] = Field(
        description="canary: another version with a share; standby: one without, kept to be taken back."
    )
    share: float = Field(ge=0, le=1, description="Of the users; 0 for a shadow.")
    copied_share: float = Field(0.0, ge=0, le=1, description="Share of the requests that a shadow gets a copy of.")


class ServedModel(BaseModel):
    """A model that is served, and which versions answer whom."""

    name: str
    stable: int
    revision: int = Field(description="Of the split; grows with every change.")
    pins: bool = Field(description="Whether a request may name its version by X-Model-Version.")
    versions: list[ServedVersion]


class ServedModels(BaseModel):
    """What is served."""

    models: list[ServedModel]
