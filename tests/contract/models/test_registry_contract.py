"""Every registry keeps the same promises, on a directory and on real object stores."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from serve_app.errors import BadRequestError, ConflictError, InvariantError, NotFoundError, PackageError
from serve_app.models.adapters.package_dir import check_files, load_manifest
from serve_app.models.adapters.registry_open import open_registry
from tests.contract.conftest import Place

pytestmark = pytest.mark.contract

N_MOVES = 12


@pytest.fixture
def registry(place):
    return place.open()


@pytest.fixture
def published(registry, package_dir):
    for _ in range(2):
        registry.publish("purchase", package_dir)
    return registry


def test_an_empty_registry_has_nothing_and_says_so(registry):
    assert registry.names() == []
    assert registry.versions("purchase") == []
    assert registry.aliases("purchase").versions == {}
    assert registry.history("purchase") == []
    assert registry.unfinished() == {}
    assert registry.clean("purchase", 0) == []
    with pytest.raises(NotFoundError, match=r"there is no (model purchase|registry) "):
        registry.resolve("purchase", "champion")


def test_a_version_is_checked_before_it_is_believed(published, package_dir):
    assert published.check("purchase", 2) == load_manifest(package_dir)
    with pytest.raises(NotFoundError, match="no version 9"):
        published.check("purchase", 9)


def test_versions_are_numbered_from_one_and_whole(registry, package_dir):
    assert [registry.publish("purchase", package_dir) for _ in range(3)] == [1, 2, 3]
    registry.publish("other", package_dir)
    assert registry.names() == ["other", "purchase"]
    assert registry.versions("purchase") == [1, 2, 3]
    assert registry.unfinished() == {}
    for version in (1, 2, 3):
        directory = registry.locate("purchase", version)
        check_files(directory, load_manifest(directory))
        assert registry.manifest("purchase", version) == load_manifest(package_dir)


def test_a_published_version_is_a_copy(registry, package_dir, tmp_path):
    source = shutil.copytree(package_dir, tmp_path / "source")
    version = registry.publish("purchase", source)
    (source / "model.cbm").write_bytes(b"overwritten")
    directory = registry.locate("purchase", version)
    check_files(directory, load_manifest(directory))


def test_a_torn_package_is_not_published(registry, package_dir, tmp_path):
    source = shutil.copytree(package_dir, tmp_path / "source")
    (source / "golden.parquet").write_bytes(b"PAR1")
    with pytest.raises(PackageError, match=r"golden\.parquet was altered"):
        registry.publish("purchase", source)
    assert registry.names() == []
    assert registry.unfinished() == {}


def test_another_client_sees_what_was_published_and_moved(published, place, tmp_path):
    published.move_alias("purchase", "champion", 2)
    other = place.open(cache=tmp_path / "other-cache")
    assert other.names() == ["purchase"]
    assert other.resolve("purchase", "champion") == 2
    assert other.aliases("purchase") == published.aliases("purchase")


def test_a_name_that_is_no_name_is_refused(registry, package_dir):
    calls = (
        lambda name: registry.publish(name, package_dir),
        registry.versions,
        lambda name: registry.locate(name, 1),
        lambda name: registry.manifest(name, 1),
        registry.aliases,
        registry.history,
        lambda name: registry.clean(name, 0),
        lambda name: registry.remove_alias(name, "beta"),
    )
    for name in ("", "Purchase", "../purchase", "a/b", "1", "ä"):
        for call in calls:
            with pytest.raises(BadRequestError, match="is no model name"):
                call(name)


def test_an_unknown_version_is_answered_with_the_known_ones(published):
    for call in (
        lambda: published.locate("purchase", 9),
        lambda: published.manifest("purchase", 9),
        lambda: published.resolve("purchase", "9"),
        lambda: published.move_alias("purchase", "champion", 9),
        lambda: published.open_stored("purchase", 9).__enter__(),
    ):
        with pytest.raises(NotFoundError, match=r"purchase has no version 9 in .*there: 1, 2"):
            call()
    with pytest.raises(NotFoundError, match=r"there is no model other in .*there: purchase"):
        published.resolve("other", "1")
    assert published.history("purchase") == []


def test_an_alias_stands_for_a_version(published):
    with pytest.raises(NotFoundError, match=r"no alias 'champion' \(there: none\)"):
        published.resolve("purchase", "champion")
    published.move_alias("purchase", "champion", 2)
    moved = published.move_alias("purchase", "challenger", 1)
    assert published.resolve("purchase", "champion") == 2
    assert published.resolve("purchase", "1") == 1
    assert moved == published.aliases("purchase")
    assert moved.versions == {"champion": 2, "challenger": 1}


def test_an_alias_that_is_no_alias_is_refused(published):
    for alias in ("", "1", "Champion", "a/b"):
        with pytest.raises(BadRequestError, match="is no alias"):
            published.move_alias("purchase", alias, 1)


def test_who_read_old_aliases_may_not_move_them(published):
    empty = published.aliases("purchase")
    first = published.move_alias("purchase", "champion", 1, expected=empty)
    with pytest.raises(ConflictError, match="read them again"):
        published.move_alias("purchase", "champion", 2, expected=empty)
    with pytest.raises(ConflictError, match="read them again"):
        published.remove_alias("purchase", "champion-old", expected=empty)
    assert published.aliases("purchase") == first
    assert len(published.history("purchase")) == 1


def test_who_read_before_a_move_there_and_back_may_not_move(published):
    seen = published.move_alias("purchase", "champion", 1)
    published.move_alias("purchase", "champion", 2)
    published.move_alias("purchase", "champion", 1)
    with pytest.raises(ConflictError):
        published.move_alias("purchase", "champion", 2, expected=seen)


def test_every_move_is_recorded_with_who_when_and_why(published, place):
    before = datetime.now(UTC)
    published.move_alias("purchase", "champion", 1, reason="first")
    place.open(by="ann@shop").move_alias("purchase", "champion", 2, reason="better in March: ROC-AUC 0.87 → 0.88")
    published.move_alias("purchase", "beta", 1)
    published.remove_alias("purchase", "beta", reason="no longer needed")
    moves = published.history("purchase")
    assert [(m.alias, m.old, m.new, m.by, m.reason) for m in moves] == [
        ("champion", None, 1, "tester@here", "first"),
        ("champion", 1, 2, "ann@shop", "better in March: ROC-AUC 0.87 → 0.88"),
        ("beta", None, 1, "tester@here", ""),
        ("beta", 1, None, "tester@here", "no longer needed"),
    ]
    times = [datetime.fromisoformat(m.at) for m in moves]
    assert times == sorted(times)
    assert all(t.utcoffset() is not None and abs((t - before).total_seconds()) < 60 for t in times)
    assert len({m.id for m in moves}) == 4
    assert published.aliases("purchase").versions == {"champion": 2}


def test_the_champion_cannot_be_deleted_and_an_alias_that_is_not_there_neither(published):
    published.move_alias("purchase", "champion", 1)
    with pytest.raises(BadRequestError, match="champion is what is served and cannot be deleted"):
        published.remove_alias("purchase", "champion")
    with pytest.raises(NotFoundError, match=r"no alias 'beta' \(there: champion\)"):
        published.remove_alias("purchase", "beta")
    assert len(published.history("purchase")) == 1


def test_a_long_history_moves_to_archives_and_stays_whole(published, monkeypatch):
    monkeypatch.setattr("serve_app.models.core.alias_log.KEPT_MOVES", 4)
    monkeypatch.setattr("serve_app.models.core.alias_log.ARCHIVED_MOVES", 2)
    for i in range(9):
        published.move_alias("purchase", "champion", 1 + i % 2, reason=str(i))
    assert [m.reason for m in published.history("purchase")] == [str(i) for i in range(9)]
    assert published.aliases("purchase").token == "9"
    assert published.versions("purchase") == [1, 2]
    assert published.unfinished() == {}


@pytest.mark.parametrize("text", ["", '{"revision": 1, "aliases": []}'])
def test_damaged_aliases_are_named_with_what_to_do_and_stay_as_they_are(published, place, text):
    write_behind(place, "purchase/aliases.json", text.encode())
    for call in (
        lambda: published.aliases("purchase"),
        lambda: published.history("purchase"),
        lambda: published.move_alias("purchase", "champion", 1),
        lambda: published.resolve("purchase", "champion"),
    ):
        with pytest.raises(InvariantError, match=r"aliases\.json is damaged: .*Restore it"):
            call()
    assert read_behind(place, "purchase/aliases.json") == text.encode()
    assert published.resolve("purchase", "1") == 1


def test_a_flipped_byte_in_the_store_is_found_and_named(published, place):
    path = "purchase/versions/2/model.cbm"
    data = bytearray(read_behind(place, path))
    data[len(data) // 2] ^= 1
    write_behind(place, path, bytes(data))
    with (
        pytest.raises(PackageError, match=r"purchase/versions/2/model\.cbm was altered"),
        published.open_stored("purchase", 2) as directory,
    ):
        check_files(directory, load_manifest(directory))
    with published.open_stored("purchase", 1) as directory:
        check_files(directory, load_manifest(directory))


@pytest.mark.parametrize("extra", [False, True])
def test_a_missing_and_an_extra_file_in_the_store_are_named(published, place, extra):
    if extra:
        write_behind(place, "purchase/versions/2/notes.txt", b"x")
    else:
        delete_behind(place, "purchase/versions/2/golden.parquet")
    text = (
        r"versions/2 has files that its manifest does not list: notes\.txt" if extra else r"golden\.parquet is missing"
    )
    with pytest.raises(PackageError, match=text), published.open_stored("purchase", 2) as directory:
        check_files(directory, load_manifest(directory))


# -- races, between processes ------------------------------------------------------------------


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield pool


def race(processes, target, place, folder, *arguments):
    """Run `target` in two processes that start together; return what each returned."""
    folder.mkdir()
    calls = [processes.submit(run_racer, target, place, folder, by, *arguments) for by in ("ann", "bob")]
    return [call.result(timeout=60) for call in calls]


def run_racer(target, place, folder, by, *arguments):
    os.environ.update(place.environment)
    registry = place.open(by=by)
    registry.versions("purchase")  # connected before the start
    (folder / by).touch()
    deadline = time.monotonic() + 30
    while len(list(folder.iterdir())) < 2:
        assert time.monotonic() < deadline, "the other process did not come"
    return target(registry, by, *arguments)


def move_many(registry, by):
    """Move the alias again and again to a version of one's own; return the tokens of accepted moves."""
    tokens = []
    for _ in range(N_MOVES):
        seen = registry.aliases("purchase")
        time.sleep(0.002)  # the window in which the other one may move
        with contextlib.suppress(ConflictError):
            moved = registry.move_alias("purchase", "champion", 1 if by == "ann" else 2, expected=seen)
            tokens.append((int(moved.token), by))
    return tokens


