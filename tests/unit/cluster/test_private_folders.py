"""Folders whose content is believed are the user's own, or nothing starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serve_app.cluster.machine import make_private
from serve_app.errors import InvariantError

pytestmark = pytest.mark.unit


def test_a_folder_is_made_for_the_user_alone_and_taken_up_again(tmp_path):
    folder = tmp_path / "run"
    for _ in range(2):
        make_private(folder)
        assert folder.stat().st_mode & 0o777 == 0o700


def _open_to_others(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)


def _link(folder: Path) -> None:
    folder.with_name("elsewhere").mkdir(mode=0o700)
    folder.symlink_to(folder.with_name("elsewhere"))


@pytest.mark.parametrize("prepare", [_open_to_others, _link, Path.touch])
def test_what_others_could_have_made_is_refused(tmp_path, prepare):
    folder = tmp_path / "run"
    prepare(folder)
    with pytest.raises(InvariantError, match="run "):
        make_private(folder)


def test_a_folder_of_somebody_else_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    make_private(folder)
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(InvariantError, match="no folder of your own"):
        make_private(folder)


def test_a_place_where_no_folder_can_be_made_is_named(tmp_path):
    with pytest.raises(InvariantError, match="cannot be made"):
        make_private(tmp_path / "none" / "run")
