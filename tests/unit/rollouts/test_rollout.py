"""What a rollout does next, from its plan, its state, what was observed and the time alone."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from serve_app.errors import ConflictError, InvariantError
from serve_app.rollouts.core.decide import Observations, decide, decide_trial
from serve_app.rollouts.core.plan import DEFAULT_PLAN, Metric, Plan
from serve_app.rollouts.core.state import (
    ACTIVE,
    TRANSITIONS,
    Phase,
    RolloutState,
    can_take_back,
    canary_share,
    dump_state,
    enter_step,
    move_state,
    parse_state,
)
from serve_app.rollouts.core.verdict import Interval
from serve_app.scoring.core.counters import ArmCounters
from serve_app.scoring.core.split import N_GROUPS

pytestmark = pytest.mark.unit

ERRORS = Metric("errors", alpha=0.03, limit=0.02)
PLAN = Plan(steps=(10.0, 50.0, 100.0), interval_s=30.0, initial_delay_s=0.0, metrics=(ERRORS,))


def arm(n, n_errors=0, seed=0, latency=0.02, score=0.0):
    rng, counters = np.random.default_rng(seed), ArmCounters()
    for k in range(n):
        group = (k + seed) % N_GROUPS
        if k < n_errors:
            counters.count_error("user-hash", group)
        else:
            logit = rng.normal(-3.7 + score, 1.0)
            counters.count_answer("user-hash", group, latency * rng.lognormal(0, 0.5), 1 / (1 + math.exp(-logit)))
    return counters


def interval(canary, stable, share=0.1):
    return Observations((Interval({8: share, 7: 1 - share}, {8: canary, 7: stable}),))


GOOD = interval(arm(100, 0), arm(900, 1))
BAD = interval(arm(100, 20), arm(900, 9))
QUIET = Observations()


def started(plan=PLAN, now_s=1000.0):
    state = move_state(RolloutState(7, 8), Phase.DEPLOYING, now_s, "asked for")
    return decide(plan, state, QUIET, now_s).state


def follow(plan, state, observations, now_s=1000.0, every_s=10.0):
    """Decide on each observation in turn and return all decisions."""
    decisions = []
    for observation in observations:
        now_s += every_s
        decisions.append(decide(plan, state, observation, now_s))
        state = decisions[-1].state
    return decisions


def test_a_canary_gets_no_traffic_before_it_is_ready():
    state = move_state(RolloutState(7, 8), Phase.DEPLOYING, 1000.0, "asked for")
    waiting = decide(PLAN, state, Observations(is_ready=False), 1599.0)
    assert (waiting.action, waiting.state) == ("hold", state)
    assert canary_share(PLAN, state) == 0.0
    ready = decide(PLAN, state, QUIET, 1599.0)
    assert (ready.action, ready.state.phase, ready.state.step) == ("advance", Phase.PROGRESSING, 0)
    assert canary_share(PLAN, ready.state) == 0.1


def test_a_canary_that_never_becomes_ready_fails_and_nothing_was_moved():
    state = move_state(RolloutState(7, 8), Phase.DEPLOYING, 1000.0, "asked for")
    decision = decide(PLAN, state, Observations(is_ready=False), 1600.0)
    assert (decision.action, decision.state.phase) == ("fail", Phase.FAILED)
    assert "not ready within 600 s; no traffic was moved" in decision.why
    assert canary_share(PLAN, decision.state) == 0.0


def test_a_good_canary_goes_to_everything_by_itself():
    shares, state, now_s, actions = [], started(), 1000.0, []
    for _ in range(100):
        now_s += 10
        share = canary_share(PLAN, state)
        seen = interval(arm(int(1000 * share)), arm(int(1000 * (1 - share)), 1), share) if share < 1 else QUIET
        decision = decide(PLAN, state, seen, now_s)
        state = decision.state
        actions.append(decision.action)
        shares.append(canary_share(PLAN, state))
        if not state.is_active:
            break
    assert [a for a in actions if a != "hold"] == ["advance", "promote", "finish"]
    assert shares == sorted(shares)
    assert (state.phase, shares[-1]) == (Phase.SUCCEEDED, 1.0)


def test_a_step_lasts_at_least_the_plans_interval_though_everything_passed():
    plan = dataclasses.replace(PLAN, interval_s=200.0)
    decisions = follow(plan, started(plan), [GOOD] * 20)
    assert {d.action for d in decisions[:19]} == {"hold"}
    assert "every metric passed; it lasts at least 200 s" in decisions[10].why
    assert decisions[19].action == "advance"


def test_a_canary_that_errs_is_rolled_back_with_its_evidence():
    decision = follow(PLAN, started(), [BAD])[-1]
    assert (decision.action, decision.state.phase) == ("roll_back", Phase.ROLLED_BACK)
    assert canary_share(PLAN, decision.state) == 0.0
    assert "v8 failed 20 of 100 requests (20.00%), v7 9 of 900 requests (1.00%)" in decision.why
    assert "reached 33.3" in decision.why
    (verdict,) = decision.verdicts
    assert verdict.outcome == "fail"
    assert verdict.figures["x_canary"] == 20
    assert verdict.figures["e_value"] >= verdict.figures["bound"]


def test_not_enough_data_is_inconclusive_and_holds():
    decision = follow(PLAN, started(), [interval(arm(10), arm(90))])[-1]
    assert decision.action == "hold"
    assert decision.verdicts[0].outcome == "inconclusive"
    assert "not enough data yet for errors" in decision.why
    nothing = follow(PLAN, started(), [QUIET])[-1]
    assert nothing.verdicts[0].outcome == "inconclusive"


def test_more_inconclusive_measurements_than_allowed_pause_for_a_person():
    plan = dataclasses.replace(PLAN, metrics=(dataclasses.replace(ERRORS, inconclusive_limit=3),))
    decisions = follow(plan, started(plan), [QUIET] * 4)
    assert [d.action for d in decisions] == ["hold", "hold", "hold", "pause"]
    assert "errors stayed inconclusive 4 times" in decisions[-1].why
    assert canary_share(plan, decisions[-1].state) == 0.1


def test_a_paused_rollout_stays_until_a_person_goes_on_but_is_still_watched():
    paused = move_state(started(), Phase.PAUSED, 1000.0, "Ada wants to look")
    held = follow(PLAN, paused, [GOOD] * 20)
    assert {d.action for d in held} == {"hold"}
    assert held[-1].why == "Ada wants to look"
    assert follow(PLAN, held[-1].state, [BAD] * 3, 1200.0)[-1].state.phase is Phase.ROLLED_BACK
    resumed = move_state(held[-1].state, Phase.PROGRESSING, 1300.0, "Ada goes on")
    assert resumed.tallies["errors"].n_passed == 0
    assert "advance" in [d.action for d in follow(PLAN, resumed, [GOOD] * 4, 1300.0)]


def test_failed_health_or_golden_rows_roll_back_at_once_whatever_the_phase():
    failed = Observations(failures=("replica 3 of v8 failed its golden rows",))
    states = [
        started(),
        move_state(started(), Phase.PAUSED, 0.0, ""),
        move_state(started(), Phase.PROMOTING, 0.0, ""),
    ]
    for state in states:
        decision = decide(PLAN, state, failed, 1001.0)
        assert (decision.action, decision.state.phase) == ("roll_back", Phase.ROLLED_BACK)
        assert "golden rows" in decision.why


def test_a_version_that_fails_before_it_had_traffic_fails_the_rollout():
    state = move_state(RolloutState(7, 8), Phase.DEPLOYING, 0.0, "")
    decision = decide(PLAN, state, Observations(failures=("v8 failed its golden rows",)), 1.0)
    assert (decision.action, decision.state.phase) == ("fail", Phase.FAILED)
    assert decision.why == "v8 failed its golden rows; no traffic was moved"


def test_a_trial_starts_when_ready_and_no_figure_ends_it():
    state = move_state(RolloutState(7, 8), Phase.DEPLOYING, 1000.0, "")
    waiting = Observations(is_ready=False, unready="v8 is starting")
    assert decide_trial(PLAN, state, waiting, 1599.0).state == state
    late = decide_trial(PLAN, state, waiting, 1600.0)
    assert (late.action, late.why) == ("fail", "not ready within 600 s: v8 is starting; no traffic was moved")
    begun = decide_trial(PLAN, state, QUIET, 1001.0)
    assert (begun.action, begun.state.phase, begun.state.step) == ("advance", Phase.PROGRESSING, 0)
    assert decide_trial(PLAN, begun.state, BAD, 9000.0).state == begun.state
    ended = decide_trial(PLAN, begun.state, Observations(failures=("v8 answers wrongly",)), 9000.0)
    assert (ended.action, ended.state.phase) == ("roll_back", Phase.ROLLED_BACK)
    assert decide_trial(PLAN, ended.state, QUIET, 9001.0).state == ended.state


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.ROLLED_BACK, Phase.FAILED, Phase.PENDING])
def test_a_rollout_that_is_over_or_not_begun_does_nothing(phase):
    state = RolloutState(7, 8, phase=phase)
    decision = decide(PLAN, state, dataclasses.replace(BAD, failures=("broken",)), 5000.0)
    assert (decision.action, decision.state) == ("hold", state)


def test_a_dry_run_metric_is_shown_and_never_decides():
    plan = dataclasses.replace(PLAN, metrics=(dataclasses.replace(ERRORS, dry_run=True),))
    decisions = follow(plan, started(plan), [BAD] * 3)
    assert [d.action for d in decisions] == ["hold", "hold", "advance"]
    assert decisions[0].verdicts[0].outcome == "fail"
    assert decisions[0].verdicts[0].is_dry_run


def test_the_failure_limit_allows_that_many_failures():
    plan = dataclasses.replace(PLAN, metrics=(dataclasses.replace(ERRORS, failure_limit=2),))
    assert [d.action for d in follow(plan, started(plan), [BAD] * 3)] == ["hold", "hold", "roll_back"]


def test_a_metric_that_cannot_be_measured_rolls_back_only_when_it_happens_in_a_row():
    plan = dataclasses.replace(PLAN, metrics=(dataclasses.replace(ERRORS, consecutive_error_limit=2),))
    lost = Observations(unmeasured="no Gateway answered")
    assert follow(plan, started(plan), [lost, lost, QUIET, lost, lost])[-1].action == "hold"
    decision = follow(plan, started(plan), [lost] * 3)[-1]
    assert decision.action == "roll_back"
    assert "errors could not be measured 3 times in a row; not measured: no Gateway answered" in decision.why


def test_measurements_wait_for_the_initial_delay_and_the_metrics_interval():
    plan = dataclasses.replace(PLAN, initial_delay_s=25.0, metrics=(dataclasses.replace(ERRORS, interval_s=20.0),))
    decisions = follow(plan, started(plan), [BAD] * 3)
    assert [len(d.verdicts) for d in decisions] == [0, 0, 1]
    assert decisions[-1].verdicts[0].figures["n_canary"] == 300
    quiet = follow(plan, started(plan), [interval(arm(10), arm(90))] * 6)
    assert [len(d.verdicts) for d in quiet] == [0, 0, 1, 0, 1, 0]


def test_a_metric_must_pass_as_often_as_its_count():
    plan = dataclasses.replace(PLAN, interval_s=0.0, metrics=(dataclasses.replace(ERRORS, count=5),))
    decisions = follow(plan, started(plan), [GOOD] * 12)
    k = next(i for i, d in enumerate(decisions) if d.action == "advance")
    assert [d.verdicts[0].outcome for d in decisions[: k + 1]].count("pass") == 5


def test_a_mismatch_of_the_shares_is_looked_at_before_anything_is_believed():
    """Half of the canary's requests never arrived; the errors of the rest are neither pass nor failure."""
    lossy = interval(arm(400, 80), arm(8600, 60))
    decision = follow(PLAN, started(), [lossy])[-1]
    assert (decision.action, decision.state.phase) == ("pause", Phase.PAUSED)
    assert "sample-ratio mismatch: v8 got 400 of 9,000 requests (4.44%) where 10.00% was set" in decision.why
    (verdict,) = decision.verdicts
    assert verdict.outcome == "inconclusive"
    assert "it would be fail: v8 failed 80 of 400" in verdict.evidence
    assert decide(PLAN, decision.state, QUIET, 1100.0).action == "hold"
    resumed = move_state(decision.state, Phase.PROGRESSING, 1200.0, "Ada knows why")
    assert decide(PLAN, resumed, QUIET, 1210.0).action == "roll_back"


