"""Event logs: what is read, what is refused, what is dropped and counted."""

from __future__ import annotations

import gzip
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from serve_app.cli.open_log import hash_lines, open_log
from serve_app.errors import InvalidDataError, NotFoundError
from serve_app.events.adapters.log_files import EventLog
from serve_app.events.adapters.log_writer import LogWriter
from serve_app.events.adapters.spill import EventSpill
from serve_app.events.service.partitions import LogSummary, read_partitions
from serve_app.events.service.synthetic import GeneratedLog
from serve_app.features.core.event_times import format_times, read_times
from serve_app.features.core.row_keys import PUBLISHED_COLUMNS
from serve_app.models.adapters.package_dir import hash_file
from serve_app.training.service.features_table import build_features

pytestmark = pytest.mark.unit

HEADER = ",".join(PUBLISHED_COLUMNS)
LINE = "2019-10-01 00:00:01 UTC,view,17,2001,toys.kites,acme,12.50,501,aaaa-1"


def write(path, *lines, end="\n"):
    path.write_text("\n".join(lines) + end, "utf-8")
    return path


def read(path):
    return pa.Table.from_batches(EventLog(path).batches())


def summarise(path, **options):
    summary = LogSummary()
    with EventSpill() as spill:
        rows = [p.table for p in read_partitions(EventLog(path), spill, summary, **options)]
    return summary, rows


def test_a_line_of_the_published_form_is_read(tmp_path):
    row = read(write(tmp_path / "a.csv", HEADER, LINE)).to_pylist()[0]
    assert row["event_time"] == 1_569_888_001
    assert (row["price"], row["brand"], row["user_id"], row["user_session"]) == (12.5, "acme", "501", "aaaa-1")


@pytest.mark.parametrize(
    "text",
    ["2019-10-01 00:00:01 UTC", "2019-10-01T00:00:01Z", "2019-10-01T02:00:01.500+02:00", "2019-10-01T00:00:01"],
)
def test_times_of_the_published_form_and_iso_8601_are_equal(text):
    assert read_times(pa.array([text]))[0].to_pylist() == [1_569_888_001]
    assert read_times(pa.array([text, "2019-10-01T00:00:01Z", None]))[0].to_pylist() == [1_569_888_001] * 2 + [None]


def test_formatted_times_are_parsed_back():
    time_s = np.array([0, 1_569_888_001, 4_102_444_799])
    assert read_times(format_times(time_s))[0].to_pylist() == time_s.tolist()


@pytest.mark.parametrize("text", ["01/10/2019 00:00", "1569888001", "yesterday", "2019-13-01 00:00:00 UTC"])
def test_another_date_format_is_refused_and_the_right_one_named(tmp_path, text):
    path = write(tmp_path / "a.csv", HEADER, LINE.replace("2019-10-01 00:00:01 UTC", text))
    with pytest.raises(InvalidDataError, match="2019-10-01 00:00:00 UTC"):
        read(path)


def test_a_missing_column_is_named(tmp_path):
    path = write(tmp_path / "a.csv", HEADER.replace("price,", ""), LINE.replace("12.50,", ""))
    with pytest.raises(InvalidDataError, match="no column price"):
        read(path)


def test_a_price_that_is_no_number_is_refused(tmp_path):
    with pytest.raises(InvalidDataError, match="cheap"):
        read(write(tmp_path / "a.csv", HEADER, LINE.replace("12.50", "cheap")))


def test_a_parquet_column_of_another_type_is_refused(tmp_path):
    table = pacsv.read_csv(write(tmp_path / "a.csv", HEADER, LINE))
    at = table.schema.get_field_index("price")
    pq.write_table(table.set_column(at, "price", pa.array(["12.50"])), tmp_path / "a.parquet")
    with pytest.raises(InvalidDataError, match="price must hold numbers"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("content", ["", HEADER + "\n"], ids=["no bytes", "header only"])
def test_a_log_without_events_is_refused(tmp_path, content):
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(InvalidDataError, match=r"is empty|holds no event"):
        summarise(path)


def test_a_csv_cut_in_the_middle_of_a_line_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f"{HEADER}\n{LINE}\n{LINE}\n{LINE}"[:-30])
    with pytest.raises(InvalidDataError, match="cut in the middle of its last line: line 4 has 5 values"):
        read(path)


def test_a_last_line_without_newline_that_is_whole_is_read(tmp_path):
    assert read(write(tmp_path / "a.csv", HEADER, LINE, LINE, end="")).num_rows == 2


def test_a_cut_gzip_file_is_refused(tmp_path):
    data = gzip.compress("\n".join([HEADER, *[LINE] * 500, ""]).encode())
    path = tmp_path / "a.csv.gz"
    path.write_bytes(data[:-20])
    with pytest.raises(InvalidDataError):
        read(path)
    path.write_bytes(data)
    assert read(path).num_rows == 500


def test_a_file_that_is_not_there_or_of_another_kind_is_refused(tmp_path):
    with pytest.raises(NotFoundError):
        EventLog(tmp_path / "none.csv")
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(InvalidDataError, match=r"\.parquet"):
        EventLog(tmp_path / "a.xlsx")
    with pytest.raises(InvalidDataError, match="holds no file"):
        EventLog(tmp_path)


