"""What the files and folders of a job's input may be: types that differ, partitions, other jobs' outputs."""

from __future__ import annotations

import itertools
import json

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from batch.jobs.prepare import describe
from serve_app.errors import InvalidDataError
from tests.testing_kit.batch.batch_jobs import LocalJob, make_rows, read_output, read_rejected, spoil

pytestmark = pytest.mark.unit

TEXTS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.null()]
NUMBERS = [pa.int64(), pa.int32(), pa.uint8(), pa.float64(), pa.float32(), pa.decimal128(23, 4), pa.null()]


def write(path, rows: pa.Table, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, **options)


def with_type(rows: pa.Table, name: str, kind: pa.DataType, values) -> pa.Table:
    column = pa.nulls(len(values), kind) if pa.types.is_null(kind) else pa.array(values).cast(kind)
    return rows.set_column(rows.schema.get_field_index(name), name, column)


def score(package, source, output, **options) -> tuple[dict, pa.Table]:
    return LocalJob(package, source, output, **options).run(), read_output(output).sort_by("order_id")


@pytest.mark.parametrize(
    ("name", "values", "kinds"), [("total_purchases", [1, 2, 3], NUMBERS), ("brand", ["a", "b", "a"], TEXTS)]
)
def test_features_are_scored_whatever_pair_of_types_the_files_give_them(package, tmp_path, name, values, kinds):
    def score_in(folder, **types) -> list[float]:
        for first_id, (file, kind) in enumerate(types.items()):
            rows = with_type(make_rows(3, first_id, 3 * first_id), name, kind, values)
            write(folder / f"{file}.parquet", rows)
        return score(package, folder, folder / "out", keep=("order_id",))[1].column("probability").to_pylist()

    alone = {kind: score_in(tmp_path / f"{k}", a=kind, b=kind) for k, kind in enumerate(kinds)}
    for first, second in itertools.permutations(kinds, 2):
        found = score_in(tmp_path / f"{first}-{second}", a=first, b=second)
        assert found == alone[first][:3] + alone[second][3:]


@pytest.mark.parametrize("partition_by", [(), ("brand",)])
def test_views_of_text_are_picked_and_put_aside_as_text_is(package, tmp_path, partition_by):
    rows = make_rows(40)
    for name in ("brand", "user_id"):
        rows = rows.set_column(rows.schema.get_field_index(name), name, rows[name].cast(pa.string_view()))
    rows = rows.set_column(rows.schema.get_field_index("price"), "price", pa.array([-1.0] + [5.0] * 39))
    write(tmp_path / "in" / "a.parquet", rows)
    keep = ("order_id", "user_id", "brand")
    LocalJob(package, tmp_path / "in", tmp_path / "out", keep=keep, partition_by=partition_by).run()
    assert read_output(tmp_path / "out").num_rows == 39
    assert len(read_rejected(tmp_path / "out")) == 1


@pytest.mark.parametrize(("name", "kinds"), [("order_id", NUMBERS), ("user_id", TEXTS)])
def test_columns_that_are_kept_have_one_type_in_all_files_and_the_message_says_which(package, tmp_path, name, kinds):
    for number, (first, second) in enumerate(itertools.combinations(kinds, 2)):
        folder, values = tmp_path / str(number), [1, 2, 3] if name == "order_id" else ["a", "b", "c"]
        write(folder / "a.parquet", with_type(make_rows(3), name, first, values))
        write(folder / "b.parquet", with_type(make_rows(3, 1, 3), name, second, values))
        if pa.null() in (first, second):
            LocalJob(package, folder, folder / "out").run()
            kind = second if first == pa.null() else first
            written = pa.string() if kind == pa.string_view() else kind
            assert read_output(folder / "out").schema.field(name).type == written
        else:
            told = rf"b\.parquet: column {name} is .*, in .*a\.parquet it is .*convert {name} .* leave {name} out"
            with pytest.raises(InvalidDataError, match=told):
                LocalJob(package, folder, folder / "out")


@pytest.mark.parametrize("encoding", ["DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY", "PLAIN"])
def test_every_encoding_of_a_page_scores_as_the_usual_one(package, tmp_path, encoding):
    rows = make_rows(100)
    write(tmp_path / "a.parquet", rows)
    write(tmp_path / "b.parquet", rows, use_dictionary=False, column_encoding={"brand": encoding})
    expected, found = (score(package, tmp_path / f"{k}.parquet", tmp_path / k)[1] for k in ("a", "b"))
    assert found.equals(expected)


