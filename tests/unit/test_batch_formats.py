"""Every format of input gives the same scores; a line that is no row is rejected alone."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest

from serve_app.core.errors import InvalidDataError
from tests.testing_kit.batch_jobs import LocalJob, make_rows, read_output, read_rejected, write_rows

pytestmark = pytest.mark.unit


def to_csv(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pacsv.write_csv(table, sink)
    return sink.getvalue().to_pybytes()


def to_json_lines(table: pa.Table) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in table.to_pylist())


@pytest.fixture
def expected(package, tmp_path) -> np.ndarray:
    write_rows(tmp_path / "reference", 1, 300)
    LocalJob(package, tmp_path / "reference", tmp_path / "expected").run()
    return read_output(tmp_path / "expected").column("probability").to_numpy()


@pytest.mark.parametrize(
    ("name", "encode"),
    [
        ("rows.csv", to_csv),
        ("rows.csv.gz", lambda t: gzip.compress(to_csv(t))),
        ("rows.jsonl", to_json_lines),
        ("rows.ndjson.gz", lambda t: gzip.compress(to_json_lines(t))),
        ("bom.csv", lambda t: b"\xef\xbb\xbf" + to_csv(t).replace(b"\n", b"\r\n")),
        ("no-last-newline.csv", lambda t: to_csv(t).rstrip(b"\n")),
    ],
)
def test_every_format_gives_the_same_scores(package, tmp_path, expected, name, encode):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(encode(make_rows(300)))
    summary = LocalJob(package, tmp_path / "in", tmp_path / "out").run()
    found = read_output(tmp_path / "out")
    assert (summary["rows_read"], summary["rows_planned"], summary["is_complete"]) == (300, None, True)
    assert np.array_equal(found.column("probability").to_numpy(), expected)
    assert [int(k) for k in found.column("order_id").to_pylist()] == list(range(300))


def test_blocks_do_not_change_the_rows(package, tmp_path, expected, monkeypatch):
    monkeypatch.setattr("batch.storage.text_rows.BLOCK_BYTES", 5_000)
    (tmp_path / "rows.csv").write_bytes(to_csv(make_rows(300)))
    job = LocalJob(package, tmp_path / "rows.csv", tmp_path / "out", chunk_rows=60)
    job.run()
    assert len(list((tmp_path / "out").glob("part-*"))) > 2
    assert np.array_equal(read_output(tmp_path / "out").column("probability").to_numpy(), expected)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_lines_that_are_no_rows_are_rejected_alone(package, tmp_path, kind):
    lines = (to_csv if kind == "csv" else to_json_lines)(make_rows(200)).splitlines(keepends=True)
    first = 1 if kind == "csv" else 0
    lines[first + 20] = b"garbage\n"
    lines[first + 121] = lines[first + 121].replace(b"121", b'121"', 1) if kind == "jsonl" else b"1,2,3\n"
    lines.insert(first + 50, b"\n")  # an empty line is no row
    path = tmp_path / f"rows.{kind}"
    path.write_bytes(b"".join(lines))
    summary = LocalJob(package, path, tmp_path / "out").run()
    assert (summary["rows_read"], summary["rows_scored"], summary["rows_rejected"]) == (200, 198, 2)
    rejected = read_rejected(tmp_path / "out")
    assert [r["row"] for r in rejected] == [20, 121]
    assert rejected[0]["content"] == "garbage"
    assert rejected[0]["column"] is None
    ids = [int(k) for k in read_output(tmp_path / "out").column("order_id").to_pylist()]
    assert ids == [k for k in range(200) if k not in {20, 121}]


def test_text_in_place_of_a_number_is_rejected_alone(package, tmp_path):
    lines = to_csv(make_rows(100)).splitlines(keepends=True)
    fields = lines[8].split(b",")
    fields[2] = b"cheap"
    lines[8] = b",".join(fields)
    (tmp_path / "rows.csv").write_bytes(b"".join(lines))
    assert LocalJob(package, tmp_path / "rows.csv", tmp_path / "out").run()["rows_rejected"] == 1
    (rejected,) = read_rejected(tmp_path / "out")
    assert rejected["row"] == 7
    assert "cheap" in rejected["reason"]


def test_a_text_file_goes_on_after_its_last_chunk(package, tmp_path, monkeypatch):
    monkeypatch.setattr("batch.storage.text_rows.BLOCK_BYTES", 7_000)
    lines = to_csv(make_rows(300)).splitlines(keepends=True)
    lines[31] = b"garbage\n"
    (tmp_path / "rows.csv").write_bytes(b"".join(lines))
    LocalJob(package, tmp_path / "rows.csv", tmp_path / "whole", chunk_rows=60).run()
    n_calls = 0

    async def die_once() -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 9:
            raise RuntimeError("killed")

    job = LocalJob(package, tmp_path / "rows.csv", tmp_path / "out", chunk_rows=60, before_predict=die_once)
    with pytest.raises(RuntimeError, match="killed"):
        job.score(0)
    assert len(job.output.commits()) > 0
    assert job.run()["rows_rejected"] == 1
    assert read_output(tmp_path / "out").equals(read_output(tmp_path / "whole"))
    assert read_rejected(tmp_path / "out") == read_rejected(tmp_path / "whole")


def test_a_gzip_file_that_was_cut_is_an_error_of_reading(package, tmp_path):
    (tmp_path / "in").mkdir()
    data = gzip.compress(to_csv(make_rows(300)))
    (tmp_path / "in" / "b.csv.gz").write_bytes(data[: len(data) // 2])
    (tmp_path / "in" / "a.csv").write_bytes(to_csv(make_rows(10)))
    job = LocalJob(package, tmp_path / "in", tmp_path / "out")
    job.score(0)
    with pytest.raises((OSError, EOFError, pa.ArrowException)):
        job.score(1)


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_an_empty_text_file_is_said(package, tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(InvalidDataError, match="the file is empty"):
        LocalJob(package, tmp_path / name, tmp_path / "out")


def test_files_that_are_no_rows_are_passed_over(package, tmp_path):
    write_rows(tmp_path / "in", 1, 50)
    (tmp_path / "in" / "_SUCCESS").touch()
    (tmp_path / "in" / "notes.txt").write_text("x")
    write_rows(tmp_path / "in" / "day=1", 1, 50)
    write_rows(tmp_path / "in" / "_old", 1, 50)
    assert LocalJob(package, tmp_path / "in", tmp_path / "out").run()["rows_scored"] == 100


def test_a_member_that_is_carried_along_keeps_its_type_and_booleans_in_numbers_are_read(package, tmp_path):
    rows = make_rows(100).to_pylist()
    for row in rows:
        row["is_weekend"] = bool(row["is_weekend"])
    rows[70]["order_id"] = "seventy"
    rows[71]["price"] = "5"
    (tmp_path / "rows.jsonl").write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    LocalJob(package, tmp_path / "rows.jsonl", tmp_path / "out").run()
    first, second = read_rejected(tmp_path / "out")
    assert (first["row"], first["column"], second["row"], second["column"]) == (70, None, 71, "price")
    assert "order_id must hold int64, got 'seventy'" in first["reason"]
    assert json.loads(second["content"]) == rows[71]
    assert read_output(tmp_path / "out").num_rows == 98