def test_a_slow_canary_and_one_that_scores_otherwise_are_rolled_back():
    slow = interval(arm(200, latency=0.05), arm(1800))
    other = interval(arm(200, score=2.0), arm(1800))
    for seen, name, words in [(slow, "latency", "times the stable version's latency"), (other, "score", "PSI")]:
        plan = dataclasses.replace(DEFAULT_PLAN, steps=(10.0, 100.0), initial_delay_s=0.0)
        decisions = follow(plan, started(plan), [seen] * 3)
        last = next(d for d in decisions if d.action != "hold")
        assert last.action == "roll_back"
        assert last.why.startswith(f"{name}: ")
        assert words in last.why


def test_the_default_plan_passes_a_canary_like_stable_on_every_metric():
    plan = dataclasses.replace(DEFAULT_PLAN, steps=(10.0, 100.0))
    decisions = follow(plan, started(plan), [interval(arm(100, 1, k), arm(900, 9, k + 99)) for k in range(60)])
    last = next(d for d in decisions if d.action != "hold")
    assert last.action == "promote"
    for name in ("errors", "latency", "score"):
        assert f"{name} passed" in last.why


def test_evidence_is_kept_over_steps_and_the_sums_of_a_step_are_not():
    state = follow(PLAN, started(), [GOOD] * 2)[-1].state
    entered = enter_step(PLAN, state, 1, 2000.0, "next")
    assert entered.errors.n_canary == state.errors.n_canary == 200
    assert entered.in_step != state.in_step
    assert entered.in_step.n_stable == 0
    assert entered.tallies["errors"].n_passed == 0