def test_folders_are_columns_of_every_format(package, tmp_path):
    rows = make_rows(6)
    brands = rows.column("brand").to_pylist()
    for k in range(6):
        row = rows.slice(k, 1).drop_columns(["brand", "hour"])
        folder = (
            tmp_path
            / "in"
            / f"brand={brands[k] or '__HIVE_DEFAULT_PARTITION__'}"
            / f"hour={rows['hour'][k]}"
            / "city=Z%C3%BCrich"
        )
        folder.mkdir(parents=True)
        if k % 3 == 0:
            pq.write_table(row, folder / f"{k}.parquet")
        elif k % 3 == 1:
            pacsv.write_csv(row.set_column(0, "order_id", pa.array([str(k)])), folder / f"{k}.csv")
        else:
            (folder / f"{k}.jsonl").write_text(json.dumps(row.to_pylist()[0]))
    expected = score(package, write(tmp_path / "all.parquet", rows) or tmp_path / "all.parquet", tmp_path / "one")[1]
    job = LocalJob(
        package, tmp_path / "in", tmp_path / "out", keep=("user_id", "city", "brand"), partition_by=("brand",)
    )
    assert job.run()["rows_scored"] == 6
    found = read_output(tmp_path / "out")
    assert sorted(found.column("probability").to_pylist()) == sorted(expected.column("probability").to_pylist())
    assert set(found.column("city").to_pylist()) == {"Zürich"}
    again = LocalJob(package, tmp_path / "in", tmp_path / "again", keep=("city",))
    assert again.plan.columns.kept == ("city",)


def test_an_own_output_by_partitions_is_an_input_with_its_columns(package, tmp_path):
    groups = [None, "", "__HIVE_DEFAULT_PARTITION__", "a/b", "Zürich", "x=1"]
    write(tmp_path / "in" / "a.parquet", make_rows(6).append_column("g", pa.array(groups)))
    LocalJob(package, tmp_path / "in", tmp_path / "out", keep=("*",), partition_by=("g",)).run()
    mapping = {"defaults": []}
    for part in (tmp_path / "out").rglob("part-*"):
        table = pq.ParquetFile(part).read()
        pq.write_table(table.drop_columns(["probability", "recommendation", "version"]), part)
    LocalJob(package, tmp_path / "out", tmp_path / "more", keep=("order_id", "g"), mapping=mapping).run()
    assert read_output(tmp_path / "more").sort_by("order_id").column("g").to_pylist() == groups


def test_what_a_file_says_counts_more_than_its_folder_and_files_without_the_folder_have_null(package, tmp_path):
    rows = make_rows(2)
    write(tmp_path / "in" / "order_id=7" / "day=1" / "a.parquet", rows)
    write(tmp_path / "in" / "b.parquet", make_rows(1, 1, 2))
    found = score(package, tmp_path / "in", tmp_path / "out")[1]
    assert found.column("order_id").to_pylist() == [0, 1, 2]
    assert found.column("day").to_pylist() == ["1", "1", None]


def test_a_folder_that_gives_a_feature_no_number_sets_its_files_aside(package, tmp_path):
    write(tmp_path / "in" / "hour=1" / "a.parquet", make_rows(2).drop_columns("hour"))
    write(tmp_path / "in" / "hour=one" / "a.parquet", make_rows(2).drop_columns("hour"))
    job = LocalJob(package, tmp_path / "in", tmp_path / "out")
    job.score(0)
    with pytest.raises(InvalidDataError, match=r"its folder hour=one: .*got 'one'"):
        job.score(1)


def test_an_output_below_or_beside_the_input_is_not_read_again(package, tmp_path):
    rows = make_rows(6)
    write(tmp_path / "nest" / "rows.parquet", rows)
    first = LocalJob(package, tmp_path / "nest", tmp_path / "nest" / "scores", keep=("*",))
    assert first.run()["rows_read"] == 6
    job = LocalJob(package, tmp_path / "nest", tmp_path / "out", keep=("order_id",))
    assert job.run()["rows_read"] == 6
    assert describe(job.plan, job.tally)["not_read"] == ["scores (a job's output)"]


def test_endings_in_upper_case_are_read_and_others_are_named(package, tmp_path):
    rows = make_rows(6)
    write(tmp_path / "in" / "A.PARQUET", rows.slice(0, 2).set_column(0, "order_id", pa.array(["0", "1"])))
    pacsv.write_csv(rows.slice(2, 2), tmp_path / "in" / "B.CSV")
    lines = [json.dumps({**row, "order_id": str(row["order_id"])}) for row in rows.slice(4).to_pylist()]
    (tmp_path / "in" / "C.JSONL").write_text("\n".join(lines))
    (tmp_path / "in" / "notes.txt").write_text("")
    summary, found = score(package, tmp_path / "in", tmp_path / "out")
    assert (summary["rows_scored"], found.column("order_id").to_pylist()) == (6, list("012345"))


def write_members(path, values) -> None:
    rows = [{**row, "x": value} for row, value in zip(make_rows(len(values)).to_pylist(), values, strict=True)]
    path.write_text("\n".join(json.dumps({k: v for k, v in row.items() if v is not ...}) for row in rows))