def test_of_two_processes_that_move_one_alias_each_move_wins_or_is_told_so(published, place, processes, tmp_path):
    ann, bob = race(processes, move_many, place, tmp_path / "race")
    accepted = sorted(ann + bob)
    assert len(accepted) < 2 * N_MOVES, "they never met"
    # the history is exactly the accepted moves, each once, in the order of their tokens
    assert [token for token, _ in accepted] == list(range(1, len(accepted) + 1))
    moves = published.history("purchase")
    assert [m.by for m in moves] == [by for _, by in accepted]
    assert len({m.id for m in moves}) == len(moves)
    chain = [None, *(m.new for m in moves)]
    assert [m.old for m in moves] == chain[:-1]
    assert published.aliases("purchase").versions == {"champion": chain[-1]}


def insist_many(registry, by):
    return [int(registry.move_alias("purchase", by, 1).token) for _ in range(N_MOVES)]


def test_of_two_processes_that_expect_nothing_no_move_is_lost(published, place, processes, tmp_path):
    ann, bob = race(processes, insist_many, place, tmp_path / "race")
    assert sorted(ann + bob) == list(range(1, 2 * N_MOVES + 1))
    assert sorted(m.alias for m in published.history("purchase")) == ["ann"] * N_MOVES + ["bob"] * N_MOVES
    assert published.aliases("purchase").versions == {"ann": 1, "bob": 1}


