"""Rollouts as plain JSON for people, routes and the command line."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from serve_app.rollouts.core.plan import LIMIT_NAMES, dump_plan
from serve_app.rollouts.core.sample_ratio import RatioEvidence, add_routed
from serve_app.rollouts.core.state import Phase, RolloutState, Tally, canary_share
from serve_app.rollouts.core.verdict import describe_mismatch, describe_ratio
from serve_app.rollouts.service.ports import Rollout, RolloutChange
from serve_app.rollouts.service.running_rollout import COUNTED, RunningRollout, to_time
from serve_app.scoring.core.counters import ArmCounters
from serve_app.scoring.core.shadow import describe_shadow
from serve_app.scoring.core.split import Split
from serve_app.stats.design_effect import measure_dispersion
from serve_app.stats.intervals import mean_interval, share_interval


def describe_running(
    running: RunningRollout, split: Split, apps: Sequence[Mapping[str, Any]], commands: Sequence[str]
) -> dict[str, Any]:
    """Return everything about a rollout.

    Parameters
    ----------
    split : Split
        The split of its model that is stored.
    apps : sequence of mapping
        See `serve_app.rollouts.service.app_reconciler.AppReconciler.describe`.
    commands : sequence of str
        What can be done now.

    Returns
    -------
    dict
        All of `describe_briefly`, and: ``since`` (when phase or step began), ``steps`` (per cent), ``plan`` (as
        `parse_plan` reads it), ``copied_share`` (shadow), ``n_allowed``
        (users that were named), ``verdicts`` (see `describe_verdicts`), ``mismatch`` (what is wrong with the shares
        that versions got, or null), ``sample_ratio`` (what they got, in words; empty before
        the first request), ``arms`` (see `describe_arm`), ``shadow`` (see
        `shadow.describe_shadow`, or null), ``apps``, ``split`` (``revision``, ``stable``, ``shares``
        by version), ``champion`` (what became of the alias: empty, moved, left or returned),
        ``take_back_until`` (or null), ``commands``.
    """
    state, kind, ratio = running.state, running.stored.kind, _find_ratio(running)
    until_s = state.since_s + running.plan.rollback_window_s
    is_open = kind == "canary" and state.phase is Phase.SUCCEEDED and "abort" in commands
    return {
        **describe_briefly(running.stored, running),
        "since": _say_time(state.since_s),
        "steps": list(running.plan.steps) if kind == "canary" else [],
        "plan": dump_plan(running.plan),
        "copied_share": running.terms.share if kind == "shadow" else None,
        "n_allowed": len(running.terms.allow),
        "verdicts": describe_verdicts(running) if kind == "canary" else [],
        "mismatch": describe_mismatch(dataclasses.replace(state, ratio=ratio)),
        "sample_ratio": describe_ratio(ratio),
        "arms": [
            describe_arm(version, running.counts.total.get(version, ArmCounters()), split.shares.get(version, 0.0))
            for version in sorted(running.versions if kind != "shadow" else {state.stable})
        ],
        "shadow": describe_shadow(running.counts.shadow) if kind == "shadow" else None,
        "apps": [dict(app) for app in apps],
        "split": {
            "revision": split.revision,
            "stable": split.stable,
            "shares": {str(version): share for version, share in split.shares.items()},
        },
        "champion": running.champion,
        "take_back_until": _say_time(until_s) if is_open else None,
        "commands": list(commands),
    }


def describe_briefly(stored: Rollout, running: RunningRollout) -> dict[str, Any]:
    """Return the short form: ``id, model, kind, stable, version, phase, step, n_steps, share`` (0-1) and more.

    And: ``shares`` (A/B: per cent by version), ``is_active, why, created_at, updated_at`` (ISO 8601, UTC). ``step``
    counts from 0 and is -1 before the first; ``share`` is what the version has of the users.
    """
    state = running.state
    return {
        "id": stored.id,
        "model": stored.model,
        "kind": stored.kind,
        "stable": stored.stable,
        "version": stored.canary,
        "phase": str(state.phase),
        "step": state.step,
        "n_steps": len(running.plan.steps) if stored.kind == "canary" else 1,
        "share": _find_share(running, state),
        "shares": {str(version): round(share * 100, 6) for version, share in running.terms.shares.items()},
        "is_active": stored.is_active,
        "why": state.why,
        "created_at": stored.created_at.isoformat(),
        "updated_at": stored.updated_at.isoformat(),
    }


def describe_change(change: RolloutChange) -> dict[str, Any]:
    """Return a change: ``at, who, from, to, why, evidence``, and ``webhook``: what became of telling it, or null."""
    return {
        "at": change.at.isoformat(),
        "who": change.who,
        "from": change.from_phase,
        "to": change.to_phase,
        "why": change.why,
        "evidence": dict(change.evidence),
        "webhook": change.delivery or None,
    }


def describe_verdicts(running: RunningRollout) -> list[dict[str, Any]]:
    """Return the latest verdict of each metric of the plan.

    ``metric, outcome`` (empty before the first measurement), ``evidence`` in words, ``limit``, ``limit_name``,
    ``alpha``, ``is_dry_run``, the counts of this step ``n_passed, n_failed, n_inconclusive, n_errors_in_row``,
    ``n_needed`` passes, and ``next_at``.
    """
    return [
        {
            "metric": metric.name,
            "outcome": tally.outcome,
            "evidence": tally.evidence,
            "limit": metric.limit,
            "limit_name": LIMIT_NAMES[metric.name],
            "alpha": metric.alpha,
            "is_dry_run": metric.dry_run,
            "n_passed": tally.n_passed,
            "n_failed": tally.n_failed,
            "n_inconclusive": tally.n_inconclusive,
            "n_errors_in_row": tally.n_errors_in_row,
            "n_needed": metric.count,
            "next_at": _say_time(tally.next_at_s) if tally.next_at_s else None,
        }
        for metric in running.plan.metrics
        for tally in [running.state.tallies.get(metric.name, Tally())]
    ]


def describe_arm(version: int, counted: ArmCounters, share: float) -> dict[str, Any]:
    """Return what was counted of a version: ``requests``, ``errors``, ``routed``, and three estimates.

    ``requests`` and ``errors`` are those that are compared: placed by hash or at random. ``routed`` has all requests
    by reason, pins and named users too.

    ``error_share``, ``mean_score`` and ``latency_s`` (geometric mean) are ``{"value", "low", "high"}`` with 95 %
    intervals, widened by how much the groups of users show that requests come in clusters (``dispersion``); they are
    null while there is too little.
    """
    crowd, bursts = measure_dispersion(counted.group_requests), measure_dispersion(counted.group_errors)
    n, errors = counted.n_requests, counted.n_errors
    latency = mean_interval(counted.n_latencies, counted.log_latency_sum, counted.log_latency_squares, crowd)
    score = mean_interval(counted.n_scores, counted.score_sum, counted.score_squares, crowd)
    return {
        "version": version,
        "share": share,
        "requests": n,
        "errors": errors,
        "routed": dict(counted.routed),
        "error_share": _name(share_interval(errors, n, max(bursts, 1.0))) if n else None,
        "mean_score": _name(score),
        "latency_s": _name(tuple(math.exp(min(value, 700.0)) for value in latency) if latency else None),
        "dispersion": {"requests": crowd, "errors": bursts},
    }


def _find_share(running: RunningRollout, state: RolloutState) -> float:
    if running.stored.kind == "canary":
        return canary_share(running.plan, state)
    if state.phase not in COUNTED:
        return 0.0
    return running.terms.shares.get(state.canary, 0.0)


def _find_ratio(running: RunningRollout) -> RatioEvidence:
    """Return what versions got under the current shares; those of an A/B test never change: its totals."""
    if running.stored.kind != "ab":
        return running.state.ratio
    groups = {version: arm.group_requests for version, arm in running.counts.total.items()}
    return add_routed(RatioEvidence(), running.terms.shares, groups)


def _name(interval: Sequence[float] | None) -> dict[str, float] | None:
    return dict(zip(("value", "low", "high"), interval, strict=True)) if interval else None


def _say_time(now_s: float) -> str:
    return to_time(now_s).isoformat()
