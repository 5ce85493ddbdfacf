"""Versions that do not come, do not answer or answer wrongly, and what that does to their rollout."""

from __future__ import annotations

import pytest

from serve_app.errors import (
    GoldenMismatchError,
    NotReadyError,
    PackageError,
)
from serve_app.scoring.core.split import dump_split, only_arm
from serve_app.scoring.service.ports import AppState
from tests.testing_kit.rollouts.rollouts import SLOW_PLAN

pytestmark = pytest.mark.unit


def test_a_version_that_never_comes_up_fails_and_no_traffic_moves(world):
    world.apps.stuck = {2}
    before = dump_split(world.split)
    world.start()
    described = world.run_until(1, "failed")
    assert described["why"] == "not ready within 60 s: v2 is starting; no traffic was moved"
    assert dump_split(world.split) == before
    world.run(100)
    assert world.apps.deleted == [2]
    assert world.apps.by_version == {1: AppState("running")}


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda apps: apps.refusals.update({2: PackageError("golden.parquet is missing")}), "golden.parquet"),
        (lambda apps: apps.troubles.update({2: GoldenMismatchError("row 3 differs")}), "row 3 differs"),
    ],
)
def test_a_version_that_can_never_serve_fails_at_once(world, harm, words):
    harm(world.apps)
    world.start()
    described = world.run_until(1, "failed", limit_s=5)
    assert words in described["why"]
    assert "no traffic was moved" in described["why"]


def test_an_app_that_failed_to_start_fails_the_rollout_at_once(world):
    world.apps.stuck = {2}
    world.start()
    world.run(2)
    world.apps.by_version[2] = AppState("failed", "CUDA is missing")
    assert "the app of v2 failed: CUDA is missing" in world.run_until(1, "failed", limit_s=3)["why"]


def test_what_an_earlier_rollout_left_behind_fails_no_later_one(world):
    world.apps.stuck = {2}
    world.start()
    world.run(2)
    world.apps.by_version[2] = AppState("failed", "no memory")
    world.run_until(1, "failed", limit_s=3)
    world.apps.stuck = set()
    world.start()
    world.run_until(2, "progressing", limit_s=20)
    assert world.apps.created == [2, 2]


def test_the_stable_version_is_tried_again_when_its_app_failed(world):
    world.apps.by_version[1] = AppState("failed", "no memory")
    world.run(3)
    assert world.apps.created == [1]
    assert world.apps.by_version == {1: AppState("running")}


def test_a_refused_app_is_asked_for_again_every_ten_seconds_and_why_is_shown(world):
    world.apps.refusals[2] = NotReadyError("no CPU is free")
    world.start()
    world.run(25)
    assert world.apps.created == [2, 2, 2]
    shown = next(app for app in world.control.describe(1)["apps"] if app["version"] == 2)
    assert (shown["status"], shown["detail"]) == ("absent", "no CPU is free")
    del world.apps.refusals[2]
    world.run_until(1, "progressing")


def test_a_canary_that_does_not_answer_once_or_twice_stays(world):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    for _ in range(4):
        world.apps.troubles[2] = NotReadyError("its only replica was killed")
        while world.control._reconciler._health[2].n_missed < 2:
            world.run(1)
        world.apps.troubles.clear()
        world.run(3)
    assert world.control.describe(1)["phase"] == "progressing"


def test_a_canary_that_does_not_answer_three_times_in_a_row_is_rolled_back(world):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    world.apps.troubles[2] = NotReadyError("nobody is there")
    described = world.run_until(1, "rolled_back", limit_s=12)
    assert described["why"] == "v2 does not answer: nobody is there (3 times in a row)"
    assert world.control.history(1)[-1]["evidence"]["failures"] == [described["why"]]


def test_rounds_that_follow_each_other_quickly_count_as_one_miss(world):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    world.apps.troubles[2] = NotReadyError("nobody is there")
    world.clock.now_s += 5.0
    for _ in range(10):
        world.control.reconcile()
        world.control.tick()
    assert world.control.describe(1)["phase"] == "progressing"