@pytest.mark.parametrize("value", [5, 2.5, "a", [1, 2], {"a": 1}, True])
@pytest.mark.parametrize("first", [None, ...], ids=["null", "absent"])
def test_a_member_that_is_null_at_first_has_the_type_of_its_first_value(package, tmp_path, value, first):
    write_members(tmp_path / "a.jsonl", [first] * 100 + [value] * 100)
    summary, found = score(package, tmp_path / "a.jsonl", tmp_path / "out")
    assert summary["rows_scored"] == 200
    assert found.column("x").to_pylist() == [None] * 100 + [value] * 100


def test_a_member_that_is_null_in_all_of_the_first_lines_is_text_and_loses_nothing(package, tmp_path, monkeypatch):
    monkeypatch.setattr("batch.storage.text_rows.HEAD_LINES", 20)
    monkeypatch.setattr("batch.storage.text_rows.BLOCK_BYTES", 20_000)
    values = [None] * 150 + [5, 2.5, "a", [1, "ü"], {"a": None}, True, 12345678901234567890123]
    write_members(tmp_path / "a.jsonl", values)
    summary, found = score(package, tmp_path / "a.jsonl", tmp_path / "out")
    assert summary["rows_scored"] == len(values)
    texts = ["5", "2.5", "a", '[1, "ü"]', '{"a": null}', "true", "12345678901234567890123"]
    assert found.column("x").to_pylist() == [None] * 150 + texts


def test_a_member_that_is_null_in_one_file_has_its_type_of_another(package, tmp_path):
    (tmp_path / "in").mkdir()
    write_members(tmp_path / "in" / "a.jsonl", [None] * 3)
    write_members(tmp_path / "in" / "b.jsonl", [1, 2, 3])
    found = read_output(tmp_path / "out") if LocalJob(package, tmp_path / "in", tmp_path / "out").run() else None
    assert found.column("x").to_pylist() == [None] * 3 + [1, 2, 3]


@pytest.mark.parametrize("value", ["語" * 29, "x" * 254, "a/" * 90])
def test_a_row_whose_folder_would_have_too_long_a_name_is_rejected_by_name(package, tmp_path, value):
    write(tmp_path / "in" / "a.parquet", make_rows(30).append_column("p", pa.array(["b"] * 29 + [value])))
    job = LocalJob(package, tmp_path / "in", tmp_path / "out", partition_by=("p",))
    summary = job.run()
    assert (summary["rows_scored"], summary["rows_rejected"]) == (29, 1)
    assert summary["rejected_by_reason"] == {"p: too long a name for a folder": 1}
    (rejected,) = read_rejected(tmp_path / "out")
    assert (rejected["row"], rejected["column"]) == (29, "p")
    assert "its folder's name would have" in rejected["reason"]
    assert json.loads(rejected["content"])["p"] == value


def test_a_name_of_255_bytes_is_a_folder(package, tmp_path):
    value = "x" * (255 - len("p="))
    write(tmp_path / "in" / "a.parquet", make_rows(3).append_column("p", pa.array([value] * 3)))
    LocalJob(package, tmp_path / "in", tmp_path / "out", partition_by=("p",)).run()
    assert pq.read_table(tmp_path / "out").column("p").to_pylist() == [value] * 3


def test_a_row_that_breaks_two_rules_is_rejected_once(package, tmp_path):
    rows = spoil(make_rows(30), [3]).append_column("p", pa.array(["x" * 300 if k == 3 else "b" for k in range(30)]))
    write(tmp_path / "in" / "a.parquet", rows)
    assert LocalJob(package, tmp_path / "in", tmp_path / "out", partition_by=("p",)).run()["rows_rejected"] == 1


@pytest.mark.parametrize(
    ("name", "keep", "told"),
    [
        (
            "ordr_id",
            None,
            r"the output has no such column \(did you mean order_id\?\); there are order_id, user_id, n+, recommend",
        ),
        ("price", None, r"the column is not carried along: add price to --keep"),
        ("user_id", ("order_id",), r"not carried along: add user_id to --keep"),
        ("n" * 255, ("*",), r"names of more than 255 bytes"),
    ],
)
def test_a_partition_column_that_cannot_be_is_refused_with_what_to_do(package, tmp_path, name, keep, told):
    write(tmp_path / "in" / "a.parquet", make_rows(3).append_column("n" * 255, pa.array(["a"] * 3)))
    with pytest.raises(InvalidDataError, match=told):
        LocalJob(package, tmp_path / "in", tmp_path / "out", keep=keep, partition_by=(name,))


def test_files_that_differ_in_a_column_say_which_has_it(package, tmp_path):
    write(tmp_path / "in" / "a.parquet", make_rows(3))
    write(tmp_path / "in" / "b.parquet", make_rows(3).drop_columns("user_id"))
    with pytest.raises(InvalidDataError, match=r"column user_id: .*a\.parquet has it, .*b\.parquet does not"):
        LocalJob(package, tmp_path / "in", tmp_path / "out")
