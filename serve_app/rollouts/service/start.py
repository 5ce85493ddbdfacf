"""What has to hold before a rollout begins; everything is checked before anything changes."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from serve_app.errors import BadRequestError, FieldError
from serve_app.models.core.manifest import Manifest
from serve_app.models.service.registry import CHAMPION, Registry
from serve_app.rollouts.core.plan import DEFAULT_PLAN
from serve_app.rollouts.core.state import Phase, RolloutState, move_state
from serve_app.rollouts.service.ports import Rollout, StartRollout
from serve_app.rollouts.service.running_rollout import RunningRollout, Terms, to_time
from serve_app.scoring.core.split import MAX_SALT_BYTES, canary_arms, share_arms

SALT_BYTES: Final = min(16, MAX_SALT_BYTES)
MAX_ALLOWED: Final = 1_000
"""Users that may be named: they are part of the record that every Gateway reads."""


@dataclass(frozen=True, slots=True)
class StartRequest:
    """What was asked for, with versions as numbers.

    Attributes
    ----------
    canary : int
        For an A/B test the lowest version that is not the stable one.
    shares : dict of int to float
        A/B: share of the users by version, 0-1, ascending by version.
    allow : dict of str to int
        Version by user.
    """

    canary: int
    shares: dict[int, float]
    allow: dict[str, int]


def check_asked(asked: StartRollout, model: str, stable: int, registry: Registry) -> StartRequest:
    """Return what is asked for after checking it, and every version's files with it; takes seconds.

    Raises
    ------
    BadRequestError
        It cannot be done, and why.
    NotFoundError
        There is no such version or alias.
    PackageError
        A version's package is damaged.
    """
    if asked.model not in ("", model):
        raise BadRequestError(f"{asked.model} is not served here; rollouts are of {model}")
    if len(asked.allow) > MAX_ALLOWED:
        raise BadRequestError(f"at most {MAX_ALLOWED:,} users can be named, got {len(asked.allow):,}")
    found = _check_test(asked, model, stable, registry) if asked.kind == "ab" else _check_one(asked, model, registry)
    for version in (found.canary, *found.shares):
        if version != stable:
            _check_fits(registry.check(model, version), version, registry.manifest(model, stable), stable)
    if asked.kind != "ab":
        canary_arms(stable, found.canary, 0.0)  # refuses a canary that is the stable version
    return found


def _check_one(asked: StartRollout, model: str, registry: Registry) -> StartRequest:
    if not asked.version:
        raise BadRequestError("name the version to roll out: a number or an alias such as challenger")
    canary = registry.resolve(model, asked.version)
    if asked.kind == "shadow" and not 0.0 < asked.share <= 1.0:
        raise BadRequestError(f"a shadow gets copies of a share above 0 and up to 1, got {asked.share:g}")
    if asked.kind == "shadow" and asked.allow:
        raise BadRequestError("a shadow answers nobody, so no user can be named for it")
    return StartRequest(canary, {}, dict.fromkeys(asked.allow, canary))


def _check_test(asked: StartRollout, model: str, stable: int, registry: Registry) -> StartRequest:
    shares = {version: share / 100.0 for version, share in sorted(asked.shares.items())}
    for version in shares:
        registry.resolve(model, str(version))
    others = [version for version in shares if version != stable]
    if stable not in shares or not others:
        raise BadRequestError(
            f"an A/B test is between the served version {stable} and at least one other: give each its share, got "
            f"{', '.join(map(str, shares)) or 'none'}"
        )
    wrong = [FieldError(f"/shares/{v}", f"must be above 0, got {s * 100:g}") for v, s in shares.items() if not s > 0]
    if wrong:
        raise BadRequestError("the shares cannot be used.", tuple(wrong))
    share_arms(list(shares.items()))  # refuses shares that are not together 1
    if not asked.allow:
        return StartRequest(others[0], shares, {})
    named = registry.resolve(model, asked.version) if asked.version else others[0]
    if named not in shares or (len(others) > 1 and not asked.version):
        raise BadRequestError(f"say by `version` which of {', '.join(map(str, shares))} the named users get")
    return StartRequest(others[0], shares, dict.fromkeys(asked.allow, named))


def _check_fits(canary: Manifest, version: int, served: Manifest, stable: int) -> None:
    """Refuse a version that today's callers could not call."""
    if canary.task != served.task:
        raise BadRequestError(
            f"version {version} is a {canary.task} model and version {stable}, which is served, a {served.task} one: "
            "their answers cannot be compared"
        )
    more = sorted(set(canary.feature_names) - set(served.feature_names))
    fewer = sorted(set(served.feature_names) - set(canary.feature_names))
    if more or fewer:
        what = [f"needs {', '.join(more)}"] * bool(more) + [f"does not know {', '.join(fewer)}"] * bool(fewer)
        raise BadRequestError(
            f"version {version} {' and '.join(what)}, unlike version {stable}, which is served: callers would have to "
            "send other features. Serve it on its own (`scorecat up --model NAME@VERSION`)"
        )


def begin_running(
    asked: StartRollout, found: StartRequest, model: str, stable: int, registry: Registry, now_s: float, why: str
) -> RunningRollout:
    """Return a new rollout, not stored yet, whose version is to be deployed."""
    state = move_state(RolloutState(stable, found.canary), Phase.DEPLOYING, now_s, why)
    at = to_time(now_s)
    terms = Terms(
        salt=secrets.token_bytes(SALT_BYTES),
        allow=found.allow,
        shares=found.shares,
        share=asked.share if asked.kind == "shadow" else 0.0,
        champion=registry.aliases(model).versions.get(CHAMPION),
    )
    stored = Rollout(
        id=0,
        model=model,
        stable=stable,
        canary=found.canary,
        kind=asked.kind,
        plan={},
        state={},
        phase=str(state.phase),
        step=state.step,
        is_active=state.is_active,
        split_revision=0,
        revision=0,
        created_at=at,
        updated_at=at,
    )
    return RunningRollout(stored, asked.plan or DEFAULT_PLAN, terms, state)
