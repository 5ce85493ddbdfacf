"""What a rollout survives, and what is counted: the store is its only memory."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise

import pytest
import sqlalchemy as sa

from serve_app.errors import (
    ConflictError,
    NotReadyError,
)
from serve_app.rollouts.adapters.sql_store import SqlRolloutStore
from serve_app.rollouts.core.plan import Metric
from serve_app.rollouts.service.ports import Report
from serve_app.scoring.adapters.split_file import SplitFile
from serve_app.scoring.core.split import dump_split, only_arm
from serve_app.storage.disk_reserve import DiskReserve
from serve_app.storage.sql_engine import build_engine
from tests.testing_kit.rollouts.rollouts import SLOW_PLAN, count_requests

pytestmark = pytest.mark.unit


def test_a_crash_between_store_and_split_file_is_healed_by_the_next_tick(world, monkeypatch):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(world.sink, "write", full)
        with pytest.raises(
            NotReadyError, match=r"rollout 1 is rolled_back from now on, but .* No space left on device"
        ):
            world.control.command(1, "abort", "Ada", "")
        assert world.split.shares == {1: 0.9, 2: 0.1}
    world.restart().tick()
    assert world.split.arms == only_arm(1)
    assert dump_split(world.split) == world.store.read_split("purchase")


def foreign(world, **changes):
    return json.dumps({**dump_split(world.split), **changes})


HARMS = {
    "missing": None,
    "torn": lambda world: "{half",
    "too deep": lambda world: "[" * 200_000,
    "no number": lambda world: '{"model": "purchase", "stable": Infinity}',
    "of another model": lambda world: foreign(world, model="other"),
    "of a higher revision": lambda world: foreign(world, revision=1_000),
    "of other shares": lambda world: foreign(world, arms=[[2, 0, 10_000], [1, 10_000, 10_000]]),
}


def harm_split(world, harm):
    text = harm and harm(world)
    world.sink._path.unlink()
    if text is not None:
        world.sink._path.write_text(text)


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_the_split_file_is_a_copy_that_is_written_anew_whatever_was_done_to_it(world, harm, is_restarted):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    stored = world.store.read_split("purchase")
    harm_split(world, harm)
    if is_restarted:
        world.sink = SplitFile(world.sink._path)
        world.restart()
    assert world.control.recent("", 10)[0]["id"] == 1
    world.control.tick()
    assert dump_split(world.split) == stored == world.store.read_split("purchase")
    harm_split(world, harm)
    assert world.control.command(1, "abort", "Ada", "")["phase"] == "rolled_back"
    assert world.split.arms == only_arm(1)


def test_an_abort_that_changes_no_share_still_writes_a_split_file_that_is_gone(world):
    world.start()
    world.sink._path.unlink()
    world.control.command(1, "abort", "Ada", "")
    assert world.split.arms == only_arm(1)


def remove_database(world):
    for name in ("rollouts.db", "rollouts.db-wal", "rollouts.db-shm"):
        (world.path.parent / name).unlink(missing_ok=True)


@pytest.mark.parametrize("is_restarted", [False, True])
def test_without_its_database_a_canary_gets_nothing_and_the_stable_version_everything(world, is_restarted):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    remove_database(world)
    if is_restarted:
        world.store.close()
        world.store = SqlRolloutStore(build_engine(world.path))
        world.restart()
    world.run(2)
    assert (world.split.arms, world.split.revision) == (only_arm(1), 1)
    assert world.control.recent("", 10) == []
    world.start("3", plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    assert world.split.shares == {1: 0.9, 3: 0.1}


def test_without_database_and_split_file_it_says_what_to_do(world):
    remove_database(world)
    world.sink._path.unlink()
    with pytest.raises(NotReadyError, match="`scorecat down` and `scorecat up` begin with the champion"):
        world.control.tick()


def test_an_older_database_that_was_put_back_is_the_truth(world):
    older = world.path.with_name("older.db")
    sqlite3.connect(world.path).execute("VACUUM INTO ?", (str(older),)).close()
    world.bring("progressing")
    remove_database(world)
    older.replace(world.path)
    world.run(2)
    assert (world.split.arms, world.split.revision) == (only_arm(1), 1)


def test_a_full_disk_leaves_room_for_a_decision_and_counts_do_not_use_it_up(world):
    reserve = DiskReserve(world.path.with_suffix(".reserve"), 1000)
    world.store = SqlRolloutStore(build_engine(world.path), reserve)
    world.restart()
    world.bring("progressing")
    held = world.path.with_suffix(".reserve")
    assert held.exists()

    def fill(connection, _cursor, statement, *_):
        if held.exists() and statement.startswith(("INSERT", "UPDATE")):
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

    sa.event.listen(world.store._engine, "before_cursor_execute", fill)
    with pytest.raises(NotReadyError, match="disk is full"):
        world.store.save(world.store.find(1))
    assert held.exists()
    assert world.control.command(1, "abort", "Ada", "")["phase"] == "rolled_back"
    assert world.split.arms == only_arm(1)
    assert not held.exists()


def test_a_rollout_goes_on_with_another_control_at_every_second(world):
    world.start()
    for _ in range(60):
        world.run(1)
        world.restart()
        if world.control.describe(1)["champion"]:
            break
    assert world.phases(1) == ["deploying", "progressing", "promoting", "succeeded"]
    assert world.registry.aliases("purchase").versions == {"champion": 2}
    assert sum("champion" in change["why"] for change in world.control.history(1)) == 1


def test_the_alias_moves_once_although_the_control_died_after_moving_it(world, monkeypatch):
    world.start()
    save = world.store.save

    def die(rollout, change=None, split=None):
        if change is not None and "champion" in change.why:
            raise KeyboardInterrupt
        return save(rollout, change, split)

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "save", die)
        with pytest.raises(KeyboardInterrupt):
            world.run(60)
    world.restart()
    world.run(2)
    assert [move.new for move in world.registry.history("purchase")] == [1, 2]
    assert world.control.describe(1)["champion"] == "moved"


def test_evidence_outlives_the_control(world):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    world.run(10)
    before = world.control.describe(1)
    other = SqlRolloutStore(build_engine(world.path))
    assert world.control.describe(1)["arms"] == before["arms"]
    assert other.find(1).state["errors"]["n_canary"] >= 150
    other.close()


def test_time_in_which_nothing_ran_does_not_count(world):
    world.start()
    world.run_until(1, "promoting")
    world.clock.now_s += 3600.0
    world.restart()
    world.run(5)
    assert world.control.describe(1)["phase"] == "promoting"
    (anew,) = [c for c in world.control.history(1) if "begins anew" in c["why"]]
    assert (anew["who"], anew["from"], anew["to"]) == ("controller", "promoting", "promoting")
    assert anew["why"] == "nothing ran for 3600 s: promoting begins anew"
    world.run_until(1, "succeeded", limit_s=10)


def test_a_version_that_starts_is_given_its_time_anew_after_nothing_ran(world):
    world.apps.stuck = {2}
    world.start()
    world.run(5)
    world.clock.now_s += 3600.0
    world.restart()
    world.apps.stuck = set()
    world.run_until(1, "progressing", limit_s=10)
    assert "failed" not in world.phases(1)


def test_what_was_counted_is_counted_once(world):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    revision, before = world.split.revision, world.control.describe(1)["arms"][1]["requests"]
    for _ in range(5):
        world.control.report(Report("gateway-1", revision, {1: count_requests(90), 2: count_requests(10)}))
    for _ in range(8):
        world.clock.now_s += 1.0
        world.control.tick()
    arms = world.control.describe(1)["arms"]
    assert arms[1]["requests"] - before == 50
    state = world.store.find(1).state
    assert state["errors"]["n_canary"] == arms[1]["requests"]


def test_reports_of_another_split_are_not_compared(world):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    world.run(3, rate=0)
    before = world.control.describe(1)["arms"]
    world.control.report(Report("gateway-1", world.split.revision - 1, {1: count_requests(500, 400)}))
    world.run(3, rate=0)
    assert world.control.describe(1)["arms"] == before


def test_gateways_that_do_not_follow_the_split_are_a_measurement_that_could_not_be_taken(world):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    old = world.split.revision - 1
    for _ in range(115):
        world.control.report(Report("gateway-7", old, {1: count_requests(5)}))
        world.run(1, rate=0)
    described = world.control.describe(1)
    assert described["phase"] == "rolled_back"
    assert f"Gateway gateway-7 still follows revision {old} of the split" in described["why"]


def test_no_traffic_is_no_trouble(world):
    world.start()
    world.run_until(1, "progressing", rate=0)
    world.run(300, rate=0)
    described = world.control.describe(1)
    assert described["phase"] == "progressing"
    assert described["verdicts"][0]["outcome"] == "inconclusive"


def test_the_store_is_written_when_there_is_something_to_keep_and_no_oftener(world, monkeypatch):
    world.start(plan=dataclasses.replace(SLOW_PLAN, metrics=(Metric("errors", 0.03, 0.1, interval_s=10.0),)))
    world.run_until(1, "progressing")
    world.run(2, rate=0)
    saves = []
    save = world.store.save
    monkeypatch.setattr(world.store, "save", lambda *args: saves.append(args) or save(*args))
    world.run(20, rate=0)
    assert len(saves) == 2
    saves.clear()
    world.run(20)
    assert 20 <= len(saves) <= 23
    assert all(split is None for _, _, split in saves)


def test_threads_may_command_and_tick_at_the_same_time(world):
    world.bring("progressing")
    done = threading.Event()

    def tick():
        n_ticks = 0
        while not done.is_set():
            world.clock.now_s += 0.01
            world.report(20)
            world.control.tick()
            n_ticks += 1
        return n_ticks

    def command():
        for what in ("pause", "resume") * 15:
            with contextlib.suppress(ConflictError):
                world.control.command(1, what, "Ada", "")

    with ThreadPoolExecutor(3) as pool:
        ticking, commanding = pool.submit(tick), [pool.submit(command) for _ in range(2)]
        wait(commanding)
        done.set()
        assert ticking.result() > 10
        assert [future.result() for future in commanding] == [None, None]
    told = [(change["from"], change["to"]) for change in world.control.history(1)]
    assert len(told) > 15
    assert all(left[1] == right[0] for left, right in pairwise(told))
    assert dump_split(world.split) == world.store.read_split("purchase")