def test_a_plan_that_ends_below_everything_waits_for_a_person():
    plan = dataclasses.replace(PLAN, steps=(10.0,), interval_s=0.0)
    decision = next(d for d in follow(plan, started(plan), [GOOD] * 20) if d.action != "hold")
    assert decision.action == "pause"
    assert "the plan ends here, promote or abort" in decision.why


def test_a_plan_of_one_step_to_everything_promotes_as_soon_as_the_canary_is_ready():
    plan = Plan(steps=(100.0,), bake_time_s=60.0)
    state = started(plan)
    assert (state.phase, canary_share(plan, state)) == (Phase.PROMOTING, 1.0)
    assert decide(plan, state, QUIET, 1059.0).action == "hold"
    assert decide(plan, state, QUIET, 1060.0).action == "finish"


def test_without_metrics_time_alone_moves_a_rollout():
    plan = dataclasses.replace(PLAN, metrics=())
    assert [d.action for d in follow(plan, started(plan), [BAD] * 3)] == ["hold", "hold", "advance"]


def test_success_can_be_taken_back_within_the_window():
    state = RolloutState(7, 8, phase=Phase.SUCCEEDED, since_s=1000.0)
    assert can_take_back(PLAN, state, 4599.0)
    assert not can_take_back(PLAN, state, 4600.0)
    assert not can_take_back(PLAN, started(), 1000.0)
    assert canary_share(PLAN, move_state(state, Phase.ROLLED_BACK, 4000.0, "second thoughts")) == 0.0


