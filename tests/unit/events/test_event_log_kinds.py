"""Logs as people have them: files that store columns differently, odd headers, line breaks, ids of every type."""

from __future__ import annotations

import gzip
import itertools
import uuid
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from serve_app.cli.open_log import open_log
from serve_app.client.logs.log_events import split_log
from serve_app.errors import InvalidDataError
from serve_app.events.adapters.log_files import BLOCK_BYTES, EventLog
from serve_app.events.adapters.spill import EventSpill
from serve_app.events.core.event_rows import drop_unsendable
from serve_app.events.service.describe import describe_log
from serve_app.events.service.partitions import LogSummary
from serve_app.features.core.row_keys import PUBLISHED_COLUMNS
from serve_app.training.service.features_table import build_features

pytestmark = pytest.mark.unit

HEADER = ",".join(PUBLISHED_COLUMNS)
LINE = "2019-10-01 00:00:01 UTC,view,17,2001,toys.kites,acme,12.50,501,aaaa-1"
TIMES = {
    "published": pa.array(["2019-10-01 00:00:01 UTC"]),
    "ISO": pa.array(["2019-10-01T00:00:01Z"], pa.large_string()),
    "s": pa.array([1_569_888_001], pa.timestamp("s")),
    "ns": pa.array([1_569_888_001_123_456_789], pa.timestamp("ns")),
    "us with a zone": pa.array([1_569_888_001_000_000], pa.timestamp("us", "Europe/Berlin")),
}
PRICES = {
    "double": pa.array([12.0]),
    "float": pa.array([12.0], pa.float32()),
    "int": pa.array([12], pa.int16()),
    "decimal": pa.array([Decimal("12.00")], pa.decimal128(9, 2)),
    "runs": pc.run_end_encode(pa.array([12.0])),
}
USERS = {
    "int64": pa.array([501]),
    "int8": pa.array([101], pa.int8()),
    "uint64": pa.array([501], pa.uint64()),
    "double": pa.array([501.0]),
    "decimal": pa.array([Decimal(501)], pa.decimal128(38, 0)),
    "text": pa.array(["501"]),
    "large": pa.array(["501"], pa.large_string()),
    "view": pa.array(["501"], pa.string_view()),
    "dictionary": pa.array(["501"]).dictionary_encode(),
    "dictionary of numbers": pa.array([501]).dictionary_encode(),
}


def write_csv(path, *lines, end="\n"):
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + end, "utf-8")
    return path


def write_parquet(path, **columns):
    path.parent.mkdir(exist_ok=True)
    values = (["2019-10-01 00:00:01 UTC"], ["view"], [17], [2001], ["a.b"], ["acme"], [12.0], [501], ["s"])
    whole = dict(zip(PUBLISHED_COLUMNS, values, strict=True))
    pq.write_table(pa.table(whole | columns), path, store_schema=True)
    return path


def read(path):
    return pa.Table.from_batches(EventLog(path).batches())  # which is refused where two batches differ in schema


def describe(path):
    with EventSpill() as spill:
        return describe_log(EventLog(path), spill)


@pytest.mark.parametrize(("first", "second"), itertools.product(USERS, USERS))
def test_every_pair_of_id_types_is_one_log(tmp_path, first, second):
    for name, kind in (("a", first), ("b", second)):
        write_parquet(tmp_path / "log" / f"{name}.parquet", user_id=USERS[kind])
    found = read(tmp_path / "log").column("user_id")
    expected = [101 if kind == "int8" else 501 for kind in (first, second)]
    assert [str(user) for user in found.to_pylist()] == [str(user) for user in expected]
    assert describe(tmp_path / "log").n_users == len(set(expected))


@pytest.mark.parametrize(("name", "kinds"), [("event_time", TIMES), ("price", PRICES)])
def test_every_type_of_times_and_prices_is_one_log(tmp_path, name, kinds):
    for number, column in enumerate(kinds.values()):
        if pa.types.is_run_end_encoded(column.type):
            continue  # Parquet knows no runs
        write_parquet(tmp_path / "log" / f"{number}.parquet", **{name: column})
    expected = 1_569_888_001 if name == "event_time" else 12.0
    assert set(read(tmp_path / "log").column(name).to_pylist()) == {expected}


