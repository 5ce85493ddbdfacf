"""A root says which registry it is, and what it cannot be is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.errors import BadRequestError
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.models.adapters.registry_open import open_registry

pytestmark = pytest.mark.unit


def test_a_path_is_a_directory_registry(tmp_path):
    for root in (tmp_path, str(tmp_path)):
        registry = open_registry(root)
        assert isinstance(registry, DirectoryRegistry)
        assert registry.where == str(tmp_path)


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_the_url_of_a_bucket_is_a_store_registry_and_needs_no_network_yet(scheme, tmp_path):
    assert open_registry(f"{scheme}://bucket/models/", cache=tmp_path).where == f"{scheme}://bucket/models"
    assert open_registry(f"{scheme}://bucket", cache=tmp_path).where == f"{scheme}://bucket"


@pytest.mark.parametrize("root", ["http://bucket/x", "s3://", "s3:///x", "://x", "file:///tmp", "S3://bucket"])
def test_another_url_is_refused_with_the_forms_there_are(root, tmp_path):
    with pytest.raises(BadRequestError, match=r"is no registry \(SCORECAT_REGISTRY\): use a directory, s3://bucket"):
        open_registry(root, cache=tmp_path)


@pytest.mark.parametrize(("scheme", "module", "extra"), [("s3", "boto3", "s3"), ("gs", "google.cloud", "gcs")])
def test_a_library_that_is_not_installed_is_named_with_the_extra(scheme, module, extra, tmp_path, monkeypatch):
    for name in list(sys.modules):
        if name.startswith((f"serve_app.storage.{extra}_store", module)):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BadRequestError, match=rf"not installed: pip install 'scorecat\[{extra}\]'"):
        open_registry(f"{scheme}://bucket/models", cache=tmp_path)


AS_NOBODY = """
import os, sys
from pathlib import Path
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.errors import ScorecatError
registry, package = DirectoryRegistry(Path(sys.argv[1])), Path(sys.argv[2])
if os.getuid() == 0:
    os.seteuid(65534)  # root may write anywhere
for call in (
    lambda: registry.publish("purchase", package),
    lambda: registry.move_alias("purchase", "champion", 1),
    lambda: print(registry.aliases("purchase").versions),
):
    try:
        call()
    except ScorecatError as error:
        print(type(error).__name__, error)
"""


def test_a_root_that_may_only_be_read_is_read_and_otherwise_named(tmp_path, package_dir):
    registry = DirectoryRegistry(tmp_path / "registry")
    registry.move_alias("purchase", "beta", registry.publish("purchase", package_dir))
    before = {path: path.read_bytes() for path in registry.root.rglob("*") if path.is_file()}
    folders = [registry.root, *(path for path in registry.root.rglob("*") if path.is_dir())]
    open_up = [p for p in (*tmp_path.parents, tmp_path, *package_dir.parents, package_dir) if str(p).count("/") > 1]
    modes = {path: path.stat().st_mode for path in (*folders, *open_up)}
    try:
        for path in open_up:
            path.chmod(0o755)
        for path in folders:
            path.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(registry.root), str(package_dir)],
            cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True, env={**os.environ},
        )  # fmt: skip
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    publish, move, read = done.stdout.splitlines()
    assert publish == f"BadRequestError cannot publish into {registry.root}: Permission denied"
    assert move == (
        f"BadRequestError cannot write {registry.root}/purchase/aliases.json: Permission denied; nothing was changed"
    )
    assert read == "{'beta': 1}"
    assert {path: path.read_bytes() for path in registry.root.rglob("*") if path.is_file()} == before
