"""What every RolloutStore keeps: all or nothing, in order, one active rollout a model, nothing lost to a race."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import sqlite3
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from serve_app.errors import ConflictError, InvariantError, NotFoundError, NotReadyError
from serve_app.notices.sql_outbox import SqlOutbox
from serve_app.rollouts.adapters import sql_store as rollout_store
from serve_app.rollouts.adapters.sql_store import SqlRolloutStore
from serve_app.rollouts.core.plan import DEFAULT_PLAN, dump_plan
from serve_app.rollouts.core.state import RolloutState, dump_state, parse_state
from serve_app.rollouts.service.ports import Rollout, RolloutChange, RolloutStore
from serve_app.scoring.core.split import Split, canary_arms, dump_split, only_arm
from serve_app.storage.sql_engine import build_engine

pytestmark = pytest.mark.contract

AT = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
STATE = RolloutState(7, 8, since_s=1000.5, why="ümlaut 🛒")


def new_rollout(model="purchase", canary=8):
    return Rollout(
        0, model, 7, canary, "canary", dump_plan(DEFAULT_PLAN), dump_state(STATE), "pending", -1, True, 1, 0, AT, AT
    )


def change(to="deploying", why="asked for", minutes=0):
    evidence = {"verdicts": [{"metric": "errors", "e_value": 1.5e-3}]}
    return RolloutChange(AT + timedelta(minutes=minutes), "Ada", "pending", to, why, evidence)


def split(revision, share=0.05):
    return dump_split(Split("purchase", 7, canary_arms(7, 8, share), revision))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "rollouts.db"


@pytest.fixture
def store(path):
    store = SqlRolloutStore(build_engine(path))
    yield store
    store.close()


def test_it_is_a_rollout_store(store):
    port: RolloutStore = store
    for name in ("create", "save", "find", "find_active", "recent", "history", "read_split", "write_split"):
        assert callable(getattr(port, name))


def test_what_was_stored_is_read_back_by_another_process(store, path):
    created = store.create(new_rollout(), change())
    assert created.id == 1
    other = SqlRolloutStore(build_engine(path))
    assert other.find(created.id) == other.find_active("purchase") == created
    assert other.history(created.id) == [change()]
    assert parse_state(other.find(created.id).state) == STATE
    other.close()


def test_times_keep_their_instant_and_come_back_in_utc(store):
    elsewhere = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    created = store.create(dataclasses.replace(new_rollout(), created_at=elsewhere), change())
    found = store.find(created.id).created_at
    assert found == AT
    assert found.tzinfo is UTC
    with pytest.raises(sa.exc.StatementError, match="has no zone"):
        store.save(dataclasses.replace(created, updated_at=AT.replace(tzinfo=None)))


def test_one_active_rollout_a_model(store):
    first = store.create(new_rollout(), change())
    with pytest.raises(
        ConflictError, match=r"purchase has an active rollout already: rollout 1 \(version 8, pending\)"
    ):
        store.create(new_rollout(canary=9), change())
    store.create(new_rollout("returns"), change())
    store.save(dataclasses.replace(first, is_active=False, phase="succeeded"))
    again = store.create(new_rollout(canary=9), change())
    assert store.find_active("purchase") == again
    assert [r.id for r in store.recent("purchase")] == [again.id, first.id]
    assert [r.id for r in store.recent("purchase", limit=1)] == [again.id]
    assert store.find_active("unknown") is None


def test_a_rollout_that_was_refused_leaves_nothing_behind(store):
    store.create(new_rollout(), change())
    with pytest.raises(ConflictError):
        store.create(new_rollout(), change())
    with store._read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(rollout_store._CHANGES)) == 1


def test_changes_are_told_in_order(store):
    rollout = store.create(new_rollout(), change("pending"))
    for k, phase in enumerate(["deploying", "progressing", "paused", "rolled_back"]):
        rollout = store.save(dataclasses.replace(rollout, phase=phase), change(phase, f"because {k}", -k))
    store.save(rollout)  # the state alone changed: nothing to tell
    told = store.history(rollout.id)
    assert [c.to_phase for c in told] == ["pending", "deploying", "progressing", "paused", "rolled_back"]
    assert told[-1].why == "because 3"
    assert told[0].evidence == change().evidence


def test_who_read_an_older_state_cannot_save(store):
    created = store.create(new_rollout(), change())
    saved = store.save(dataclasses.replace(created, step=1), change(), split(1))
    with pytest.raises(ConflictError, match=r"rollout 1 changed since it was read \(revision 2, not 1\)"):
        store.save(dataclasses.replace(created, step=2), change(), split(2))
    assert store.find(created.id) == saved
    assert len(store.history(created.id)) == 2
    assert store.read_split("purchase") == split(1)


def test_a_split_that_is_not_the_next_undoes_the_whole_save(store):
    created = store.create(new_rollout(), change())
    store.write_split(split(1))
    for revision in (1, 3, 0):
        with pytest.raises(ConflictError, match=f"the split of purchase is at revision 1; {revision} does not follow"):
            store.save(dataclasses.replace(created, step=3), change(), split(revision))
    assert store.find(created.id) == created
    assert len(store.history(created.id)) == 1
    saved = store.save(dataclasses.replace(created, step=3), change(), split(2, 0.25))
    assert store.find(created.id).step == saved.step == 3
    assert store.read_split("purchase") == split(2, 0.25)


def test_splits_of_models_do_not_touch_each_other(store):
    assert store.read_split("purchase") is None
    other = dump_split(Split("returns", 1, only_arm(1)))
    store.write_split(split(1))
    store.write_split(other)
    assert store.read_split("returns") == other
    with pytest.raises(ConflictError, match="is at revision 0; 2 does not follow"):
        store.write_split(dump_split(Split("third", 1, only_arm(1), 2)))


def test_what_is_not_there_is_named(store):
    for call in (store.find, store.history):
        with pytest.raises(NotFoundError, match="there is no rollout 42"):
            call(42)
    with pytest.raises(NotFoundError, match="there is no rollout 42"):
        store.save(dataclasses.replace(new_rollout(), id=42, revision=1))


def test_every_rollout_has_an_id_of_its_own_forever(store):
    ids = []
    for _ in range(3):
        rollout = store.create(new_rollout(), change())
        store.save(dataclasses.replace(rollout, is_active=False))
        ids.append(rollout.id)
    assert ids == [1, 2, 3]


def test_a_database_of_another_schema_is_refused(store, path):
    with store._write() as connection:
        connection.execute(rollout_store._SCHEMA.update().values(version=99))
    with pytest.raises(InvariantError, match="has schema 99; this scorecat reads 1"):
        SqlRolloutStore(build_engine(path))


def test_a_database_that_cannot_be_used_says_so_and_when_to_try_again(store, path):
    with pytest.raises(NotReadyError, match="cannot be used"):
        SqlRolloutStore(build_engine(path.parent))  # a directory
    impatient = SqlRolloutStore(build_engine(path, busy_timeout_s=0.05))
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    assert impatient.recent("purchase") == []  # readers do not wait for writers
    with pytest.raises(NotReadyError, match="database is locked") as caught:
        impatient.create(new_rollout(), change())
    assert caught.value.retry_after_s == 1.0
    blocker.execute("ROLLBACK")
    blocker.close()
    impatient.create(new_rollout(), change())
    impatient.close()


def test_what_was_answered_is_on_disk(store, path):
    with store._read() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert pragmas == ["wal", 2, 1]


def test_the_schema_is_plain_sql_for_postgresql():
    """The same tables, compiled for PostgreSQL: no autoincrement, no pragma, a unique column and not a trick."""
    dialect = postgresql.dialect()
    tables = rollout_store._METADATA.sorted_tables
    text = "\n".join(str(CreateTable(table).compile(dialect=dialect)) for table in tables)
    text += "\n".join(str(CreateIndex(i).compile(dialect=dialect)) for table in tables for i in table.indexes)
    assert "AUTOINCREMENT" not in text
    assert "UNIQUE (active_model)" in text
    assert text.count("SERIAL") == 2
    assert "TIMESTAMP WITH TIME ZONE" in text
    assert {str(c.type.compile(dialect)) for t in tables for c in t.columns} == {
        "INTEGER", "VARCHAR(16)", "VARCHAR(64)", "VARCHAR(256)", "TEXT", "JSON", "TIMESTAMP WITH TIME ZONE",
    }  # fmt: skip


def start_one(path, barrier, answers, canary):
    store = SqlRolloutStore(build_engine(path))  # the tables are made in the race too
    barrier.wait(30)
    try:
        answers.put(("started", store.create(new_rollout(canary=canary), change()).canary))
    except ConflictError as error:
        answers.put(("refused", str(error)))
    store.close()


def count_up(path, barrier, answers):
    store = SqlRolloutStore(build_engine(path))
    barrier.wait(30)
    done = 0
    while done < 20:
        rollout = store.find(1)
        count = rollout.state["count"]
        revision = (store.read_split("purchase") or {"revision": 0})["revision"]
        try:
            store.save(
                dataclasses.replace(rollout, state={"count": count + 1}), change(why=str(count)), split(revision + 1)
            )
            done += 1
        except ConflictError:
            continue
    answers.put(done)
    store.close()


def run_processes(target, n, path, *rest):
    context = multiprocessing.get_context("fork")  # each child opens its own database; none is open here
    barrier, answers = context.Barrier(n), context.Queue()
    processes = [context.Process(target=target, args=(path, barrier, answers, *r)) for r in (rest or [()] * n)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    return found


def test_of_two_processes_that_start_a_rollout_one_is_refused(path):
    answers = run_processes(start_one, 2, path, (8,), (9,))
    assert sorted(kind for kind, _ in answers) == ["refused", "started"]
    (canary,) = [detail for kind, detail in answers if kind == "started"]
    store = SqlRolloutStore(build_engine(path))
    assert store.find_active("purchase").canary == canary
    assert len(store.history(1)) == 1
    store.close()


def test_of_saves_that_race_none_is_lost_and_none_is_counted_twice(store, path):
    store.create(dataclasses.replace(new_rollout(), state={"count": 0}), change("pending"))
    store.close()
    assert run_processes(count_up, 2, path) == [20, 20]
    assert store.find(1).state == {"count": 40}
    assert [c.why for c in store.history(1)[1:]] == [str(k) for k in range(40)]
    assert store.read_split("purchase")["revision"] == 40


def test_a_record_of_the_database_is_what_the_split_file_holds(store, tmp_path):
    from serve_app.scoring.adapters.split_file import SplitFile

    store.write_split(split(1))
    SplitFile(tmp_path / "split.json").write(store.read_split("purchase"))
    assert json.loads((tmp_path / "split.json").read_text()) == split(1)


def test_what_a_webhook_is_to_be_told_is_stored_with_its_change_or_not_at_all(store, path):
    plan = {**dump_plan(DEFAULT_PLAN), "webhook": "https://hooks.example/x"}
    created = store.create(dataclasses.replace(new_rollout(), plan=plan), change())
    store.create(new_rollout("returns"), change())  # nobody to tell
    with pytest.raises(ConflictError):
        store.save(dataclasses.replace(created, revision=5), change("progressing"))
    store.save(created, change("progressing", "ready"))
    outbox = SqlOutbox(build_engine(path))
    first, second = outbox.waiting()
    assert [(n.url, n.event["to"], n.event["id"], n.n_attempts) for n in (first, second)] == [
        ("https://hooks.example/x", "deploying", 1, 0), ("https://hooks.example/x", "progressing", 3, 0),
    ]  # fmt: skip
    outbox.settle(first.id, "delivered", 2, "")
    outbox.settle(second.id, "waiting", 1, "it answered 500")
    assert [notice.n_attempts for notice in outbox.waiting()] == [1]
    assert [c.delivery for c in store.history(created.id)] == [
        "delivered after 2 attempts", "waiting after 1 attempt, it answered 500",
    ]  # fmt: skip
    outbox.settle(second.id, "undelivered", 5, "it answered 500")
    assert outbox.waiting() == []
    assert store.history(created.id)[1].delivery == "undelivered after 5 attempts, it answered 500"
    assert store.history(2)[0].delivery == ""
