"""Writers that meet, die or run out of room: no event is lost, none counts twice, everybody else goes on."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sqlite3
import threading
from pathlib import Path

import pytest
import redis

from serve_app.errors import InvariantError, NotReadyError, UnknownOutcomeError
from serve_app.features.core.specs import HISTORY_NAMES
from serve_app.history.adapters import redis_state
from serve_app.privacy.secret_file import load_state_secret
from serve_app.storage import sqlite_connections
from tests.testing_kit.history.history_logs import NOON_S
from tests.testing_kit.history.state_places import NAMES, Clock, StatePlace, scored_row, shop_event

pytestmark = pytest.mark.contract

N_WRITERS = 4
N_EVENTS = 10_000
BATCH = 50


def some_events(first, n, **changes):
    return [shop_event(k, session_id=f"s{k % 7}", product_id=f"p{k % 30}", **changes) for k in range(first, first + n)]


def total_of(place, **changes):
    found = place.history(Clock(NOON_S + N_EVENTS)).lookup([scored_row(session_id="s0", **changes)])
    features = dict(zip(HISTORY_NAMES, found.features[:, 0].tolist(), strict=True))
    return {"sessions": features["total_sessions"], "events": features["total_events_y"]}


def write_share(place, barrier, answers, share):
    """Record every fourth batch, and say what became of the events; writers that meet wait and are not refused."""
    history = place.history(Clock(NOON_S + N_EVENTS))  # the tables are made in the race too
    barrier.wait(60)
    counted = {"recorded": 0, "duplicate": 0}
    for first in range(share * BATCH, N_EVENTS, N_WRITERS * BATCH):
        for outcome in history.record(some_events(first, BATCH)):
            counted[outcome.status] += 1
        if first // BATCH // N_WRITERS == 10:
            answers.put("half-way")
    answers.put(counted)


def test_of_four_writers_of_one_user_one_is_killed_and_no_event_is_lost_or_counted_twice(real_state_place):
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(N_WRITERS), context.Queue()
    place = StatePlace(real_state_place.kind, real_state_place.place)  # nothing that is open crosses the fork
    victim_answers = context.Queue()
    writers = [
        context.Process(
            target=write_share, args=(place, barrier, answers if share else victim_answers, share), daemon=True
        )
        for share in range(N_WRITERS)
    ]
    for writer in writers:
        writer.start()
    assert victim_answers.get(timeout=60) == "half-way"
    os.kill(writers[0].pid, signal.SIGKILL)
    writers[0].join(30)
    assert writers[0].exitcode == -signal.SIGKILL
    counts = [
        answer for answer in (answers.get(timeout=120) for _ in range(2 * (N_WRITERS - 1))) if answer != "half-way"
    ]
    for writer in writers[1:]:
        writer.join(30)
        assert writer.exitcode == 0
    assert counts == [{"recorded": N_EVENTS // N_WRITERS, "duplicate": 0}] * (N_WRITERS - 1)
    # Whole batches of the one that was killed are stored, or nothing of them.
    n_stored = total_of(place)["events"] - 1 - sum(c["recorded"] for c in counts)
    assert n_stored % BATCH == 0
    assert 11 * BATCH <= n_stored < N_EVENTS // N_WRITERS
    again = context.SimpleQueue()
    write_share(place, context.Barrier(1), again, 0)
    assert again.get() == "half-way"
    assert again.get() == {"recorded": N_EVENTS // N_WRITERS - n_stored, "duplicate": n_stored}
    assert total_of(place) == {"sessions": 7, "events": N_EVENTS + 1}


def test_threads_share_one_store(real_state_place):
    history = real_state_place.history(Clock(NOON_S + N_EVENTS))
    errors = []

    def work(share):
        try:
            for first in range(share * BATCH, 1000, 4 * BATCH):
                history.record(some_events(first, BATCH))
                history.lookup([scored_row()] * 5)
        except Exception as exc:  # noqa: BLE001 whatever it is, the test has to know
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(share,)) for share in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert total_of(real_state_place)["events"] == 1001


def grow(history, n_batches=200):
    """Record until there is no room; return the number of events that were confirmed."""
    n = 0
    for k in range(n_batches):
        events = [shop_event(10**6 + j, user_id=f"u{j}", time_s=NOON_S) for j in range(k * 100, k * 100 + 100)]
        history.record(events)
        n += 100
    return n


def test_a_full_database_says_so_keeps_what_it_has_and_goes_on_once_there_is_room(sqlite_place):
    history = sqlite_place.history()
    history.record([shop_event(k) for k in range(5)])
    with history._store._connections.transaction("write") as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 5}")
    with pytest.raises(NotReadyError, match=r"database or disk is full.*free space.*nothing of this call is stored"):
        grow(history)
    assert total_of(sqlite_place) == {"sessions": 2, "events": 6}
    assert [o.status for o in history.record([shop_event(k) for k in range(7)])] == ["duplicate"] * 5 + ["recorded"] * 2
    assert total_of(sqlite_place)["events"] == 8


def test_a_disk_that_takes_no_more_bytes_says_so_and_is_written_again_once_it_does(sqlite_place):
    history = sqlite_place.history()
    history.record([shop_event(k) for k in range(5)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    try:
        with pytest.raises(NotReadyError, match=r"cannot be written .*free space on its disk"):
            grow(history)
        assert total_of(sqlite_place) == {"sessions": 2, "events": 6}  # who only reads goes on
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert grow(history, 20) == 2000
    assert total_of(sqlite_place) == {"sessions": 2, "events": 6}
    with sqlite3.connect(sqlite_place.place) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_full_redis_says_so_keeps_what_it_has_and_goes_on_once_there_is_room(redis_place):
    history, client = redis_place.history(), redis_place.server.client()
    history.record([shop_event(k) for k in range(5)])
    client.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(NotReadyError, match=r"cannot be (written|used)"):
            grow(history)
        assert total_of(redis_place) == {"sessions": 2, "events": 6}
    finally:
        client.config_set("maxmemory", "0")
        client.close()
    assert [o.status for o in history.record([shop_event(4), shop_event(5)])] == ["duplicate", "recorded"]
    assert total_of(redis_place)["events"] == 7


def test_a_redis_that_became_a_replica_is_read_and_says_that_it_cannot_be_written(redis_place):
    history, client = redis_place.history(), redis_place.server.client()
    history.record([shop_event()])
    client.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(NotReadyError, match=r"cannot be written: .*read only replica.*; nothing is stored"):
            history.record([shop_event(1)])
        assert total_of(redis_place)["events"] == 2
    finally:
        client.replicaof("NO", "ONE")
        client.close()
    assert history.record([shop_event(1)])[0].status == "recorded"


@pytest.mark.parametrize("place", ["", "Error running script (call to f_9): @user_script:20: @user_script: 20: -"])
@pytest.mark.parametrize(
    ("refusal", "kind", "message"),
    [
        ("OOM command not allowed", NotReadyError, "cannot be written: OOM command not allowed; nothing is stored"),
        ("READONLY You can't write", NotReadyError, "cannot be written: READONLY You can't write; nothing is stored"),
        ("MISCONF Errors writing", NotReadyError, "cannot be used now: MISCONF Errors writing"),
        ("WRONGTYPE Operation", InvariantError, "refused a command: WRONGTYPE Operation"),
    ],
)
def test_a_refusal_is_understood_in_a_script_too_where_redis_before_7_says_its_place_first(
    place, refusal, kind, message
):
    with pytest.raises(kind, match=rf"^the state in Redis {message}$"), redis_state._translated():
        raise redis.ResponseError(place + refusal)


def test_what_redis_confirmed_survives_its_death_and_clients_find_it_again(redis_place):
    history, server = redis_place.history(), redis_place.server
    history.record([shop_event(k) for k in range(5)])
    server.stop(kill=True)
    try:
        with pytest.raises(NotReadyError, match="cannot be reached"):
            history.record([shop_event(5)])
        with pytest.raises(NotReadyError, match="cannot be reached"):
            history.lookup([scored_row()])
    finally:
        server.start()
    assert total_of(redis_place)["events"] == 6
    assert history.record([shop_event(5)])[0].status == "recorded"


def test_a_redis_that_is_lost_while_it_writes_leaves_open_whether_it_did_and_before_that_it_did_not(
    redis_place, monkeypatch
):
    history, pid = redis_place.history(answer_timeout_s=0.2), redis_place.server.pid
    try:
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(NotReadyError, match="cannot be reached") as refused:
            history.record([shop_event(event_id=None)])
        os.kill(pid, signal.SIGCONT)
        assert type(refused.value) is NotReadyError
        assert total_of(redis_place)["events"] == 1  # the row that is looked up
        apply = history._store._apply_script

        def stall(**arguments):
            os.kill(pid, signal.SIGSTOP)
            return apply(**arguments)

        monkeypatch.setattr(history._store, "_apply_script", stall)
        with pytest.raises(UnknownOutcomeError, match="not known whether this was stored"):
            history.record([shop_event(1)])
    finally:
        os.kill(pid, signal.SIGCONT)
    monkeypatch.setattr(history._store, "_apply_script", apply)
    assert history.record([shop_event(1)])[0].status == "duplicate"
    assert total_of(redis_place)["events"] == 2


def move_state(place, folder, *endings):
    folder.mkdir()
    for ending in endings:
        Path(place.place + ending).rename(folder / ("history.db" + ending))


def test_a_file_that_was_moved_away_is_noticed_by_writers_and_readers_that_had_it_open(sqlite_place, tmp_path):
    writer, reader = sqlite_place.history(), sqlite_place.history()
    writer.record([shop_event(), shop_event(1)])
    assert reader.lookup([scored_row()]).features[0, 0] == 3
    move_state(sqlite_place, tmp_path / "away", "", "-wal", "-shm")
    assert not reader.lookup([scored_row()]).is_found[0]
    assert writer.record([shop_event(1)])[0].status == "recorded"
    assert reader.lookup([scored_row()]).features[0, 0] == 2
    writer.close()
    reader.close()
    assert total_of(sqlite_place)["events"] == 2
    assert total_of(StatePlace("sqlite", str(tmp_path / "away" / "history.db")))["events"] == 3  # nothing went astray


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_file_that_went_without_its_log_is_not_opened_anew_before_that_is_gone_too(
    sqlite_place, tmp_path, is_replaced
):
    history, other = sqlite_place.history(), StatePlace("sqlite", str(tmp_path / "other" / "history.db"))
    history.record([shop_event()])
    copy = other.history()
    copy.record([shop_event(7), shop_event(8)])
    copy.close()
    move_state(sqlite_place, tmp_path / "away", "")
    if is_replaced:
        Path(other.place).rename(sqlite_place.place)
    for _ in range(2):
        for call in (lambda: history.record([shop_event(1)]), lambda: history.lookup([scored_row()])):
            with pytest.raises(NotReadyError, match="move these away too"):
                call()
    if not is_replaced:  # a process that starts now
        with pytest.raises(NotReadyError, match="move these away too"):
            sqlite_place.open()
    move_state(sqlite_place, tmp_path / "too", "-wal", "-shm")
    assert history.record([shop_event(1)])[0].status == "recorded"
    assert total_of(sqlite_place)["events"] == (4 if is_replaced else 2)


def test_a_damaged_file_is_not_ready_until_it_was_moved_away(sqlite_place, tmp_path):
    history = sqlite_place.history()
    history.record([shop_event(k) for k in range(200)])
    history.close()
    size = Path(sqlite_place.place).stat().st_size
    Path(sqlite_place.place).write_bytes(b"no database at all " * (size // 19))
    for call in (lambda: history.record([shop_event()]), lambda: history.lookup([scored_row()])):
        with pytest.raises(NotReadyError, match=r"is damaged .*: move it away") as caught:
            call()
        assert caught.value.retry_after_s == 10
    move_state(sqlite_place, tmp_path / "away", "")
    assert history.record([shop_event()])[0].status == "recorded"


def test_a_redis_that_was_emptied_belongs_to_the_secret_that_writes_first(redis_place):
    history, client = redis_place.history(), redis_place.server.client()
    history.record([shop_event()])
    client.flushall()
    assert history.record([shop_event()])[0].status == "recorded"
    assert total_of(redis_place)["events"] == 2
    with pytest.raises(InvariantError, match="written under another secret"):
        redis_place.open(b"another secret's check")
    client.flushall()
    client.close()
    redis_place.open(b"another secret's check")
    with pytest.raises(InvariantError, match="written under another secret"):
        history.record([shop_event()])


def test_a_disk_that_fails_to_keep_what_was_written_leaves_open_whether_it_is_stored(sqlite_place):
    history = sqlite_place.history()
    failed = sqlite3.OperationalError("disk I/O error")
    failed.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    with (
        pytest.raises(UnknownOutcomeError, match="not known whether this call is stored"),
        history._store._connections.transaction("write"),
    ):
        raise failed


def test_a_writer_that_waits_too_long_says_so_while_readers_go_on(sqlite_place, monkeypatch):
    monkeypatch.setattr(sqlite_connections, "BUSY_TIMEOUT_S", 0.05)
    history = sqlite_place.history()
    history.record([shop_event()])
    blocker = sqlite3.connect(sqlite_place.place, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(NotReadyError, match="database is locked") as caught:
        history.record([shop_event(1)])
    assert caught.value.retry_after_s == 1.0
    assert history.lookup([scored_row()]).features[0, 0] == 2
    blocker.execute("ROLLBACK")
    blocker.close()
    assert history.record([shop_event(1)])[0].status == "recorded"


def test_a_batch_that_always_meets_others_gives_up_and_stores_nothing(redis_place, monkeypatch):
    history, other = redis_place.history(contend_timeout_s=0.05), redis_place.history()
    apply, n = history._store._apply, iter(range(10**6))

    def late(change):
        other.record([shop_event(next(n), event_id=None)])
        return apply(change)

    monkeypatch.setattr(history._store, "_apply", late)
    with pytest.raises(NotReadyError, match="others wrote the same users all the time"):
        history.record([shop_event(1)])
    monkeypatch.undo()
    assert history.record([shop_event(1)])[0].status == "recorded"


def test_a_session_that_got_an_event_while_it_was_to_be_forgotten_stays(redis_place, monkeypatch):
    history, other = redis_place.history(), redis_place.history()
    history.record([shop_event(0), shop_event(1, user_id="ben")])
    store = history._store
    read, once = store._read, iter([True])

    def late(keys):
        if next(once, False):
            other.record([shop_event(200)])
        return read(keys)

    monkeypatch.setattr(store, "_read", late)
    assert store.forget(NOON_S + 100) == 1
    assert total_of(redis_place)["events"] == 3
    assert total_of(redis_place, user_id="ben")["events"] == 1


def test_a_state_that_was_damaged_is_named_and_harms_no_other_user(real_state_place):
    history = real_state_place.history()
    history.record([shop_event(), shop_event(1, user_id="ben")])
    anna = NAMES.user("anna")
    if real_state_place.server is None:
        with history._store._connections.transaction("write") as connection:
            connection.execute("UPDATE users SET state = x'00' WHERE key = ?", (anna,))
    else:
        client = real_state_place.server.client()
        client.set(b"scorecat:state:u:" + anna, b"\0")
        client.close()
    for call in (lambda: history.record([shop_event(2)]), lambda: history.lookup([scored_row()])):
        with pytest.raises(InvariantError, match="stored state of a user is damaged"):
            call()
    assert total_of(real_state_place, user_id="ben")["events"] == 2
    history.erase("anna")
    assert total_of(real_state_place)["events"] == 1


def make_secret(path, barrier, answers):
    barrier.wait(30)
    answers.put(load_state_secret(path))


def test_processes_that_start_together_agree_on_one_secret(tmp_path):
    context = multiprocessing.get_context("fork")
    path = tmp_path / "state" / "secret"
    barrier, answers = context.Barrier(4), context.Queue()
    processes = [context.Process(target=make_secret, args=(path, barrier, answers)) for _ in range(4)]
    for process in processes:
        process.start()
    found = {answers.get(timeout=30) for _ in processes}
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert found == {load_state_secret(path)}
    assert len(found.pop()) == 32
    assert [p.name for p in path.parent.iterdir()] == ["secret"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "secret", "00" * 15])
def test_a_file_that_holds_no_secret_is_not_overwritten(tmp_path, text):
    path = tmp_path / "secret"
    path.write_text(text)
    with pytest.raises(InvariantError, match="holds no secret of at least 16 bytes in hex"):
        load_state_secret(path)
    assert path.read_text() == text
    with pytest.raises(NotReadyError, match="cannot be used"):
        load_state_secret(path / "below")
