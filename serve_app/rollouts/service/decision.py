"""What a rollout of any kind does next, with what was counted handed over in the right portions."""

from __future__ import annotations

import dataclasses
from typing import Any

from serve_app.rollouts.core.decide import Decision, Observations, decide, decide_trial, find_due
from serve_app.rollouts.core.state import canary_share
from serve_app.rollouts.core.verdict import Interval
from serve_app.rollouts.service.running_rollout import COUNTED, RunningRollout
from serve_app.scoring.core.split import Split


def is_due(running: RunningRollout, now_s: float) -> bool:
    """Return whether a metric of a canary is to be measured now."""
    is_measured = running.stored.kind == "canary" and running.state.phase in COUNTED
    return is_measured and bool(find_due(running.plan, running.state, now_s))


def decide_running(
    running: RunningRollout, split: Split, seen: Observations, now_s: float
) -> tuple[RunningRollout, Decision]:
    """Return the rollout after a decision, and the decision.

    What is pending becomes one interval when a metric is measured, as in a simulation (the spread within intervals
    of a second could not be estimated), or when the shares are about to change. Until then it stays pending.
    """
    if running.stored.kind != "canary":
        decision = decide_trial(running.plan, running.state, seen, now_s)
        return running.with_state(decision.state), decision
    pending = running.counts.pending
    whole = dataclasses.replace(seen, intervals=(Interval(split.shares, pending),)) if pending else seen
    is_handed = is_due(running, now_s)
    decision = decide(running.plan, running.state, whole if is_handed else seen, now_s)
    if decision.action != "hold" and not is_handed:
        decision, is_handed = decide(running.plan, running.state, whole, now_s), True
    after = running.with_state(decision.state)
    return (after.without_pending() if is_handed else after), decision


def collect_evidence(running: RunningRollout, decision: Decision, seen: Observations) -> dict[str, Any]:
    """Return what a decision was based on: its action, the verdicts that were due, failures, the share it leads to."""
    has_share = running.stored.kind == "canary" and decision.state.step >= 0
    return {
        "action": decision.action,
        "share": canary_share(running.plan, decision.state) if has_share else 0.0,
        "verdicts": [dataclasses.asdict(verdict) for verdict in decision.verdicts],
        "failures": list(seen.failures),
    }
