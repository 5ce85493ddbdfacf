"""Whatever is observed, a rollout takes allowed ways only, never shrinks a share, and survives its controller."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.rollouts.core.decide import Observations, decide
from serve_app.rollouts.core.plan import Metric, Plan
from serve_app.rollouts.core.state import (
    TRANSITIONS,
    Phase,
    RolloutState,
    canary_share,
    dump_state,
    move_state,
    parse_state,
)
from serve_app.rollouts.core.verdict import Interval
from serve_app.scoring.core.counters import ArmCounters
from serve_app.scoring.core.split import N_GROUPS

pytestmark = pytest.mark.property

PLANS = st.builds(
    Plan,
    steps=st.lists(st.integers(1, 100), min_size=1, max_size=4, unique=True).map(
        lambda s: tuple(map(float, sorted(s)))
    ),
    interval_s=st.sampled_from([0.0, 10.0, 60.0]),
    initial_delay_s=st.sampled_from([0.0, 15.0]),
    bake_time_s=st.sampled_from([0.0, 20.0]),
    metrics=st.lists(
        st.builds(
            Metric,
            st.sampled_from(["errors", "latency", "score"]),
            st.sampled_from([0.01, 0.2]),
            st.just(1.3),
            failure_limit=st.integers(0, 2),
            inconclusive_limit=st.integers(0, 5),
            consecutive_error_limit=st.integers(0, 2),
            dry_run=st.booleans(),
        ),
        max_size=3,
        unique_by=lambda metric: metric.name,
    ).map(lambda metrics: tuple(m if m.name != "errors" else Metric("errors", m.alpha, 0.05) for m in metrics)),
)


def arm(n, errors, latency_s, score):
    counters = ArmCounters()
    for k in range(n):
        if k < errors:
            counters.count_error("user-hash", k % N_GROUPS)
        else:
            counters.count_answer("user-hash", k % N_GROUPS, latency_s * (1 + k % 7), score)
    return counters


ARMS = st.builds(
    arm,
    st.sampled_from([0, 1, 40, 150]),
    st.sampled_from([0, 0, 0, 1, 30]),
    st.sampled_from([0.01, 0.02]),
    st.sampled_from([0.0, 0.03, 0.9, 1.0]),
)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("seen"), ARMS, ARMS),
        st.sampled_from(["quiet", "unmeasured", "not ready", "broken", "pause", "resume", "promote"]),
    ),
    max_size=25,
)


def observe(event, share):
    if isinstance(event, tuple):
        _, canary, stable = event
        shares = {version: part for version, part in ((8, share), (7, 1 - share)) if part > 0}
        arms = {version: counters for version, counters in ((8, canary), (7, stable)) if version in shares}
        return Observations((Interval(shares, arms),))
    return Observations(
        is_ready=event != "not ready",
        failures=("v8 failed its golden rows",) if event == "broken" else (),
        unmeasured="nobody answered" if event == "unmeasured" else None,
    )


COMMANDS = {"pause": Phase.PAUSED, "resume": Phase.PROGRESSING, "promote": Phase.PROMOTING}


@settings(max_examples=150, deadline=None)
@given(PLANS, EVENTS)
def test_every_way_through_a_rollout_is_an_allowed_one(plan, events):
    state, now_s = move_state(RolloutState(7, 8), Phase.DEPLOYING, 0.0, "asked for"), 0.0
    for event in events:
        now_s += 10.0
        wanted = COMMANDS.get(event) if isinstance(event, str) else None
        if wanted in TRANSITIONS[state.phase] and state.phase is not Phase.DEPLOYING:
            state = move_state(state, wanted, now_s, "a person wants it")
        before = canary_share(plan, state)
        decision = decide(plan, state, observe(event, before), now_s)
        after = canary_share(plan, decision.state)

        assert decision.state.phase in TRANSITIONS[state.phase] | {state.phase}
        assert after >= before or decision.action == "roll_back"
        assert (after != before) <= (decision.action in ("advance", "promote", "roll_back"))
        assert (decision.action == "hold") == (
            decision.state.phase is state.phase and decision.state.step == state.step
        )
        assert decision.why or not decision.state.why
        if event == "broken" and state.is_active:
            assert decision.action == ("fail" if state.phase is Phase.DEPLOYING else "roll_back")
        if state.phase is Phase.PAUSED:
            assert decision.action in ("hold", "roll_back")
        if decision.action == "roll_back" and event != "broken":
            assert any(metric.name in decision.why and not metric.dry_run for metric in plan.metrics)
        assert all("nan" not in verdict.evidence for verdict in decision.verdicts)

        record = dump_state(decision.state)
        assert json.loads(json.dumps(record, allow_nan=False)) == record
        assert parse_state(record) == decision.state
        state = decision.state