def publish_some(registry, _by, package):
    return [registry.publish("purchase", package) for _ in range(3)]


def test_two_processes_that_publish_get_distinct_numbers_and_whole_versions(
    registry, place, package_dir, processes, tmp_path
):
    ann, bob = race(processes, publish_some, place, tmp_path / "race", package_dir)
    assert sorted(ann + bob) == registry.versions("purchase") == [1, 2, 3, 4, 5, 6]
    assert registry.unfinished() == {}
    fresh = place.open(cache=tmp_path / "fresh")
    for number in ann + bob:
        directory = fresh.locate("purchase", number)
        check_files(directory, load_manifest(directory))


def test_threads_that_fetch_one_version_at_once_all_get_it_whole(published, place, tmp_path):
    cache = tmp_path / "shared-cache"
    registries = [open_registry(place.root, cache=cache) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda r: r.locate("purchase", 1), registries))
    assert len(set(found)) == 1
    check_files(found[0], load_manifest(found[0]))
    assert [p for p in found[0].parent.iterdir() if p.name.startswith(".")] == []


# -- behind the registry's back ----------------------------------------------------------------


def write_behind(place: Place, path: str, data: bytes) -> None:
    if place.kind == "directory":
        (Path(place.root) / path).write_bytes(data)
    else:
        filesystem, key = behind(place, path)
        with filesystem.open_output_stream(key) as file:
            file.write(data)


def read_behind(place: Place, path: str) -> bytes:
    if place.kind == "directory":
        return (Path(place.root) / path).read_bytes()
    filesystem, key = behind(place, path)
    with filesystem.open_input_stream(key) as file:
        return bytes(file.read())


def delete_behind(place: Place, path: str) -> None:
    if place.kind == "directory":
        (Path(place.root) / path).unlink()
    else:
        filesystem, key = behind(place, path)
        filesystem.delete_file(key)


def behind(place: Place, path: str):
    store = place.open()._store
    return store._filesystem(), store._key(path)