@pytest.mark.parametrize("before", list(Phase))
@pytest.mark.parametrize("after", list(Phase))
def test_only_the_transitions_of_the_table_are_allowed(before, after):
    state = RolloutState(7, 8, phase=before)
    if after in TRANSITIONS[before]:
        assert move_state(state, after, 1.0, "why").phase is after
    else:
        with pytest.raises(ConflictError, match=f"the rollout is {before} and cannot become {after}"):
            move_state(state, after, 1.0, "why")


def test_every_active_phase_can_be_rolled_back_and_no_other_is_left_behind():
    assert all(Phase.ROLLED_BACK in TRANSITIONS[phase] for phase in ACTIVE)
    assert {phase for phase in Phase if not TRANSITIONS[phase]} == {Phase.ROLLED_BACK, Phase.FAILED}


def test_a_rollout_survives_its_controller_at_every_moment():
    """Stored and read back after each decision, it decides the same to the last digit."""
    plan = dataclasses.replace(DEFAULT_PLAN, steps=(10.0, 50.0, 100.0))
    kept = stored = started(plan)
    for k in range(40):
        share = canary_share(plan, kept)
        seen = interval(arm(int(200 * share) + 1, k % 2, k), arm(int(200 * (1 - share)) + 1, 1, k), share)
        seen = seen if share < 1 else QUIET
        stored = parse_state(json.loads(json.dumps(dump_state(stored))))
        first, second = (decide(plan, state, seen, 1010.0 + 10 * k) for state in (kept, stored))
        assert first == second
        kept, stored = first.state, second.state


