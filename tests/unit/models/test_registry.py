"""A registry shows whole versions only, and says clearly what it cannot do."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from serve_app.errors import BadRequestError, ConflictError, InvariantError, NotFoundError, PackageError
from serve_app.models.adapters import registry_folder as module
from serve_app.models.adapters.package_dir import check_files, load_manifest
from serve_app.models.adapters.registry_folder import DirectoryRegistry

pytestmark = pytest.mark.unit


@pytest.fixture
def registry(tmp_path):
    return DirectoryRegistry(tmp_path / "registry")


def left_over(registry):
    return [p.name for p in registry.root.rglob("*") if p.name.startswith(".")]


def test_versions_are_numbered_from_one(registry, package_dir):
    assert registry.names() == []
    assert registry.versions("purchase") == []
    assert [registry.publish("purchase", package_dir) for _ in range(3)] == [1, 2, 3]
    assert registry.versions("purchase") == [1, 2, 3]
    assert registry.names() == ["purchase"]
    assert left_over(registry) == []


def test_a_published_version_is_a_copy(registry, package_dir, tmp_path):
    source = shutil.copytree(package_dir, tmp_path / "source")
    directory = registry.locate("purchase", registry.publish("purchase", source))
    (source / "model.cbm").write_bytes(b"overwritten")
    check_files(directory, load_manifest(directory))


def test_a_torn_package_is_not_published(registry, package_dir, tmp_path):
    source = shutil.copytree(package_dir, tmp_path / "source")
    (source / "golden.parquet").write_bytes(b"PAR1")
    with pytest.raises(PackageError, match=r"golden\.parquet was altered"):
        registry.publish("purchase", source)
    assert registry.versions("purchase") == []
    assert not registry.root.exists()


def test_a_copy_that_fails_half_way_leaves_nothing_to_see(registry, package_dir, monkeypatch):
    registry.publish("purchase", package_dir)

    def copy_half(source, target):
        target.mkdir()
        shutil.copy(source / "model.cbm", target)
        assert registry.versions("purchase") == [1]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.shutil, "copytree", copy_half)
    with pytest.raises(BadRequestError, match=r"cannot publish into .*registry: No space left on device"):
        registry.publish("purchase", package_dir)
    assert registry.versions("purchase") == [1]
    assert left_over(registry) == []


def test_concurrent_publishers_get_distinct_numbers(registry, package_dir):
    n = 8
    start = threading.Barrier(n)

    def publish():
        start.wait()
        return registry.publish("purchase", package_dir)

    with ThreadPoolExecutor(n) as pool:
        numbers = [f.result() for f in [pool.submit(publish) for _ in range(n)]]
    assert sorted(numbers) == registry.versions("purchase") == list(range(1, n + 1))
    for number in numbers:
        directory = registry.locate("purchase", number)
        check_files(directory, load_manifest(directory))
    assert left_over(registry) == []


@pytest.mark.parametrize("blocked", ["registry", "registry/purchase", "registry/purchase/versions"])
def test_a_root_that_cannot_be_written_is_named(registry, package_dir, blocked, tmp_path):
    path = tmp_path / blocked
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a file in the way")
    with pytest.raises(BadRequestError, match=r"cannot publish into .*registry"):
        registry.publish("purchase", package_dir)


@pytest.mark.parametrize("name", ["", "Purchase", "../purchase", "a/b", "a b", "1", "-a", "a" * 64, "ä", "a\n"])
def test_a_name_that_is_no_name_is_refused(registry, package_dir, name):
    for call in (lambda: registry.publish(name, package_dir), lambda: registry.versions(name)):
        with pytest.raises(BadRequestError, match="is no model name"):
            call()


def test_an_unknown_version_is_answered_with_the_known_ones(registry, package_dir):
    with pytest.raises(NotFoundError, match=r"no version 1 .*there: none"):
        registry.locate("purchase", 1)
    registry.publish("purchase", package_dir)
    registry.publish("purchase", package_dir)
    with pytest.raises(NotFoundError, match=r"no version 9 .*there: 1, 2"):
        registry.resolve("purchase", "9")


def test_an_alias_stands_for_a_version(registry, package_dir):
    for _ in range(2):
        registry.publish("purchase", package_dir)
    assert registry.aliases("purchase").versions == {}
    with pytest.raises(NotFoundError, match=r"no alias 'champion' \(there: none\)"):
        registry.resolve("purchase", "champion")
    registry.move_alias("purchase", "champion", 2)
    assert registry.resolve("purchase", "champion") == 2
    assert registry.resolve("purchase", "1") == 1
    moved = registry.move_alias("purchase", "challenger", 1)
    assert moved == registry.aliases("purchase")
    assert moved.versions == {"champion": 2, "challenger": 1}
    assert left_over(registry) == []


def test_who_read_old_aliases_may_not_move_them(registry, package_dir):
    for _ in range(2):
        registry.publish("purchase", package_dir)
    empty = registry.aliases("purchase")
    first = registry.move_alias("purchase", "champion", 1, expected=empty)
    with pytest.raises(ConflictError, match="read them again"):
        registry.move_alias("purchase", "champion", 2, expected=empty)
    assert registry.aliases("purchase") == first
    assert registry.move_alias("purchase", "champion", 2, expected=first).versions == {"champion": 2}


def test_who_read_before_a_move_there_and_back_may_not_move(registry, package_dir):
    for _ in range(2):
        registry.publish("purchase", package_dir)
    seen = registry.move_alias("purchase", "champion", 1)
    registry.move_alias("purchase", "champion", 2)
    registry.move_alias("purchase", "champion", 1)
    with pytest.raises(ConflictError):
        registry.move_alias("purchase", "champion", 2, expected=seen)


@pytest.mark.parametrize("alias", ["", "1", "Champion", "a/b", "a b"])
def test_an_alias_that_is_no_alias_is_refused(registry, package_dir, alias):
    registry.publish("purchase", package_dir)
    with pytest.raises(BadRequestError, match="is no alias"):
        registry.move_alias("purchase", alias, 1)


def test_an_alias_never_stands_for_a_version_that_is_not_there(registry, package_dir):
    registry.publish("purchase", package_dir)
    with pytest.raises(NotFoundError):
        registry.move_alias("purchase", "champion", 2)
    assert registry.aliases("purchase").versions == {}


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"champion": "x"}', '{"champion": null}'])
def test_damaged_aliases_are_named_with_what_to_do(registry, package_dir, text):
    registry.publish("purchase", package_dir)
    (registry.root / "purchase" / "aliases.json").write_text(text)
    with pytest.raises(InvariantError, match=r"aliases\.json is damaged: .*Restore it"):
        registry.aliases("purchase")


def test_what_is_no_version_is_not_listed(registry, package_dir):
    registry.publish("purchase", package_dir)
    (registry.root / "purchase" / "versions" / ".staging-dead").mkdir()
    (registry.root / "purchase" / "versions" / "notes").mkdir()
    (registry.root / "stray").mkdir()
    assert registry.versions("purchase") == [1]
    assert registry.names() == ["purchase"]