def test_a_column_in_one_file_only_is_null_in_the_others(tmp_path):
    write_parquet(tmp_path / "log" / "a.parquet")
    write_parquet(tmp_path / "log" / "b.parquet", event_id=["e0"], brand=pa.nulls(1))
    write_csv(tmp_path / "log" / "c.csv", HEADER, LINE)
    table = read(tmp_path / "log")
    assert table.column("event_id").to_pylist() == [None, "e0", None]
    assert table.column("brand").to_pylist() == ["acme", None, "acme"]
    assert table.column("user_id").to_pylist() == ["501"] * 3
    assert describe(tmp_path / "log").summary.n_events == 3


def test_session_ids_that_are_uuids_are_their_usual_text(tmp_path):
    value = uuid.UUID(int=7)
    path = write_parquet(tmp_path / "a.parquet", user_session=pa.array([value.bytes], pa.uuid()))
    assert read(path).column("user_session").to_pylist() == [str(value)]


@pytest.mark.parametrize("bad", [501.5, 2.0**60])
def test_a_float_that_may_have_been_another_id_is_refused_and_shown(tmp_path, bad):
    with pytest.raises(InvalidDataError, match=f"user_id must hold text or whole numbers.*{bad}".replace("+", r"\+")):
        read(write_parquet(tmp_path / "a.parquet", user_id=[bad]))


def test_empty_ids_are_none_in_every_format(tmp_path):
    write_parquet(tmp_path / "a.parquet", user_session=[""])
    assert describe_dropped(tmp_path / "a.parquet", write_parquet(tmp_path / "z.parquet")) == {"no user_session": 1}
    twice = {name: pa.array([value] * 2) for name, value in (("event_id", ""), ("event_type", "view"))}
    table = pq.read_table(write_parquet(tmp_path / "b.parquet"))
    pq.write_table(pa.concat_tables([table] * 2).append_column("event_id", twice["event_id"]), tmp_path / "b.parquet")
    assert describe(tmp_path / "b.parquet").summary.n_events == 2


def describe_dropped(*paths):
    folder = paths[0].parent / "log"
    folder.mkdir()
    for path in paths:
        path.rename(folder / path.name)
    return dict(describe(folder).summary.dropped)


@pytest.mark.parametrize(
    "last",
    [LINE[:-5], LINE.replace("aaaa-1", ""), LINE.replace("12.50", "9")],
    ids=["a shorter session", "no session", "a shorter price"],
)
def test_a_last_line_without_newline_is_complete_when_it_has_all_columns(tmp_path, last):
    assert read(write_csv(tmp_path / "a.csv", HEADER, LINE, last, end="")).num_rows == 2


@pytest.mark.parametrize(
    ("year", "reason"),
    [("0001", "event_time before 1970"), ("1969", "event_time before 1970"), ("2100", "event_time after 2099"),
     ("2106", "event_time after 2099"), ("9999", "event_time after 2099")],
)  # fmt: skip
def test_a_time_that_cannot_be_is_dropped_and_closes_no_session(tmp_path, year, reason):
    path = write_csv(tmp_path / "a.csv", HEADER, LINE, LINE.replace("2019", year))
    summary = describe(path).summary
    assert (summary.n_events, dict(summary.dropped)) == (1, {reason: 1})
    assert summary.first_s == summary.last_s == 1_569_888_001


