"""The split record is read whole, and the last known one outlives its file."""

from __future__ import annotations

import pytest

from serve_app.adapters.split_file import SplitFile
from serve_app.core.errors import InvariantError

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


def test_a_file_that_was_removed_leaves_the_last_known_split(tmp_path):
    path = tmp_path / "split.json"
    source = SplitFile(path)
    source.write({"model": "purchase", "stable": 1})
    known = source.read()
    path.unlink()
    assert source.read() == known


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"model": "m"}', '{"model": "m", "stable": "x"}', '{"model": "m", "stable": null}'],
)
def test_a_damaged_file_is_named_every_time_and_forgotten_when_mended(tmp_path, text):
    path = tmp_path / "split.json"
    path.write_text(text)
    source = SplitFile(path)
    for _ in range(2):
        with pytest.raises(InvariantError, match=r"split\.json is not a split record"):
            source.read()
    source.write({"model": "purchase", "stable": 2})
    assert source.read()["stable"] == 2
