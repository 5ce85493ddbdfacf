"""The split record is read whole or not at all, and written while the disk is full as long as there is a reserve."""

from __future__ import annotations

import errno
import os

import pytest

from serve_app.errors import InvariantError
from serve_app.scoring.adapters.split_file import SplitFile
from serve_app.storage.disk_reserve import HOLD_EVERY_S, DiskReserve

pytestmark = pytest.mark.unit


def test_before_a_split_was_written_there_is_none(tmp_path):
    assert SplitFile(tmp_path / "state" / "split.json").read() is None


def test_what_was_written_is_read_by_others(tmp_path):
    path = tmp_path / "state" / "split.json"
    reader = SplitFile(path)
    for revision in range(1, 6):
        record = {"model": "purchase", "stable": revision, "revision": revision}
        SplitFile(path).write(record)
        assert reader.read() == record
    assert [p.name for p in path.parent.iterdir()] == ["split.json"]


def test_an_unchanged_file_is_not_read_again(tmp_path):
    path = tmp_path / "split.json"
    SplitFile(path).write({"model": "purchase", "stable": 1})
    reader = SplitFile(path)
    assert reader.read() is reader.read()


def test_a_file_that_was_removed_is_no_record_any_more(tmp_path):
    path = tmp_path / "split.json"
    source = SplitFile(path)
    source.write({"model": "purchase", "stable": 1})
    assert source.read() is not None
    path.unlink()
    assert source.read() is None


def test_a_file_that_was_altered_in_place_is_read_again_whatever_its_time(tmp_path):
    path = tmp_path / "split.json"
    source = SplitFile(path)
    source.write({"model": "purchase", "stable": 1})
    assert source.read()["stable"] == 1
    before = path.stat()
    path.write_text(path.read_text().replace("1", "2"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert source.read()["stable"] == 2


def test_a_full_disk_takes_a_record_once_the_reserve_is_given_up(tmp_path, monkeypatch):
    now_s = 0.0
    reserve = DiskReserve(tmp_path / "reserve", 1000, clock=lambda: now_s)
    reserve.hold()
    sync = os.fsync

    def sync_unless_full(descriptor):
        if (tmp_path / "reserve").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync_unless_full)
    with pytest.raises(OSError, match="No space left"):
        SplitFile(tmp_path / "split.json").write({"model": "purchase", "stable": 1})
    assert [p.name for p in tmp_path.iterdir()] == ["reserve"]
    SplitFile(tmp_path / "split.json", reserve).write({"model": "purchase", "stable": 2})
    assert SplitFile(tmp_path / "split.json").read()["stable"] == 2
    reserve.hold()  # what was given up is not taken again at once
    assert not (tmp_path / "reserve").exists()
    now_s = HOLD_EVERY_S
    reserve.hold()
    assert (tmp_path / "reserve").stat().st_size == 1000


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"model": "m"}', '{"model": "m", "stable": "x"}', '{"model": "m", "stable": null}',
     '{"model": "m", "stable": Infinity}', "[" * 200_000, "\udc80"],
)  # fmt: skip
def test_a_damaged_file_is_named_every_time_and_forgotten_when_mended(tmp_path, text):
    path = tmp_path / "split.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    source = SplitFile(path)
    for _ in range(2):
        with pytest.raises(InvariantError, match=r"split\.json is not a split record"):
            source.read()
    source.write({"model": "purchase", "stable": 2})
    assert source.read()["stable"] == 2