@pytest.mark.parametrize("phase", ["progressing", "paused", "promoting"])
def test_a_canary_that_answers_wrongly_is_rolled_back_at_once_whatever_the_phase(world, phase):
    world.bring(phase)
    world.apps.troubles[2] = GoldenMismatchError("probabilities differ by 0.2")
    world.clock.now_s += 5.0
    world.control.reconcile()
    world.control.tick()
    described = world.control.describe(1)
    assert described["phase"] == "rolled_back"
    assert "probabilities differ by 0.2" in described["why"]
    assert world.split.arms == only_arm(1)


def test_a_canary_without_a_running_replica_is_rolled_back_within_seconds_and_not_waited_for(world):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    n_proofs = len(world.apps.proved)
    world.apps.by_version[2] = AppState("unhealthy", "", is_down=True)
    world.run(2)
    world.apps.by_version[2] = AppState("running")  # a replica that is back in time
    world.run(3)
    assert world.control.describe(1)["phase"] == "progressing"
    n_proofs = len(world.apps.proved)
    world.apps.by_version[2] = AppState("running", "", is_down=True)
    described = world.run_until(1, "rolled_back", limit_s=4)
    assert described["why"] == "v2 has no running replica (3 times in a row)"
    assert len(world.apps.proved) == n_proofs


def test_an_unhealthy_app_that_still_answers_is_no_failure(world):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    world.apps.by_version[2] = AppState("unhealthy", "1 of 2 replicas")
    world.run(30)
    assert world.control.describe(1)["phase"] == "progressing"
    world.apps.by_version[2] = AppState("failed", "out of memory")
    world.run_until(1, "rolled_back", limit_s=3)


def test_a_canary_whose_app_is_gone_is_rolled_back(world):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    world.apps.stuck = {2}
    del world.apps.by_version[2]
    assert "v2" in world.run_until(1, "rolled_back", limit_s=10)["why"]


def test_after_a_restart_of_the_cluster_a_canary_is_given_time_to_start(world):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    world.apps.by_version[2] = AppState("starting")
    world.apps.stuck = {2}
    world.restart()
    world.run(30)
    assert world.control.describe(1)["phase"] == "progressing"
    world.apps.stuck = set()
    world.run(5)
    assert world.control.describe(1)["phase"] == "progressing"


def test_the_trouble_of_one_version_keeps_no_other_from_its_turn(world):
    world.start(kind="ab", plan=None, shares={1: 50.0, 2: 25.0, 3: 25.0})
    world.apps.refusals[2] = RuntimeError("the cluster hiccups")
    world.run(4)
    assert world.apps.by_version[3] == AppState("running")
    del world.apps.refusals[2]
    world.run_until(1, "progressing", limit_s=20)


@pytest.mark.parametrize("port", ["states", "create", "delete", "prove"])
def test_an_exception_of_any_port_ends_no_round(world, port, monkeypatch):
    def broken(*_):
        raise RuntimeError(f"{port} is broken")

    world.start(plan=SLOW_PLAN)
    with monkeypatch.context() as patch:
        patch.setattr(world.apps, port, broken)
        world.run(3)
    described = world.run_until(1, "progressing", limit_s=20)
    assert (described["phase"], world.split.shares) == ("progressing", {2: 0.1, 1: 0.9})


def test_what_kept_an_earlier_rollout_from_its_app_fails_no_later_one(world):
    world.apps.refusals[2] = PackageError("model.cbm is damaged")
    world.start()
    world.run_until(1, "failed", limit_s=5)
    del world.apps.refusals[2]
    world.start(plan=SLOW_PLAN)
    world.control.tick()
    world.run_until(2, "progressing", limit_s=20)
    phases = [world.control.describe(each)["phase"] for each in (1, 2)]
    assert phases == ["failed", "progressing"]