def test_ids_that_are_too_long_and_prices_that_are_0_to_a_model_are_dropped(tmp_path):
    lines = [LINE, LINE.replace(",17,", f",{'x' * 512},"), LINE.replace(",17,", f",{'é' * 513},"),
             LINE.replace("12.50", "1e-300"), LINE.replace("12.50", "0.004")]  # fmt: skip
    path = write_csv(tmp_path / "a.csv", HEADER, *lines)
    summary = describe(path).summary
    assert summary.n_events == 3
    assert dict(summary.dropped) == {"product_id longer than 512 characters": 1, "price not above 0": 1}
    (part,) = split_log(
        EventLog(path).batches(), "0" * 64, drop_unsendable
    )  # what one request would be refused for is not sent
    assert (part.lines.tolist(), part.dropped) == ([0, 1, 3, 4], {"product_id longer than 512 characters": 1})


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_quoted_line_breaks_are_read_in_files_of_any_size(tmp_path, suffix):
    note = '"line one\nline two, with a comma\r\nthird"'
    n_lines = BLOCK_BYTES // len(LINE + note) + 5_000
    content = f"{HEADER},note\n" + f"{LINE},{note}\n" * n_lines
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(content.encode(), 1) if suffix.endswith("gz") else content.encode())
    assert read(path).num_rows == n_lines


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (HEADER.replace(",", ";"), "event_time;event_type.*separated by semicolons, save the file with commas"),
        (HEADER.replace(",", "\t"), "separated by tabs"),
        ("sep=,\n" + HEADER, "sep=,.*delete that line"),
        (HEADER.upper(), "EVENT_TIME,EVENT_TYPE.*in lower case"),
        (HEADER.replace(",", ", "), "event_time, event_type.*without blanks"),
        (HEADER.replace("price", "cost"), "no column price: it begins with .*brand,cost"),
        ("", "begins with an empty line"),
    ],
)
def test_a_header_that_is_no_logs_is_shown_with_what_to_do(tmp_path, header, words):
    with pytest.raises(InvalidDataError, match=words):
        read(write_csv(tmp_path / "a.csv", header, LINE))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (LINE.replace("12.50", "NA"), "line 5: price must be a number like 12.50 or empty, got 'NA'"),
        (LINE.replace("12.50", "12,50"), "line 5 has 10 values, the first line names 9"),
        (LINE.replace("2019-10-01", "01.10.2019"), "line 5: event_time must be like .*got '01.10.2019 00:00:01 UTC'"),
    ],
)
def test_a_bad_line_is_named_as_an_editor_counts_it(tmp_path, line, words):
    broken = LINE.replace("acme", '"two\nlines"')
    with pytest.raises(InvalidDataError, match=words) as refused:
        read(write_csv(tmp_path / "a.csv", HEADER, broken, LINE, line, LINE))
    assert not [word for word in ("CSV column #", "Row #", "ArrowInvalid") if word in str(refused.value)]