def test_the_folders_of_a_log_give_the_columns_that_its_files_lack(tmp_path):
    header, line = HEADER.replace("event_type,", ""), LINE.replace("view,", "")
    for folder in ("event_type=view/event_date=2019-10-01", "event_type=cart/brand=other"):
        (tmp_path / folder).mkdir(parents=True)
        write(tmp_path / folder / "part-0.csv", header, line)
    rows = read(tmp_path)
    assert rows.column("event_type").to_pylist() == ["cart", "view"]
    assert rows.column("brand").to_pylist() == ["acme", "acme"]  # what a file says counts
    assert rows.column_names == list(PUBLISHED_COLUMNS)
    table = pa.table({name: rows.column(name) for name in PUBLISHED_COLUMNS if name not in ("brand", "price")})
    folder = tmp_path / "more" / "brand=__HIVE_DEFAULT_PARTITION__" / "price=9.5"
    folder.mkdir(parents=True)
    pq.write_table(
        table.set_column(0, "event_time", rows.column("event_time").cast(pa.timestamp("s"))), folder / "x.parquet"
    )
    more = read(tmp_path / "more")
    assert (more.column("brand").to_pylist(), more.column("price").to_pylist()) == ([None, None], [9.5, 9.5])
    assert read(tmp_path).num_rows == 4
    folder.rename(folder.with_name("price=much"))
    with pytest.raises(InvalidDataError, match="price=much gives no number"):
        read(tmp_path / "more")
    with pytest.raises(InvalidDataError, match="has no column event_type"):
        read(tmp_path / "event_type=view")


def test_equal_files_of_two_folders_are_told_apart(tmp_path):
    for kind in ("view", "cart"):
        (tmp_path / f"event_type={kind}").mkdir()
        write(tmp_path / f"event_type={kind}" / "a.csv", HEADER.replace("event_type,", ""), LINE.replace("view,", ""))
    log = open_log(tmp_path)
    assert len({hash_lines(log, file) for file in log.files}) == 2
    assert hash_lines(EventLog(log.files[0]), log.files[0]) == hash_file(log.files[0])


def test_what_of_a_log_is_not_read_is_named(tmp_path, capsys):
    write(tmp_path / "A.CSV", HEADER, LINE)
    (tmp_path / "notes.txt").write_text("")
    assert len(open_log(tmp_path).files) == 1
    assert capsys.readouterr().err == "1 file or folder is not read: notes.txt\n"


def test_lines_that_break_a_rule_are_dropped_and_counted(tmp_path):
    lines = [
        LINE,
        LINE.replace("12.50", "0"),
        LINE.replace("12.50", "-1"),
        LINE.replace("12.50", "nan"),
        LINE.replace("12.50", ""),
        LINE.replace("12.50", "1e12"),
        LINE.replace(",501,", ",,"),
        LINE.replace("aaaa-1", ""),
        LINE.replace(",17,", ",,"),
        LINE.replace("view", "wish"),
        LINE.replace("2019-10-01 00:00:01 UTC", ""),
    ]
    summary, _ = summarise(write(tmp_path / "a.csv", HEADER, *lines))
    assert (summary.n_lines, summary.n_events) == (11, 1)
    assert summary.dropped == Counter(
        {
            "price not above 0": 2,
            "price missing or not finite": 2,
            "price above 100 million": 1,
            "no user_id": 1,
            "no user_session": 1,
            "no product_id": 1,
            "unknown event_type": 1,
            "no event_time": 1,
        }
    )


def test_identical_lines_are_all_events_and_equal_event_ids_are_one(tmp_path):
    summary, _ = summarise(write(tmp_path / "a.csv", HEADER, LINE, LINE))
    assert summary.n_events == 2
    lines = [f"{LINE},{event_id}" for event_id in ("e1", "e1", "", "")]
    summary, rows = summarise(write(tmp_path / "b.csv", HEADER + ",event_id", *lines))
    assert summary.n_events == rows[0].num_rows == 3
    assert summary.dropped == {"event_id seen before": 1}


def test_a_session_id_two_users_share_is_two_sessions(tmp_path):
    path = write(tmp_path / "a.csv", HEADER, LINE, LINE.replace("501", "502"), LINE)
    with EventSpill() as spill:
        (table,) = build_features(EventLog(path), spill, LogSummary())
    assert table.column("total_events_x").to_pylist() == [1.0, 1.0, 2.0]


def test_features_do_not_depend_on_order_of_users_format_or_spilling(tmp_path):
    batches = list(GeneratedLog(6_000, 3).batches())
    paths = [tmp_path / name for name in ("a.csv", "a.parquet", "a.csv.gz")]
    for path in paths:
        with LogWriter(path) as writer:
            for batch in batches:
                writer.write(batch)
    tables = []
    for path, memory_rows in ((paths[0], 10**6), (paths[1], 10**6), (paths[2], 10**6), (paths[1], 1_000)):
        with EventSpill(tmp_path) as spill:
            parts = list(build_features(EventLog(path), spill, LogSummary(), memory_rows=memory_rows))
        table = pa.concat_tables(parts).unify_dictionaries()
        names = [n for n in table.column_names if not n.endswith("_id") and n not in {"brand", "category_code"}]
        tables.append(table.sort_by("position").select(names).drop_columns("user_session"))
    assert all(table.equals(tables[0]) for table in tables)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


def test_a_directory_is_read_in_name_order(tmp_path):
    for name, product in (("b.csv", 2), ("a.csv", 1)):
        write(tmp_path / name, HEADER, LINE.replace(",17,", f",{product},"))
    assert read(tmp_path).column("product_id").to_pylist() == ["1", "2"]


def write_and_fail(path):
    with LogWriter(path) as writer:
        writer.write(next(GeneratedLog(100).batches()))
        raise RuntimeError


def test_a_writer_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError):
        write_and_fail(tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []
