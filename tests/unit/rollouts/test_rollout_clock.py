"""Somebody sets the clock: rollouts go on in the time that really passes."""

from __future__ import annotations

import dataclasses

import pytest

from serve_app.errors import GoldenMismatchError
from serve_app.runtime.clock_jumps import ClockJumps
from tests.testing_kit.rollouts.rollouts import HOLDING_PLAN, QUICK_PLAN, SLOW_PLAN, FakeClock

pytestmark = pytest.mark.unit

HOUR_S = 3600.0


def test_a_jump_is_told_once_and_time_that_passes_is_none():
    clock = FakeClock()
    jumps = ClockJumps(clock, clock.steady)
    clock.now_s += 500.0
    assert jumps.take() == 0.0
    clock.set_by_s, clock.now_s = -HOUR_S, clock.now_s + 1.0
    assert jumps.take() == -HOUR_S
    clock.set_by_s += 0.5
    assert jumps.take() == 0.0


@pytest.mark.parametrize("by_s", [-HOUR_S, HOUR_S])
def test_a_canary_that_errs_after_the_clock_was_set_is_rolled_back(world, by_s):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    world.run(5)
    world.clock.set_by_s, world.error_shares = by_s, {2: 0.5}
    world.run_until(1, "rolled_back", limit_s=30)
    assert any(f"the clock was set by {by_s:+.0f} s" in change["why"] for change in world.control.history(1))


@pytest.mark.parametrize("by_s", [-HOUR_S, HOUR_S])
def test_wrong_golden_rows_after_the_clock_was_set_roll_back(world, by_s):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    world.clock.set_by_s, world.apps.troubles = by_s, {2: GoldenMismatchError("row 3 differs")}
    world.run_until(1, "rolled_back", limit_s=8)
    assert "row 3 differs" in world.control.describe(1)["why"]


@pytest.mark.parametrize("by_s", [-HOUR_S, HOUR_S])
def test_the_bake_lasts_as_long_as_planned_though_the_clock_was_set(world, by_s):
    world.start(plan=dataclasses.replace(HOLDING_PLAN, bake_time_s=60.0))
    world.run_until(1, "promoting")
    world.run(5)
    world.clock.set_by_s = by_s
    world.run(50)
    assert world.control.describe(1)["phase"] == "promoting"
    world.run_until(1, "succeeded", limit_s=10)


def test_the_window_to_take_back_and_the_time_to_start_are_not_lost(world):
    world.bring("succeeded")
    world.clock.set_by_s = HOUR_S
    world.run(1)
    assert world.control.describe(1)["commands"] == ["abort"]
    world.apps.stuck = {3}
    world.start("3", plan=QUICK_PLAN)
    world.run(3)
    world.clock.set_by_s = 2 * HOUR_S
    world.run(3)
    assert world.control.describe(2)["phase"] == "deploying"


def test_a_lost_app_is_made_anew_though_the_clock_was_set_back(world):
    world.run(30)
    world.clock.set_by_s = -HOUR_S
    del world.apps.by_version[1]
    world.run(15)
    assert world.apps.created == [1]


def test_a_control_that_begins_before_the_last_decision_begins_the_phase_anew(world):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    world.run(5)
    world.clock.set_by_s = -HOUR_S
    world.restart()
    world.error_shares = {2: 0.5}
    world.run_until(1, "rolled_back", limit_s=30)
    assert world.control.describe(1)["phase"] == "rolled_back"


def test_apps_are_said_to_be_proved_at_the_time_of_the_wall_clock(world):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    world.clock.set_by_s = HOUR_S
    world.run(1)
    described = world.control.describe(1)
    proved_at = next(app["proved_at"] for app in described["apps"] if app["version"] == 2)
    assert described["updated_at"][:13] == proved_at[:13]
