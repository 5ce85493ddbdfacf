"""What has to hold before a rollout begins; everything is checked before anything changes."""

from __future__ import annotations

import secrets
from dataclasses import replace
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


def check_asked(asked: StartRollout, model: str, stable: int, registry: Registry) -> tuple[int, Terms]:
    """Return the version that is tried, for an A/B test the lowest, and the terms; every version's files are checked.

    Takes seconds.

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
    check = _check_test if asked.kind == "ab" else _check_one
    canary, terms = check(asked, model, stable, registry)
    for version in (canary, *terms.shares):
        if version != stable:
            _check_fits(registry.check(model, version), version, registry.manifest(model, stable), stable)
    if asked.kind != "ab":
        canary_arms(stable, canary, 0.0)  # refuses a canary that is the stable version
    return canary, terms


def _check_one(asked: StartRollout, model: str, _stable: int, registry: Registry) -> tuple[int, Terms]:
    if not asked.version:
        raise BadRequestError("name the version to roll out: a number or an alias such as challenger")
    canary = registry.resolve(model, asked.version)
    if asked.kind == "shadow" and not 0.0 < asked.share <= 1.0:
        raise BadRequestError(f"a shadow gets copies of a share above 0 and up to 1, got {asked.share:g}")
    if asked.kind == "shadow" and asked.allow:
        raise BadRequestError("a shadow answers nobody, so no user can be named for it")
    share = asked.share if asked.kind == "shadow" else 0.0
    return canary, Terms(allow=dict.fromkeys(asked.allow, canary), share=share)


def _check_test(asked: StartRollout, model: str, stable: int, registry: Registry) -> tuple[int, Terms]:
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
        return others[0], Terms(shares=shares)
    named = registry.resolve(model, asked.version) if asked.version else others[0]
    if named not in shares or (len(others) > 1 and not asked.version):
        raise BadRequestError(f"say by `version` which of {', '.join(map(str, shares))} the named users get")
    return others[0], Terms(shares=shares, allow=dict.fromkeys(asked.allow, named))


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
    asked: StartRollout,
    canary: int,
    terms: Terms,
    model: str,
    stable: int,
    registry: Registry,
    now_s: float,
    why: str,
) -> RunningRollout:
    """Return a new rollout, not stored yet, whose version is to be deployed."""
    state = move_state(RolloutState(stable, canary), Phase.DEPLOYING, now_s, why)
    champion = registry.aliases(model).versions.get(CHAMPION)
    terms = replace(terms, salt=secrets.token_bytes(SALT_BYTES), champion=champion)
    at = to_time(now_s)
    stored = Rollout(
        id=0,
        model=model,
        stable=stable,
        canary=canary,
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
