"""A package on disk is whole, or it is refused by the name of the file that is not."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from serve_app.errors import PackageError
from serve_app.models.adapters.package_dir import (
    FILES,
    GOLDEN,
    MANIFEST,
    VOCABULARIES,
    check_files,
    hash_file,
    load_manifest,
    load_package,
    load_parts,
)
from serve_app.models.catboost.scorer import CatBoostScorer

pytestmark = pytest.mark.unit


@pytest.fixture
def copy(tmp_path, package_dir):
    return shutil.copytree(package_dir, tmp_path / "copy")


def flip(path, at, bit=0):
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def test_a_package_is_the_same_after_it_was_read(package, package_dir):
    again = load_package(package_dir, CatBoostScorer.load)
    assert again.manifest == package.manifest
    assert again.golden.equals(package.golden)
    assert again.reference.equals(package.reference)
    assert again.vocabularies == package.vocabularies
    assert sorted(p.name for p in package_dir.iterdir()) == sorted([*FILES, MANIFEST])


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_byte_is_caught_and_the_file_named(copy, name):
    size = (copy / name).stat().st_size
    manifest = load_manifest(copy)
    for at in sorted({0, size - 1, size // 2, *range(0, size, max(1, size // 150))}):
        flip(copy / name, at, at % 8)
        with pytest.raises(PackageError, match=rf"{name} was altered"):
            check_files(copy, manifest)
        flip(copy / name, at, at % 8)
    check_files(copy, manifest)


def test_any_flipped_byte_of_the_manifest_is_caught(copy, package):
    path = copy / MANIFEST
    missed = []
    for at in range(0, path.stat().st_size, 17):
        flip(path, at, 1)
        try:
            check_files(copy, load_manifest(copy))
        except PackageError:
            pass
        else:
            missed.append(path.read_bytes()[max(0, at - 20) : at + 20])
        flip(path, at, 1)
    assert missed == [], f"{len(missed)} altered manifests were accepted, the first near {missed[0]!r}"


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    for load in (load_parts, lambda d: load_package(d, CatBoostScorer.load)):
        with pytest.raises(PackageError, match=rf"{name} is missing: the package is torn"):
            load(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_is_named(copy, name):
    data = (copy / name).read_bytes()
    for size in (0, len(data) // 2, len(data) - 1):
        (copy / name).write_bytes(data[:size])
        with pytest.raises(PackageError, match=rf"{name} was altered or cut short"):
            load_parts(copy)


def test_a_directory_without_manifest_is_no_package(copy, tmp_path):
    (copy / MANIFEST).unlink()
    for directory in (copy, tmp_path / "nowhere"):
        with pytest.raises(PackageError, match=r"manifest\.json cannot be read: No such file"):
            load_parts(directory)


@pytest.mark.parametrize("name", FILES)
def test_a_manifest_that_does_not_list_a_file_is_refused(copy, name):
    manifest = load_manifest(copy)
    others = {n: digest for n, digest in manifest.files.items() if n != name}
    (copy / MANIFEST).write_bytes(dataclasses.replace(manifest, files=others).dump())
    with pytest.raises(PackageError, match=rf"does not list {name}"):
        load_parts(copy)


def test_a_package_is_its_own_files_and_no_others(copy, tmp_path):
    manifest = load_manifest(copy)
    foreign = {**manifest.files, str(tmp_path / "other"): "0" * 64}
    (copy / MANIFEST).write_bytes(dataclasses.replace(manifest, files=foreign).dump())
    with pytest.raises(PackageError, match="which is no file of a package"):
        load_parts(copy)
    (copy / MANIFEST).write_bytes(manifest.dump())
    (copy / GOLDEN).rename(tmp_path / GOLDEN)
    (copy / GOLDEN).symlink_to(tmp_path / GOLDEN)
    with pytest.raises(PackageError, match=r"golden\.parquet is missing"):
        load_parts(copy)


@pytest.mark.parametrize(
    "vocabularies", ["[]", "null", '{"brand": null}', '{"brand": [1]}', "[" * 100_000], ids=range(5)
)
def test_vocabularies_that_are_none_are_said_to_be(copy, vocabularies):
    (copy / VOCABULARIES).write_text(vocabularies)
    manifest = load_manifest(copy)
    files = {**manifest.files, VOCABULARIES: hash_file(copy / VOCABULARIES)}
    (copy / MANIFEST).write_bytes(dataclasses.replace(manifest, files=files).dump())
    with pytest.raises(PackageError, match="is not readable"):
        load_parts(copy)


@pytest.mark.parametrize("files", [None, [], {}, "x"])
def test_a_manifest_without_hashes_is_refused(copy, files):
    value = json.loads((copy / MANIFEST).read_bytes())
    (copy / MANIFEST).write_text(json.dumps({**value, "files": files}))
    with pytest.raises(PackageError):
        load_parts(copy)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    for data in (b"", b"not a model", b"CBM1" + b"\0" * 64):
        (tmp_path / "model.cbm").write_bytes(data)
        with pytest.raises(PackageError, match=r"model\.cbm is not a readable CatBoost model"):
            CatBoostScorer.load(tmp_path / "model.cbm")
