"""Every format of input gives the same scores; a line that is no row is rejected alone."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.fs as pafs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batch.storage.lines import find_first_end, find_record_ends, read_blocks
from batch.storage.text_rows import TextRows
from serve_app.errors import InvalidDataError
from serve_app.features.core.specs import FeatureSpec
from tests.testing_kit.batch.batch_jobs import LocalJob, make_rows, read_output, read_rejected, write_rows

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


def write_notes(path, notes: list[str], ragged: dict[int, bytes] | None = None) -> None:
    """Rows whose last column is a text, as CSV; some records replaced."""
    table = make_rows(len(notes)).append_column("note", pa.array(notes))
    header = b",".join(name.encode() for name in table.column_names) + b"\n"
    records = []
    for k, row in enumerate(table.to_pylist()):
        fields = ["" if v is None else str(v) for name, v in row.items() if name != "note"]
        text = row["note"]
        quoted = text if text.startswith("RAW") else '"' + text.replace('"', '""') + '"'
        records.append((ragged or {}).get(k, (",".join(fields) + "," + quoted.removeprefix("RAW") + "\n").encode()))
    path.write_bytes(header + b"".join(records))


NOTES = [
    "two\nlines", 'a "quoted" word\n', "\n1,2,3\n", '""', '",\n"', "plain", 'RAW17" screen', 'RAWa"b"c"', "\r\n", ""
] * 30  # fmt: skip


@pytest.mark.parametrize("n_bytes", [300, 1_000, 4_999])
def test_a_block_ends_at_a_record_whatever_is_in_quotes(package, tmp_path, monkeypatch, n_bytes):
    monkeypatch.setattr("batch.storage.text_rows.BLOCK_BYTES", n_bytes)
    write_notes(tmp_path / "rows.csv", NOTES)
    summary = LocalJob(package, tmp_path / "rows.csv", tmp_path / "out").run()
    assert (summary["rows_scored"], summary["rows_rejected"]) == (300, 0)
    found = read_output(tmp_path / "out")
    assert found.column("order_id").to_pylist() == [str(k) for k in range(300)]
    assert found.column("note").to_pylist() == [n.removeprefix("RAW") for n in NOTES]


def test_a_ragged_record_does_not_cut_the_values_of_others(package, tmp_path):
    inside = ",".join(["1"] * len(make_rows(1).column_names)) + ",x"  # a row, if it were not in quotes
    notes = [f"a\n{inside}\nb"] * 120
    write_notes(tmp_path / "rows.csv", notes, {31: b"1,2\n", 32: b'1,"2\n3"\n', 90: b"\n"})
    summary = LocalJob(package, tmp_path / "rows.csv", tmp_path / "out").run()
    assert (summary["rows_read"], summary["rows_scored"], summary["rows_rejected"]) == (119, 117, 2)
    assert set(read_output(tmp_path / "out").column("note").to_pylist()) == set(notes)
    assert [(r["row"], r["content"]) for r in read_rejected(tmp_path / "out")] == [(31, "1,2"), (32, '1,"2\n3"')]


def test_a_quote_that_is_open_at_the_end_rejects_what_it_swallowed(package, tmp_path):
    write_notes(tmp_path / "rows.csv", ["x"] * 20)
    path = tmp_path / "rows.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[18:] = [line.replace(b'"x"', b'"x' if k == 0 else b"x") for k, line in enumerate(lines[18:])]
    path.write_bytes(b"".join(lines))
    summary = LocalJob(package, path, tmp_path / "out").run()
    assert (summary["rows_scored"], summary["rows_rejected"]) == (17, 1)
    (rejected,) = read_rejected(tmp_path / "out")
    assert (rejected["row"], rejected["reason"]) == (17, "a quote is not closed")
    assert rejected["content"].count("\n") == 2


def test_a_quote_that_is_never_closed_does_not_fill_the_memory(package, tmp_path, monkeypatch):
    monkeypatch.setattr("batch.storage.lines.MAX_RECORD_BYTES", 2_000)
    monkeypatch.setattr("batch.storage.text_rows.BLOCK_BYTES", 500)
    write_notes(tmp_path / "rows.csv", ["x"] * 5 + ["RAW" + '"x'] + ["RAWx"] * 100)
    job = LocalJob(package, tmp_path / "rows.csv", tmp_path / "out")
    with pytest.raises(InvalidDataError, match=r"cannot be read from byte .* a quote that is not closed within 2,000"):
        job.score(0)


def test_a_name_in_the_header_may_hold_a_line_break(package, tmp_path):
    path = tmp_path / "rows.csv"
    write_notes(path, ["x"] * 5)
    path.write_bytes(path.read_bytes().replace(b"note", b'"no\nte"', 1))
    LocalJob(package, path, tmp_path / "out").run()
    assert read_output(tmp_path / "out").column("no\nte").to_pylist() == ["x"] * 5


@pytest.mark.parametrize("data", [b"a,b\r1,2\r3,4\r", b"x" * 140_000 + b",b\n1,2\n", b"\xff,b\n1,2\n"])
def test_a_header_that_cannot_be_read_sets_its_file_aside(package, tmp_path, data):
    write_rows(tmp_path / "in", 1, 50)
    (tmp_path / "in" / "z.csv").write_bytes(data)
    job = LocalJob(package, tmp_path / "in", tmp_path / "out")
    assert job.score(0)[0].counts.scored == 50
    with pytest.raises(InvalidDataError, match="cannot be read: its first line must be names of columns"):
        job.score(1)


def find_ends_slowly(data: bytes) -> list[int]:
    ends, state = [], "start"
    for at, c in enumerate(data):
        if state in {"quoted", "closing"}:
            if c == ord('"'):
                state = "closing" if state == "quoted" else "quoted"
                continue
            if state == "quoted":
                continue
        if c == ord('"') and state == "start":
            state = "quoted"
        elif c in b",\r\n":
            state = "start"
            if c == ord("\n"):
                ends.append(at + 1)
        else:
            state = "field"
    return ends if ends and ends[-1] == len(data) else [*ends, len(data)]


@given(st.text('a",\n\r', min_size=1, max_size=60).map(str.encode), st.integers(1, 20))
@example(b'a"b,"c""\nd"\n', 3)
def test_records_end_where_arrow_ends_them(data, n_bytes):
    expected = find_ends_slowly(data)
    assert find_record_ends(data).tolist() == expected
    assert find_first_end(data) == expected[0]
    system = pafs._MockFileSystem()
    with system.open_output_stream("x.csv") as stream:
        stream.write(data)
    blocks = [block for block, _ in read_blocks(system, "x.csv", n_bytes, is_csv=True)]
    assert b"".join(blocks) == data
    assert set(np.cumsum([len(b) for b in blocks])) <= set(expected)


def write_members(path, values: list[str]) -> None:
    """Rows as JSON lines with a member `x`, written as it is given."""
    lines = to_json_lines(make_rows(len(values))).splitlines()
    pairs = zip(lines, values, strict=True)
    path.write_bytes(b"".join(b'%s, "x": %s}\n' % (line[:-1], value.encode()) for line, value in pairs))


@pytest.mark.parametrize(
    ("values", "kind", "bad"),
    [
        (['"2024-01-05"', '"2024-01-05 10:00:00"', '"n/a"'], pa.string(), {}),
        (["9007199254740993", "0.5", "9007199254740993.5", "1"], pa.float64(), {0: "must hold double, got 9007199254"}),
        (["9007199254740992", "9007199254740993", "-9007199254740993"], pa.int64(), {}),
        (["1", "9223372036854775808", "18446744073709551615"], pa.uint64(), {}),
        (["1", "2.0", "3"], pa.float64(), {}),
        (["1", "18446744073709551616"], pa.int64(), {1: "must hold int64, got 18446744073709551616"}),
        (["[1]", '[1, "a"]', "[2.5]"], pa.list_(pa.float64()), {1: "must hold list<item: double>, got a list"}),
        (['{"a": 1}', '{"a": "x"}', "{}", "null"], pa.struct([("a", pa.int64())]), {1: "got an object"}),
        (["1", '"x"', "true"], pa.int64(), {1: "got 'x'", 2: "got true"}),
        (['{"a": {}, "b": 1}'], pa.struct([("b", pa.int64())]), {}),
    ],
)
def test_members_are_carried_along_as_they_are_or_rejected(package, tmp_path, values, kind, bad):
    write_members(tmp_path / "rows.jsonl", values)
    LocalJob(package, tmp_path / "rows.jsonl", tmp_path / "out").run()
    found = read_output(tmp_path / "out")
    assert found.schema.field("x").type == kind
    plain = [json.loads(v) for k, v in enumerate(values) if k not in bad]
    assert found.column("x").to_pylist() == pa.array(plain, kind).to_pylist()
    assert all(
        type(v) is type(w) for v, w in zip(found.column("x").to_pylist(), plain, strict=True) if kind == pa.int64()
    )
    rejected = read_rejected(tmp_path / "out") if bad else []
    assert [r["row"] for r in rejected] == list(bad)
    assert all(part in r["reason"] for r, part in zip(rejected, bad.values(), strict=True))


def test_whole_numbers_that_come_later_lose_no_digit(package, tmp_path):
    values = ["0.5"] * 150 + ["9007199254740993"] + ["[0]"] + ["1e300"] * 10
    write_members(tmp_path / "rows.jsonl", values)
    LocalJob(package, tmp_path / "rows.jsonl", tmp_path / "out").run()
    assert [r["row"] for r in read_rejected(tmp_path / "out")] == [150, 151]
    (tmp_path / "more").mkdir()
    write_members(tmp_path / "more" / "rows.jsonl", ["1"] * 150 + ["1.5", "2"])  # 1.5 would become 1
    LocalJob(package, tmp_path / "more", tmp_path / "out2").run()
    assert [r["row"] for r in read_rejected(tmp_path / "out2")] == [150]


def test_members_of_empty_objects_are_left_out(package, tmp_path):
    write_members(tmp_path / "rows.jsonl", ["{}"] * 5)
    LocalJob(package, tmp_path / "rows.jsonl", tmp_path / "out").run()
    assert "x" not in read_output(tmp_path / "out").column_names


@pytest.mark.parametrize("is_beside_a_bad_line", [False, True])
def test_two_objects_on_a_line_are_no_row(package, tmp_path, is_beside_a_bad_line):
    lines = to_json_lines(make_rows(50)).splitlines(keepends=True)
    lines[7] = lines[7].rstrip() + lines[8]
    lines[8] = b"garbage\n" if is_beside_a_bad_line else b" \n"
    (tmp_path / "rows.jsonl").write_bytes(b"".join(lines))
    LocalJob(package, tmp_path / "rows.jsonl", tmp_path / "out").run()
    assert read_output(tmp_path / "out").column("order_id").to_pylist() == [k for k in range(50) if k not in {7, 8}]
    assert [r["row"] for r in read_rejected(tmp_path / "out")] == ([7, 8] if is_beside_a_bad_line else [7])


@pytest.mark.parametrize("at", [0, 150])
def test_a_line_of_json_that_is_no_utf8_is_rejected_and_its_member_is_not_lost(package, tmp_path, monkeypatch, at):
    monkeypatch.setattr("batch.storage.text_rows.HEAD_LINES", 100)
    monkeypatch.setattr("batch.storage.text_rows.TYPED_ROWS", 100)
    rows = make_rows(200).to_pylist()
    lines = [
        json.dumps({**row, **({"note": f"n{k}"} if k in {at, 0, 199} else {})}).encode() for k, row in enumerate(rows)
    ]
    lines[at] = lines[at].replace(b': "n', b': "\xff')
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(lines))
    assert LocalJob(package, tmp_path / "rows.jsonl", tmp_path / "out").run()["rows_rejected"] == 1
    (rejected,) = read_rejected(tmp_path / "out")
    assert (rejected["row"], rejected["reason"]) == (at, "no UTF-8: save the file as UTF-8")
    assert read_output(tmp_path / "out").column("note").to_pylist()[-1] == "n199"


def test_nan_in_json_lines_is_null_and_infinity_rejects_its_row(package, tmp_path):
    rows = make_rows(100).to_pylist()
    for at, row in enumerate(rows):
        row |= {"note": 0.5, "order_id": str(row["order_id"])}
        row["total_events_x"] = None if at == 7 else row["total_events_x"]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    scores = []
    for name in ("null", "nan"):
        (tmp_path / f"{name}.jsonl").write_text(text)
        assert LocalJob(package, tmp_path / f"{name}.jsonl", tmp_path / name).run()["rows_rejected"] == 0
        scores.append(read_output(tmp_path / name))
        rows[7] |= {"total_events_x": float("nan"), "note": float("nan")}
        text = "".join(json.dumps(row) + "\n" for row in rows)
    assert scores[1].column("note").to_pylist()[7] is None
    assert scores[0].column("probability").equals(scores[1].column("probability"))
    rows[3]["price"] = float("inf")
    (tmp_path / "inf.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    LocalJob(package, tmp_path / "inf.jsonl", tmp_path / "inf").run()
    assert [(r["row"], r["column"]) for r in read_rejected(tmp_path / "inf")] == [(3, "price")]


def test_blank_lines_before_the_header_and_columns_without_a_name_are_passed_over(package, tmp_path):
    (tmp_path / "rows.csv").write_bytes(b"\r\n\n" + to_csv(make_rows(50)).replace(b"\n", b",,\n"))
    assert LocalJob(package, tmp_path / "rows.csv", tmp_path / "out").run()["rows_scored"] == 50
    assert "" not in read_output(tmp_path / "out").column_names


@pytest.mark.parametrize(("lines", "values"), [(b"0.5\n\n1.0\n", [0.5, None, 1.0]), (b"0.5\n\nx\n", [0.5, None, None])])
def test_an_empty_line_of_a_csv_of_one_column_is_a_null(tmp_path, lines, values):
    (tmp_path / "rows.csv").write_bytes(b"a\n" + lines)
    schema = pa.schema([pa.field("a", pa.float64())])
    specs = {"a": FeatureSpec("a", "numeric", "", on_null="nan")}
    rows = TextRows(pafs.LocalFileSystem(), str(tmp_path / "rows.csv"), "csv", schema, specs)
    [(batch, unread)] = list(rows.blocks())
    assert not unread
    assert batch.column("a").to_pylist() == values


def test_one_column_without_a_name_is_an_index_and_is_kept(package, tmp_path):
    lines = to_csv(make_rows(50)).splitlines(keepends=True)
    lines = [b"," + lines[0], *(b"%d," % k + line for k, line in enumerate(lines[1:]))]
    (tmp_path / "rows.csv").write_bytes(b"".join(lines))
    LocalJob(package, tmp_path / "rows.csv", tmp_path / "out").run()
    assert read_output(tmp_path / "out").column("").to_pylist() == [str(k) for k in range(50)]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b",", b";", "values are separated by semicolons, save the file with commas"),
        (b",", b"\t", "values are separated by tabs, save the file with commas"),
        (b"\n", b"\r", "lines must end in LF or CRLF; lines end in CR alone"),
    ],
)
def test_a_csv_file_of_another_kind_says_which(package, tmp_path, old, new, said):
    (tmp_path / "rows.csv").write_bytes(to_csv(make_rows(50)).replace(old, new))
    with pytest.raises(InvalidDataError, match=said):
        LocalJob(package, tmp_path / "rows.csv", tmp_path / "out")


@pytest.mark.parametrize("wrap", ["%s", "[%s]", '{"in": %s}'])
def test_a_member_within_an_object_that_the_first_lines_lack_rejects_its_row(package, tmp_path, monkeypatch, wrap):
    monkeypatch.setattr("batch.storage.text_rows.HEAD_LINES", 3)
    values = [wrap % text for text in ('{"a": 1}', '{"a": 2}', "null", '{"a": 4}', '{"b": 5}', '{"a": 6, "c": {}}')]
    lines = [
        json.dumps({**row, "note": json.loads(value)}).encode() + b"\n"
        for row, value in zip(make_rows(6).to_pylist(), values, strict=True)
    ]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(lines))
    assert LocalJob(package, tmp_path / "rows.jsonl", tmp_path / "out").run()["rows_rejected"] == 1
    (rejected,) = read_rejected(tmp_path / "out")
    assert rejected["row"] == 4
    assert rejected["reason"].startswith("note must hold ")
    notes = read_output(tmp_path / "out").column("note").to_pylist()
    assert [json.dumps(note) for note in notes[:2]] == values[:2]


@pytest.mark.parametrize("is_bad", [False, True])
def test_a_member_that_comes_after_the_first_lines_is_named_in_the_summary(package, tmp_path, monkeypatch, is_bad):
    monkeypatch.setattr("batch.storage.text_rows.HEAD_LINES", 3)
    rows = make_rows(20).to_pylist()
    rows[9] |= {"late": "x", "empty": {}, "none": None}
    lines = [json.dumps(row) + "\n" for row in rows]
    if is_bad:
        lines[5] = "garbage\n"
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    job = LocalJob(package, tmp_path / "rows.jsonl", tmp_path / "out")
    assert job.run()["members_not_read"] == ["late"]


@pytest.mark.parametrize(("data", "n_rejected"), [(b"", 0), (b"\n\n", 0), (b"garbage\n" * 5, 5)])
def test_a_file_of_json_lines_without_a_row_does_not_end_the_job(package, tmp_path, data, n_rejected):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_bytes(to_json_lines(make_rows(10)))
    (tmp_path / "in" / "z.jsonl").write_bytes(data)
    summary = LocalJob(package, tmp_path / "in", tmp_path / "out").run()
    assert (summary["rows_scored"], summary["rows_rejected"]) == (10, n_rejected)