@pytest.mark.parametrize("change", [{"phase": "flying"}, {"errors": {}, "x": 1}, {"ratio": {}}, {"in_step": {"n": 1}}])
def test_a_damaged_state_is_named(change):
    with pytest.raises(InvariantError, match="not the state of a rollout"):
        parse_state(dump_state(started()) | change)


def test_counters_of_a_version_without_a_share_are_refused():
    with pytest.raises(InvariantError, match="version 9 counted 5 requests but has no share"):
        Interval({7: 1.0}, {9: arm(5)})


def test_deciding_changes_nothing_that_was_passed_in():
    state = started()
    before = json.dumps(dump_state(state))
    counters = arm(100, 20)
    copy = dataclasses.replace(counters, score_bins=list(counters.score_bins))
    decide(PLAN, state, interval(counters, arm(900)), 1010.0)
    assert json.dumps(dump_state(state)) == before
    assert counters == copy


def baking(n_stable_errors=1):
    """Return a canary that has just got everything, after four intervals at each of two steps."""
    state, now_s = started(), 1000.0
    for _ in range(100):
        now_s += 10
        share = canary_share(PLAN, state)
        seen = interval(arm(int(1000 * share)), arm(int(1000 * (1 - share)), n_stable_errors), share)
        state = decide(PLAN, state, seen, now_s).state
        if state.phase is Phase.PROMOTING:
            return state, now_s
    raise AssertionError(state.why)


def alone(n, n_errors):
    return Observations((Interval({8: 1.0}, {8: arm(n, n_errors)}),))


def test_a_canary_that_breaks_when_it_has_everything_is_rolled_back():
    state, now_s = baking()
    held = follow(PLAN, state, [alone(1000, 1)] * 5, now_s)
    assert {decision.action for decision in held} == {"hold"}
    assert held[-1].verdicts[0].outcome == "pass"
    decision = follow(PLAN, held[-1].state, [alone(1000, 1000)], now_s + 50)[-1]
    assert (decision.action, decision.state.phase) == ("roll_back", Phase.ROLLED_BACK)
    assert "held against" in decision.why


def test_a_canary_that_stays_good_succeeds_with_what_was_measured_at_the_end():
    state, now_s = baking()
    decision = follow(PLAN, state, [alone(1000, 1)], now_s, every_s=PLAN.bake_time_s)[-1]
    assert (decision.action, decision.state.phase) == ("finish", Phase.SUCCEEDED)
    assert decision.why.startswith("healthy for 300 s at 100 %; errors: v8 failed")
    broken = follow(PLAN, state, [alone(1000, 900)], now_s, every_s=PLAN.bake_time_s)[-1]
    assert broken.action == "roll_back"


def test_a_canary_without_a_record_to_compare_with_says_so():
    plan = Plan(steps=(100.0,), bake_time_s=60.0, metrics=(ERRORS,))
    decision = follow(plan, started(plan), [alone(100, 100)] * 6)[-1]
    assert decision.action == "finish"
    assert "nothing was recorded to compare with" in decision.why
