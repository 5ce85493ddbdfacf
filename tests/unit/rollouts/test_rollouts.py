"""Canaries from start to end, without a cluster: real store, split file and registry, fake apps and clock."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from itertools import pairwise
from unittest.mock import Mock

import pytest

from serve_app.errors import (
    ConflictError,
    NotReadyError,
)
from serve_app.rollouts.service.ports import Report
from serve_app.scoring.core.split import Arm, dump_split, only_arm
from tests.testing_kit.rollouts.rollouts import HOLDING_PLAN, QUICK_PLAN, SLOW_PLAN, count_requests

pytestmark = pytest.mark.unit


def test_a_good_canary_gets_everything_by_itself_and_the_alias_follows(world):
    started = world.start()
    assert (started["phase"], started["version"], started["stable"], started["commands"]) == (
        "deploying", 2, 1, ["abort"],
    )  # fmt: skip
    before = world.split
    assert before.arms == only_arm(1)
    world.run_until(1, "succeeded")
    world.run(1)
    assert world.phases(1) == ["deploying", "progressing", "promoting", "succeeded"]
    assert world.registry.aliases("purchase").versions == {"champion": 2}
    assert world.registry.history("purchase")[-1].reason == "rollout 1 succeeded"
    assert world.split.stable == 2
    assert world.split.arms == (Arm(2, 0, 10_000), Arm(1, 10_000, 10_000))
    described = world.control.describe(1)
    assert (described["champion"], described["commands"], described["is_active"]) == ("moved", ["abort"], False)
    assert described["arms"][1]["requests"] > 1000
    assert world.apps.created == [2]


def test_users_of_the_canary_stay_with_it_while_it_grows(world):
    world.start(allow=("Ada", "Zoë"))
    seen = []
    for _ in range(30):
        world.run(1)
        split = world.split
        if split.stable == 1 and len(split.arms) == 2:
            users = {f"user-{k}" for k in range(500) if split.choose(f"user-{k}", None, 0.5).version == 2}
            assert split.choose("Zoë", None, 0.5).version == 2
            seen.append(users)
    assert all(earlier <= later for earlier, later in pairwise(seen))
    assert 0 < len(seen[0]) < len(seen[-1]) == 500


def test_a_canary_gets_no_share_before_every_gateway_is_connected_to_it(world):
    world.start(plan=SLOW_PLAN)
    for _ in range(20):
        world.control.report(Report("gateway-2", 1, {}))  # does not manage to connect
        world.run(1)
    assert world.split.arms == (Arm(2, 0, 0), Arm(1, 0, 10_000))
    assert world.control.describe(1)["phase"] == "deploying"
    world.control.report(Report("gateway-2", world.split.revision, {}))
    world.run(1)
    assert world.split.shares == {2: 0.1, 1: 0.9}


def test_a_gateway_that_is_gone_is_not_waited_for(world):
    world.start(plan=SLOW_PLAN)
    world.control.report(Report("gateway-2", 1, {}))
    world.run(8)
    assert world.control.describe(1)["phase"] == "progressing"


def test_a_version_that_gateways_cannot_reach_fails_and_no_share_was_moved(world):
    world.start(plan=SLOW_PLAN)
    for _ in range(70):
        world.control.report(Report("gateway-2", 1, {}))
        world.run(1)
    described = world.control.describe(1)
    assert described["phase"] == "failed"
    assert "gateway-2 of 2 Gateways do not follow revision 2 of the split yet" in described["why"]
    assert world.split.arms == only_arm(1)


def test_all_gateways_are_told_when_to_switch(world):
    world.start(plan=SLOW_PLAN)
    moved_s = None
    while moved_s is None:
        world.run(1)
        progressing = [c for c in world.control.history(1) if c["to"] == "progressing"]
        moved_s = datetime.fromisoformat(progressing[0]["at"]).timestamp() if progressing else None
    assert world.split.effective_at_s == moved_s + 0.5
    world.run(5)
    assert world.split.effective_at_s == moved_s + 0.5


def test_each_rollout_deals_users_anew(world):
    salts = []
    for rollout_id in (1, 2):
        world.start(plan=SLOW_PLAN)
        world.run_until(rollout_id, "progressing")
        salts.append(world.split.salt)
        world.control.command(rollout_id, "abort", "Ada", "")
    assert len(set(salts)) == 2
    assert all(len(salt) == 16 for salt in salts)


def test_an_erring_canary_is_rolled_back_with_its_evidence(world):
    world.error_shares = {2: 0.5}
    world.start()
    described = world.run_until(1, "rolled_back")
    assert world.split.arms == only_arm(1)
    change = world.control.history(1)[-1]
    assert (change["who"], change["from"], change["to"]) == ("controller", "progressing", "rolled_back")
    assert change["evidence"]["action"] == "roll_back"
    verdict = change["evidence"]["verdicts"][0]
    assert (verdict["metric"], verdict["outcome"]) == ("errors", "fail")
    assert verdict["figures"]["e_value"] >= verdict["figures"]["bound"]
    assert "E-value" in described["why"]
    assert described["verdicts"][0]["outcome"] == "fail"
    assert world.registry.aliases("purchase").versions == {"champion": 1}
    assert world.notifier.events[-1] == {
        "url": QUICK_PLAN.webhook, "id": len(world.control.history(1)),
        "event": "rollback", "rollout": 1, "model": "purchase", "version": 2,
        "from": "progressing", "to": "rolled_back", "why": described["why"], "who": "controller", "at": change["at"],
    }  # fmt: skip


def test_every_change_is_told_by_flaggers_names(world):
    world.start(plan=HOLDING_PLAN)
    world.run_until(1, "progressing")
    world.control.command(1, "pause", "Ada", "a look")
    world.control.command(1, "resume", "Ada", "")
    world.run_until(1, "promoting")
    world.control.command(1, "abort", "Bob", "too many calls")
    told = [(event["event"], event["to"]) for event in world.notifier.events]
    assert told == [
        ("pre-rollout", "deploying"), ("rollout", "progressing"), ("event", "paused"), ("rollout", "progressing"),
        ("rollout", "progressing"), ("confirm-promotion", "promoting"), ("rollback", "rolled_back"),
    ]  # fmt: skip
    assert world.notifier.events[-1]["why"] == "Bob: abort, too many calls"
    assert world.notifier.n_wakes == len(told)


ALLOWED = {
    "deploying": {"abort": "rolled_back"},
    "progressing": {"pause": "paused", "promote": "promoting", "abort": "rolled_back"},
    "paused": {"resume": "progressing", "promote": "promoting", "abort": "rolled_back"},
    "promoting": {"abort": "rolled_back"},
    "succeeded": {"abort": "rolled_back"},
    "rolled_back": {},
}


@pytest.mark.parametrize("phase", ALLOWED)
def test_each_phase_takes_its_commands_and_refuses_the_others_saying_what_is_possible(world, phase):
    world.bring(phase)
    allowed = ALLOWED[phase]
    assert set(world.control.describe(1)["commands"]) == set(allowed)
    before = (world.control.describe(1), world.split, len(world.control.history(1)))
    for command in {"pause", "resume", "promote", "abort"} - set(allowed):
        with pytest.raises(ConflictError, match=r"it can be told to|is over") as refused:
            world.control.command(1, command, "Ada", "")
        assert all(possible in str(refused.value) for possible in allowed)
    assert before == (world.control.describe(1), world.split, len(world.control.history(1)))


SHARES = {"paused": 0.1, "progressing": 0.1, "promoting": 1.0, "rolled_back": 0.0}


@pytest.mark.parametrize(
    ("phase", "command"), [(phase, command) for phase, commands in ALLOWED.items() for command in commands]
)
def test_a_command_moves_the_split_before_it_returns(world, phase, command):
    world.bring(phase)
    told = world.control.command(1, command, "Ada", "because")
    assert told["phase"] == ALLOWED[phase][command]
    share = SHARES[told["phase"]]
    assert world.split.shares == {v: s for v, s in ((1, 1 - share), (2, share)) if s > 0}
    assert dump_split(world.split) == world.store.read_split("purchase")
    assert world.split.stable == 1
    assert world.split.effective_at_s <= world.clock.now_s + 0.5
    change = world.control.history(1)[-1]
    assert (change["who"], change["from"], change["why"]) == ("Ada", phase, f"Ada: {command}, because")
    assert world.apps.deleted == []


def test_a_paused_canary_waits_for_a_person_and_still_fails(world):
    world.start()
    world.run_until(1, "progressing")
    world.control.command(1, "pause", "Ada", "")
    world.run(60)
    assert world.control.describe(1)["phase"] == "paused"
    assert world.split.shares == {1: 0.9, 2: 0.1}
    world.error_shares = {2: 0.6}
    world.run_until(1, "rolled_back")
    assert world.split.arms == only_arm(1)


def test_a_plan_that_ends_below_everything_waits_there_for_a_person(world):
    world.start(plan=dataclasses.replace(QUICK_PLAN, steps=(10.0, 50.0)))
    described = world.run_until(1, "paused")
    assert described["why"].endswith("the plan ends here, promote or abort")
    assert described["commands"] == ["promote", "abort"]
    with pytest.raises(ConflictError, match="cannot be told to resume: the plan ends here; it can be told to promote"):
        world.control.command(1, "resume", "Ada", "")
    assert world.split.shares == {1: 0.5, 2: 0.5}
    world.control.command(1, "promote", "Ada", "")
    world.run_until(1, "succeeded")
    assert world.split.stable == 2


def test_shares_that_were_not_kept_pause_the_rollout(world):
    world.bring("progressing")
    for k in range(8):
        arms = {1: count_requests(100, seed=k), 2: count_requests(100, seed=k)}
        world.control.report(Report("gateway-1", world.split.revision, arms))
        world.run(1, rate=0)
    described = world.control.describe(1)
    assert described["phase"] == "paused"
    assert "sample-ratio mismatch" in described["why"]
    assert described["mismatch"] is not None


def test_a_promotion_that_was_taken_back_takes_the_alias_back(world):
    world.bring("succeeded")
    assert world.registry.aliases("purchase").versions == {"champion": 2}
    world.control.command(1, "abort", "Ada", "sales fell")
    assert world.split.arms == only_arm(1)
    world.run(1)
    assert world.registry.aliases("purchase").versions == {"champion": 1}
    assert world.registry.history("purchase")[-1].reason == "rollout 1 taken back"
    assert world.control.describe(1)["champion"] == "returned"
    world.run(100)
    assert world.apps.deleted == [2]


def test_a_canary_that_was_taken_back_before_the_alias_moved_leaves_it_alone(world):
    world.start()
    for _ in range(200):
        world.clock.now_s += 0.5
        if world.control.describe(1)["phase"] == "succeeded":
            break
        if world.control.describe(1)["phase"] in ("deploying", "progressing"):
            world.control.reconcile()
            world.report()
        world.control.tick()
    n_moves = len(world.registry.history("purchase"))
    world.control.command(1, "abort", "Ada", "")
    world.run(2)
    assert world.registry.aliases("purchase").versions == {"champion": 1}
    assert len(world.registry.history("purchase")) == n_moves


def test_a_rollout_that_follows_an_abort_at_once_goes_back_to_the_version_that_is_served(world):
    world.bring("succeeded")
    world.control.command(1, "abort", "Ada", "")
    world.start()  # before any round looked after the alias
    assert world.registry.aliases("purchase").versions == {"champion": 1}
    world.run_until(2, "succeeded")
    world.run(1)
    assert world.registry.aliases("purchase").versions == {"champion": 2}
    world.control.command(2, "abort", "Ada", "")
    world.run(1)
    assert (world.split.stable, world.registry.aliases("purchase").versions) == (1, {"champion": 1})
    assert world.control.history(2)[-1]["why"] == "champion moved from v2 to v1"


def test_a_rollout_waits_for_the_alias_of_the_one_before(world, monkeypatch):
    world.bring("succeeded")
    world.control.command(1, "abort", "Ada", "")
    monkeypatch.setattr(world.registry, "move_alias", Mock(side_effect=ConflictError("somebody moves aliases")))
    with pytest.raises(NotReadyError, match="the alias champion follows the rollout before just now: ask again"):
        world.start()
    assert [r["id"] for r in world.control.recent("", 10)] == [1]


def test_a_version_that_was_taken_back_is_not_left_the_champion_that_a_person_made_it(world):
    world.registry.move_alias("purchase", "champion", 2)
    world.bring("succeeded")
    world.control.command(1, "abort", "Ada", "")
    world.run(1)
    assert world.registry.aliases("purchase").versions == {"champion": 1}


def test_a_champion_of_a_persons_making_that_was_rolled_back_early_is_left_and_said(world):
    world.registry.move_alias("purchase", "champion", 2)
    world.bring("rolled_back")
    world.run(3)
    assert world.registry.aliases("purchase").versions == {"champion": 2}
    said = [change["why"] for change in world.control.history(1) if "stays at v2" in change["why"]]
    assert (len(said), "models alias purchase@1 champion" in said[0]) == (1, True)


def test_an_alias_that_somebody_else_moved_is_left_alone_and_that_is_recorded(world):
    world.start()
    world.run_until(1, "promoting")
    world.registry.move_alias("purchase", "champion", 3)
    world.run_until(1, "succeeded")
    world.run(3)
    assert world.registry.aliases("purchase").versions == {"champion": 3}
    assert world.control.describe(1)["champion"] == "left"
    assert world.control.history(1)[-1]["why"] == (
        "champion was moved to v3 by somebody else meanwhile and stays there"
    )
    assert sum("champion" in change["why"] for change in world.control.history(1)) == 1


def test_the_old_version_is_deleted_only_after_its_window_and_the_drain(world):
    world.bring("succeeded")
    succeeded_s = world.clock.now_s
    while world.apps.deleted == [] and world.clock.now_s < succeeded_s + 400:
        world.run(1, rate=0)
    gone_s = world.clock.now_s - succeeded_s
    assert world.apps.deleted == [1]
    assert 168 <= gone_s <= 173
    assert world.split.arms == only_arm(2)
    with pytest.raises(
        ConflictError, match=r"rollout 1 is over \(succeeded\).*start a rollout of version 1 to go back"
    ):
        world.control.command(1, "abort", "Ada", "")
    world.run(20, rate=0)
    assert (world.apps.deleted, list(world.apps.by_version)) == ([1], [2])


def test_a_new_rollout_ends_the_window_of_the_one_before(world):
    world.bring("succeeded")
    world.start("3", plan=SLOW_PLAN)
    with pytest.raises(ConflictError, match="rollout 1 is over"):
        world.control.command(1, "abort", "Ada", "")
    world.run_until(2, "progressing")
    assert world.split.shares == {2: 0.9, 3: 0.1}
    world.control.command(2, "abort", "Ada", "")
    assert world.split.arms == only_arm(2)
    world.run(100, rate=0)
    assert set(world.apps.deleted) == {1, 3}


@pytest.mark.parametrize("command", [None, "promote"])
def test_a_canary_that_breaks_at_100_percent_is_rolled_back(world, command):
    world.start(plan=HOLDING_PLAN)
    if command:
        world.run_until(1, "progressing")
        world.run(3)
        world.control.command(1, command, "Ada", "")
    world.run_until(1, "promoting")
    world.run(20)
    assert world.control.describe(1)["phase"] == "promoting"
    world.error_shares = {2: 1.0}
    described = world.run_until(1, "rolled_back", limit_s=10)
    assert "held against" in described["why"]
    assert world.split.arms == only_arm(1)
    assert world.registry.aliases("purchase").versions == {"champion": 1}