def test_files_that_are_damaged_say_so_in_own_words(tmp_path):
    whole = write_parquet(tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidDataError, match="is no Parquet file, or it is cut or damaged"):
        read(tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_bytes(HEADER.encode("utf-16"))
    with pytest.raises(InvalidDataError, match="UTF-8"):
        read(tmp_path / "a.csv")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("absent", [["brand"], ["category_id", "category_code", "brand"]])
def test_columns_that_history_has_no_need_of_may_be_absent(tmp_path, capsys, suffix, absent):
    table = pq.read_table(write_parquet(tmp_path / "whole.parquet")).drop_columns(absent)
    path = tmp_path / f"a{suffix}"
    pq.write_table(table, path) if suffix == ".parquet" else pacsv.write_csv(table, path)
    assert open_log(path).absent == absent
    assert capsys.readouterr().err.replace("\n", " ").startswith(f"no column {', '.join(absent)} in ")
    assert [read(path).column(name).to_pylist() for name in absent] == [[None]] * len(absent)
    assert describe(path).summary.n_events == 1
    with EventSpill() as spill:
        (rows,) = build_features(EventLog(path), spill, LogSummary())
    assert rows.column("brand").to_pylist() == [None]


@pytest.mark.parametrize("header", ["Brand", "brnd", " brand"])
def test_a_misspelt_column_is_refused_though_a_log_may_lack_it(tmp_path, header):
    with pytest.raises(InvalidDataError, match=f"no column brand .did you mean '{header}'.*begins with"):
        read(write_csv(tmp_path / "a.csv", HEADER.replace("brand", header), LINE))


@pytest.mark.parametrize(
    ("column", "label"),
    [(pa.array([7]), "7"), (pa.array([7.0]), "7"), (pa.array([7.5]), None), (pa.array([True]), None),
     (pa.array([Decimal("7.00")]), "7"), (pa.array(["a"]).dictionary_encode(), "a"), (pa.nulls(1), None)],
)  # fmt: skip
@pytest.mark.parametrize("name", ["brand", "category_code"])
def test_a_brand_or_category_of_another_type_is_its_text_or_none(tmp_path, name, column, label):
    path = write_parquet(tmp_path / "a.parquet", **{name: column})
    assert read(path).column(name).to_pylist() == [label]
    assert describe(path).summary.n_events == 1
    with pytest.raises(InvalidDataError, match=f"column {name} must hold text"):
        read(write_parquet(path, **{name: pa.array([b"a"])}))


NO_IDS = {
    "int64": pa.array([-1, 501]),
    "uint64": pa.array([2**63, 501], pa.uint64()),
    "double": pa.array([-1.0, 501.0]),
    "decimal": pa.array([Decimal(10**30), Decimal(501)], pa.decimal128(38, 0)),
    "dictionary": pa.array([-1, 501]).dictionary_encode(),
}


@pytest.mark.parametrize("name", ["user_id", "user_session", "product_id", "category_id", "event_id"])
@pytest.mark.parametrize("kind", NO_IDS)
def test_a_number_that_is_no_id_drops_its_event_under_a_reason_of_its_own(tmp_path, name, kind):
    table = pq.read_table(write_parquet(tmp_path / "a.parquet", event_id=["e"]))
    columns = dict(zip(table.column_names, pa.concat_tables([table] * 2).columns, strict=True))
    pq.write_table(pa.table(columns | {"event_id": ["e1", "e2"], name: NO_IDS[kind]}), tmp_path / "a.parquet")
    reason = {f"{name} below 0 or above 2^63-1": 1}
    summary = describe(tmp_path / "a.parquet").summary
    assert (summary.n_events, dict(summary.dropped)) == (1, reason)
    (part,) = split_log(EventLog(tmp_path / "a.parquet").batches(), "0" * 64, drop_unsendable)
    assert (part.lines.tolist(), part.dropped) == ([1], reason)


@pytest.mark.parametrize("text", ["-1", str(2**63), str(10**30)])
def test_the_same_number_as_text_is_an_id(tmp_path, text):
    assert describe(write_parquet(tmp_path / "a.parquet", user_id=[text])).summary.n_events == 1
    assert describe(write_csv(tmp_path / "a.csv", HEADER, LINE.replace("501", text))).summary.n_events == 1


@pytest.mark.parametrize(
    ("name", "data"), [("p.csv", b""), ("p.parquet", b""), ("p.csv.gz", b""), ("p.csv.gz", gzip.compress(b"", mtime=0))]
)
def test_an_empty_part_of_a_folder_is_passed_over_and_named_and_alone_it_is_refused(tmp_path, capsys, name, data):
    part = tmp_path / "log" / "_day=1" / name
    write_csv(tmp_path / "log" / "a.csv", HEADER, LINE)
    part.parent.mkdir()
    part.write_bytes(data)
    assert describe(tmp_path / "log").summary.n_events == 1
    assert len(open_log(tmp_path / "log").files) == 1
    assert capsys.readouterr().err == f"1 file or folder is not read: _day=1/{name} (empty)\n"
    for path in (part, part.parent):
        with pytest.raises(InvalidDataError, match=r"p\.(csv|parquet)"):
            read(path)


def test_zeros_after_the_end_of_a_compressed_file_are_no_lines(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(f"{HEADER}\n{LINE}\n".encode()) + b"\0" * 512)
    assert read(path).num_rows == 1
    path.write_bytes(gzip.compress(f"{HEADER}\n{LINE}\n".encode()) + b"no zeros")
    with pytest.raises(InvalidDataError, match="is cut, or is no gzip file"):
        read(path)
