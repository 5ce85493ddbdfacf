"""How a job is planned, counted, paced and taken up again."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from batch.jobs.apps import MOST_CALLS, share_calls
from batch.jobs.prepare import begin_again, check_unchanged, take_up, with_workers
from batch.storage.row_files import SUFFIXES
from batch.transforms.columns import ColumnMapping, choose_columns, parse_mapping
from batch.transforms.pace import Pace
from batch.transforms.summary import RejectLimit
from serve_app.errors import BadRequestError, ConflictError, InvalidDataError, InvariantError, NotFoundError
from serve_app.features.core.row_errors import list_unreadable
from serve_app.features.core.row_keys import PUBLISHED_COLUMNS
from serve_app.features.core.specs import HISTORY_NAMES, PURCHASE_FEATURES, arrow_schema
from serve_app.jobs.adapters.output_folder import OutputFolder
from serve_app.jobs.core.commits import Commit, PartFile, SetAside, UnitTally
from serve_app.jobs.core.progress import RateMeter, format_duration
from serve_app.jobs.core.record import JobRows
from serve_app.jobs.core.spec import JobSpec
from serve_app.jobs.core.units import InputFile, plan_units
from serve_app.storage.file_listing import list_files
from serve_app.storage.locations import open_location
from tests.testing_kit.batch.batch_jobs import LocalJob, make_rows, write_rows

pytestmark = pytest.mark.unit
SCHEMA = pa.schema([pa.field("order_id", pa.int64()), *arrow_schema(PURCHASE_FEATURES)])


@given(st.lists(st.lists(st.integers(0, 50), max_size=12), max_size=6), st.integers(1, 100))
def test_every_row_group_is_in_one_unit(files, unit_rows):
    found = [InputFile(f"f{k}", 1, 1, tuple(groups)) for k, groups in enumerate(files)]
    units = plan_units(found, unit_rows)
    assert [u.number for u in units] == list(range(len(units)))
    for file in found:
        mine = [u for u in units if u.path == file.path]
        at = 0
        for unit in mine:
            groups = range(unit.first_group, unit.first_group + unit.n_groups)
            assert unit.n_rows == sum(file.group_rows[g] for g in groups) > 0
            assert unit.first_row == at == sum(file.group_rows[: unit.first_group])
            assert unit.n_rows <= unit_rows or sum(file.group_rows[g] > 0 for g in groups) == 1
            at += unit.n_rows
        assert at == sum(file.group_rows)


def test_a_file_whose_rows_are_not_known_is_one_unit():
    (unit,) = plan_units([InputFile("a.csv", 10, 1)])
    assert (unit.n_rows, unit.n_groups, unit.first_row) == (None, None, 0)


def choose(schema=SCHEMA, mapping=None, keep=None):
    return choose_columns("f", schema, PURCHASE_FEATURES, mapping or ColumnMapping({}), keep, ["probability"])


def test_columns_that_are_no_feature_are_kept():
    columns = choose()
    assert columns.kept == ("order_id",)
    assert columns.read[0] == "order_id"
    assert len(columns.read) == 23
    assert choose(keep=["*"]).kept == tuple(SCHEMA.names)
    assert choose(keep=["brand"]).kept == ("brand",)
    assert choose(keep=[]).kept == ()


def test_history_that_no_column_carries_is_looked_up_by_the_columns_that_name_the_shopper():
    fields = [f for f in SCHEMA if f.name not in HISTORY_NAMES or f.name == "max_price"]
    keys = {"customer": pa.int64(), "session_id": pa.string(), "product_id": pa.string(), "event_time": pa.string()}
    schema = pa.schema([*fields, *(pa.field(name, kind) for name, kind in keys.items())])
    mapping = parse_mapping({"history": True, "columns": {"user_id": "customer"}}, PURCHASE_FEATURES)
    columns = choose(schema, mapping)
    assert len(columns.features) == 7
    assert columns.keys == (
        ("user_id", "customer"), ("session_id", "session_id"), ("product_id", "product_id"),
        ("event_time", "event_time"),
    )  # fmt: skip
    assert columns.kept == ("order_id", *keys)
    row = {**dict.fromkeys(schema.names), "customer": 7, "session_id": "s", "product_id": "p"}
    times = ["2019-10-01 00:00:00 UTC", "noon", None]
    batch = columns.select_features(pa.RecordBatch.from_pylist([row | {"event_time": t} for t in times], schema))
    assert batch.column("user_id").to_pylist() == ["7"] * 3
    assert batch.column("event_time").to_pylist() == [1_569_888_000, None, None]
    assert [(e.row, e.feature) for e in list_unreadable(batch).values()] == [(1, "event_time")]
    with pytest.raises(InvalidDataError, match="no column for user_id"):
        choose(schema, parse_mapping({"history": True}, PURCHASE_FEATURES))


def test_a_missing_column_is_named_with_its_nearest():
    schema = pa.schema([pa.field("pryce" if f.name == "price" else f.name, f.type) for f in SCHEMA])
    with pytest.raises(InvalidDataError, match=r"f has no column price \(did you mean pryce\?\).*--mapping.*defaults"):
        choose(schema)
    mapping = parse_mapping({"columns": {"price": "pryce"}}, PURCHASE_FEATURES)
    assert ("price", "pryce") in choose(schema, mapping).features
    without = parse_mapping({"defaults": ["price"]}, PURCHASE_FEATURES)
    assert choose(schema, without).kept == ("order_id", "pryce")
    nothing = parse_mapping({"defaults": [spec.name for spec in PURCHASE_FEATURES]}, PURCHASE_FEATURES)
    with pytest.raises(InvalidDataError, match="gives every feature its default"):
        choose(schema, nothing)


def test_the_mapping_that_the_documentation_shows_is_one():
    page = (Path(__file__).parents[3] / "docs" / "batch.md").read_text()
    shown = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    assert parse_mapping(shown, PURCHASE_FEATURES) == ColumnMapping(
        {"price": "unit_price", "user_id": "customer"}, ("brand",), has_history=True
    )


def test_an_event_log_is_told_from_a_table_of_features():
    log = pa.schema([pa.field(name, pa.string()) for name in (*PUBLISHED_COLUMNS, "event_date")])
    with pytest.raises(InvalidDataError, match=r"^f is an event log: .*`scorecat backtest EVENTS OUTPUT`"):
        choose(log)
    mapping = parse_mapping({"history": True, "columns": {"session_id": "user_session"}}, PURCHASE_FEATURES)
    with pytest.raises(InvalidDataError, match="no column hour"):  # its shoppers are looked up
        choose(log, mapping)


def test_missing_history_says_where_it_comes_from_and_suggests_no_other_feature():
    schema = pa.schema([f for f in SCHEMA if f.name not in ("avg_price", "max_price", "brand")])
    with pytest.raises(InvalidDataError, match=r"`history: true`.*`scorecat backtest`") as caught:
        choose(schema)
    assert "over HTTP the member `mapping`" in str(caught.value)
    assert "did you mean" not in str(caught.value)
    with pytest.raises(InvalidDataError) as caught:
        choose(pa.schema([f for f in SCHEMA if f.name != "brand"]))
    assert "history" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("price", pa.string(), "column price must hold numbers, not string"),
        ("brand", pa.bool_(), "column brand must hold text or whole numbers, not bool"),
        ("hour", pa.list_(pa.int8()), "must hold numbers"),
    ],
)
def test_a_mistyped_column_is_refused(name, kind, message):
    schema = SCHEMA.set(SCHEMA.get_field_index(name), pa.field(name, kind))
    with pytest.raises(InvalidDataError, match=message):
        choose(schema)


def test_columns_that_cannot_be_told_apart_are_refused():
    with pytest.raises(InvalidDataError, match="column order_id more than once"):
        choose(SCHEMA.append(pa.field("order_id", pa.int64())))
    with pytest.raises(InvalidDataError, match="probability, which is also the name of a result"):
        choose(SCHEMA.append(pa.field("probability", pa.float64())))
    with pytest.raises(InvalidDataError, match=r"no column order to keep \(did you mean order_id\?\)"):
        choose(keep=["order"])


KEYS = [pa.field(name, pa.string()) for name in ("user_id", "session_id", "product_id")]


@pytest.mark.parametrize(
    ("misspelt", "meant"), [("MaxPrice", "max_price"), ("max_prcie", "max_price"), ("event_tme", "event_time")]
)
def test_a_misspelt_column_whose_input_would_be_looked_up_is_named_unless_it_is_spoken_for(misspelt, meant):
    fields = [f for f in SCHEMA if f.name != "max_price"]
    schema = pa.schema([*fields, *KEYS, pa.field(misspelt, pa.float64())])
    history = parse_mapping({"history": True}, PURCHASE_FEATURES)
    with pytest.raises(InvalidDataError, match=rf"no column {meant}, .*{misspelt} \(did you mean {meant}\?\).*--keep"):
        choose(schema, history)
    with pytest.raises(InvalidDataError, match="did you mean"):
        choose(schema, history, ["*"])
    assert choose(schema, history, [misspelt]).kept == (misspelt,)
    lifted = parse_mapping({"history": True, "defaults": [meant]}, PURCHASE_FEATURES)
    assert misspelt in choose(schema, lifted).kept
    if meant == "max_price":
        renamed = parse_mapping({"history": True, "columns": {meant: misspelt}}, PURCHASE_FEATURES)
        assert (meant, misspelt) in choose(schema, renamed).features
        without = parse_mapping({"defaults": [meant]}, PURCHASE_FEATURES)
        assert misspelt in choose(schema, without).kept


def test_columns_of_the_log_and_those_like_a_feature_that_is_there_are_carried_along():
    others = [*PUBLISHED_COLUMNS, "prise", "MAX_PRICE", "event_id"]
    schema = pa.schema([*SCHEMA, *(pa.field(n, pa.string()) for n in others if n not in SCHEMA.names)])
    kept = choose(schema).kept
    assert {"user_session", "event_type", "prise", "MAX_PRICE"} <= set(kept)


def test_a_missing_key_is_named_with_the_column_that_was_meant():
    schema = pa.schema([*SCHEMA, *KEYS[1:], pa.field("UserId", pa.string())])
    with pytest.raises(InvalidDataError, match=r"no column for user_id \(did you mean UserId\?\), which history"):
        choose(schema, parse_mapping({"history": True}, PURCHASE_FEATURES))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "has the members columns, defaults, history"),
        ({"colums": {}}, "has the members columns, defaults, history"),
        ({"columns": ["price"]}, "`columns`"),
        ({"defaults": "price"}, "`defaults`"),
        ({"columns": {"prise": "x"}}, r"'prise', which is no feature of the model \(did you mean price\?\)"),
        ({"columns": {"price": "x"}, "defaults": ["price"]}, "both a column and the default"),
    ],
)
def test_a_mapping_file_that_means_nothing_is_refused(value, message):
    with pytest.raises(InvalidDataError, match=message):
        parse_mapping(value, PURCHASE_FEATURES)


def test_counts_that_do_not_add_up_end_the_job():
    tally = UnitTally(plan_units([InputFile("a", 1, 1, (10,))]))
    tally.add([Commit(0, 0, JobRows(10, 8, 1))])
    with pytest.raises(InvariantError, match="10 read, 8 scored and 1 rejected"):
        tally.to_summary()
    tally.add([Commit(0, 0, JobRows(9, 8, 1))])
    with pytest.raises(InvariantError, match="10 planned, 9 read"):
        tally.to_summary()


def test_the_summary_says_what_is_missing():
    tally = UnitTally(plan_units([InputFile("a", 1, 1, (10, 10, 10))], 10))
    tally.add([Commit(1, 0, JobRows(5, 5, 0), is_last=False), Commit(0, 0, JobRows(10, 9, 1))])
    tally.set_aside[2] = SetAside(2, "a", "torn", 10)
    summary = tally.to_summary()
    assert not summary["is_complete"]
    assert summary["missing"] == [{"unit": 1, "path": "a", "reason": "not reached"}]
    assert [s["reason"] for s in summary["set_aside"]] == ["torn"]
    assert (summary["rows_read"], summary["units_done"]) == (15, 1)
    assert summary["share"] == tally.share == 0.5
    tally.add([Commit(1, 1, JobRows(5, 5, 0))])
    assert tally.is_done(1)
    unknown = UnitTally(plan_units([InputFile("a.csv", 30, 1), InputFile("b.csv", 10, 1)]))
    unknown.add([Commit(0, 0, JobRows(7, 7, 0)), Commit(1, 0, JobRows(5, 5, 0), is_last=False)])
    assert (unknown.rows_planned, unknown.share) == (None, 0.75)


def test_commits_come_back_as_they_were_written(tmp_path):
    output = OutputFolder(str(tmp_path))
    output.prepare()
    file = PartFile("a=1/part.parquet", 4)
    commit = Commit(3, 1, JobRows(5, 4, 1), (file,), PartFile("_rejected/part.parquet", 1), False, {"x": 1}, ("late",))
    output.commit(commit)
    assert output.commits() == [commit]
    record = tmp_path / "_job" / "commits" / "000003-0001.json"
    plain = json.loads(record.read_text())
    record.write_text(json.dumps({name: plain[name] for name in plain if name not in ("reasons", "new_members")}))
    assert output.commits() == [dataclasses.replace(commit, reasons={}, new_members=())]  # of an earlier release
    record.write_text('{"unit": 3}')
    with pytest.raises(InvariantError, match=r"000003-0001\.json is damaged"):
        output.commits()


@pytest.mark.parametrize(
    ("text", "counts", "is_end", "broken"),
    [
        ("3", JobRows(10, 7, 3), False, False),
        ("3", JobRows(10, 6, 4), False, True),
        ("2%", JobRows(100, 50, 50), False, False),
        ("2%", JobRows(100, 50, 50), True, True),
        ("2%", JobRows(10_000, 9_799, 201), False, True),
        ("0", JobRows(1, 1, 0), True, False),
        ("100%", JobRows(5, 0, 5), True, False),
    ],
)
def test_too_many_rejected_rows(text, counts, is_end, broken):
    assert RejectLimit.parse(text).is_broken(counts, is_end=is_end) is broken


@pytest.mark.parametrize("text", ["", "x", "-1", "101%", "%", "1.5"])
def test_a_limit_that_is_none_is_refused(text):
    with pytest.raises(BadRequestError, match="--max-rejected"):
        RejectLimit.parse(text)


def test_the_pace_follows_the_queue():
    pace = Pace(4)
    for _ in range(40):
        pace.note_answer(0.1, 1000)
    assert pace.n_calls == 4
    for _ in range(40):
        pace.note_answer(0.5, 1000)
    assert pace.n_calls == 1
    for _ in range(400):  # what lasts is the new measure
        pace.note_answer(0.5, 1000)
    assert pace.n_calls == 4
    pace.note_refusal()
    assert pace.n_calls == 2


def test_progress_is_by_rows_or_by_bytes():
    meter = RateMeter(1000)
    meter.measure(0.0, 0, 0, 0.0)
    done = meter.measure(10.0, 250, 2, 0.9)
    assert (done.share, done.rows_per_s, done.left_s) == (0.25, 25.0, 30.0)
    assert str(done) == "250 of 1,000 rows · 25 % · 25 rows/s · 30 s left · 2 rejected"
    unknown = RateMeter(None)
    unknown.measure(0.0, 0, 0, 0.0)
    assert unknown.measure(10.0, 250, 0, 0.5).left_s == 10.0
    assert [format_duration(s) for s in (12, 200, 7500)] == ["12 s", "3 min 20 s", "2 h 5 min"]


def test_workers_are_as_many_as_fit():
    assert with_workers(2, 1.7, 0.25, 4) == (2, "")
    assert with_workers(8, 1.0, 0.25, 4) == (4, "4 workers in place of 8: 1 CPUs are free")
    assert with_workers(None, 9.0, 0.25, 3) == (3, "")
    with pytest.raises(BadRequestError, match="no CPU is free"):
        with_workers(None, 0.2, 0.25, 2)


def test_calls_of_all_workers_are_no_more_than_running_replicas_are_meant_to_have():
    assert [share_calls(n, 1) for n in (0, 1, 2, 9)] == [1, 2, MOST_CALLS, MOST_CALLS]
    assert [share_calls(4, n) for n in (2, 4, 8, 99)] == [4, 2, 1, 1]


def test_an_output_that_is_there_is_not_written_over(package, tmp_path):
    write_rows(tmp_path / "in", 1, 100)
    LocalJob(package, tmp_path / "in", tmp_path / "out").run()
    with pytest.raises(ConflictError, match="a job's output: continue it with --resume"):
        LocalJob(package, tmp_path / "in", tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").touch()
    with pytest.raises(ConflictError, match="files already"):
        LocalJob(package, tmp_path / "in", tmp_path / "other")
    with pytest.raises(BadRequestError, match="is a file"):
        LocalJob(package, tmp_path / "in", tmp_path / "other" / "x")


def find(location, *, is_confined: bool = False) -> list[str]:
    found = list_files(*open_location(str(location)), SUFFIXES, is_confined=is_confined)
    return [os.path.relpath(info.path, location) for info in found.files]


def test_links_lead_to_no_file_twice(tmp_path):
    home = tmp_path / "in"
    write_rows(home, 1, 10)
    write_rows(home / "day=1", 1, 10)
    write_rows(tmp_path / "beside", 1, 10)
    (home / "day=1" / "loop").symlink_to(home)
    (home / "again").symlink_to(home / "day=1")
    (home / "a-link.parquet").symlink_to(home / "rows-0.parquet")
    (home / "broken.parquet").symlink_to(home / "nowhere")
    assert find(home) == find(home, is_confined=True) == ["day=1/rows-0.parquet", "rows-0.parquet"]
    (home / "more").symlink_to(tmp_path / "beside")
    assert find(home) == ["day=1/rows-0.parquet", "more/rows-0.parquet", "rows-0.parquet"]


@pytest.mark.parametrize("target", ["beside", "beside/rows-0.parquet"])
def test_jobs_over_http_follow_no_link_out_of_their_folder(package, tmp_path, target):
    write_rows(tmp_path / "in", 1, 10)
    write_rows(tmp_path / "beside", 1, 10)
    name = "x.parquet" if target.endswith("parquet") else "x"
    (tmp_path / "in" / name).symlink_to(tmp_path / target)
    with pytest.raises(InvalidDataError, match=rf"{name} is a link to a place outside .*/in, which jobs asked for"):
        find(tmp_path / "in", is_confined=True)
    assert len(find(tmp_path / "in")) == 2


def test_an_empty_input_is_refused(package, tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(InvalidDataError, match="holds no file that ends in"):
        LocalJob(package, tmp_path / "in", tmp_path / "out")
    with pytest.raises(NotFoundError, match="nothing at"):
        LocalJob(package, tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_torn_file_does_not_keep_the_others_from_being_planned(package, tmp_path):
    write_rows(tmp_path / "in", 3, 100)
    path = tmp_path / "in" / "rows-1.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    job = LocalJob(package, tmp_path / "in", tmp_path / "out")
    assert [u.n_rows for u in job.plan.units] == [100, None, 100]
    assert job.score(2)[0].counts.scored == 100
    with pytest.raises((pa.ArrowException, OSError)):
        job.score(1)


def test_files_that_do_not_fit_together_are_refused(package, tmp_path):
    write_rows(tmp_path / "in", 2, 100)
    other = make_rows(10)
    pq.write_table(other.set_column(0, "order_id", pa.array(["x"] * 10)), tmp_path / "in" / "z.parquet")
    told = r"z\.parquet: column order_id is string, in .* it is int64.*separate jobs"
    with pytest.raises(InvalidDataError, match=told):
        LocalJob(package, tmp_path / "in", tmp_path / "out")
    pq.write_table(other.drop_columns("order_id"), tmp_path / "in" / "z.parquet")
    with pytest.raises(InvalidDataError, match="differ in the column order_id"):
        LocalJob(package, tmp_path / "in", tmp_path / "out")


def test_a_job_is_taken_up_as_it_was_planned(package, tmp_path):
    write_rows(tmp_path / "in", 2, 100)
    job = LocalJob(package, tmp_path / "in", tmp_path / "out")
    job.score(1)
    output = OutputFolder(str(tmp_path / "out"))
    plan, _ = take_up(JobSpec(str(tmp_path / "in")), output, None, lambda *_: package.manifest)
    assert plan == job.plan
    tally = begin_again(output, plan)
    assert [u.number for u in tally.open_units] == [0]
    check_unchanged(plan, tally)
    resumed = LocalJob(package, tmp_path / "in", tmp_path / "out", plan=plan)
    assert resumed.run()["is_complete"]
    assert resumed.model.n_calls == 2


def test_a_job_is_not_taken_up_as_another(package, tmp_path):
    write_rows(tmp_path / "in", 1, 100)
    LocalJob(package, tmp_path / "in", tmp_path / "out")
    output = OutputFolder(str(tmp_path / "out"))
    same, other = JobSpec(str(tmp_path / "in")), JobSpec(str(tmp_path / "in"), keep=("order_id",))
    with pytest.raises(ConflictError, match=r"begun with keep None, now it is \['order_id'\]"):
        take_up(other, output, None, lambda *_: package.manifest)
    with pytest.raises(ConflictError, match="begun with version 1, not 2"):
        take_up(same, output, 2, lambda *_: package.manifest)
    with pytest.raises(NotFoundError, match="no job that could be resumed"):
        take_up(same, OutputFolder(str(tmp_path)), None, lambda *_: package.manifest)


def test_what_is_not_said_when_a_job_is_taken_up_is_as_it_was(package, tmp_path):
    write_rows(tmp_path / "in", 1, 100)
    wanted = {"keep": ("order_id",), "mapping": {"defaults": ["price"]}, "partition_by": ("version",), "explain": 3}
    job = LocalJob(package, tmp_path / "in", tmp_path / "out", **wanted)

    def again(**said):
        return take_up(JobSpec(str(tmp_path / "in"), **said), job.output, None, lambda *_: package.manifest)[0]

    assert again() == again(**wanted) == again(model="purchase") == job.plan
    with pytest.raises(ConflictError, match="begun with explain 3, now it is 0: leave that out"):
        again(explain=0)
    with pytest.raises(ConflictError, match="begun with the model purchase, not pets"):
        again(model="pets@2")


def test_a_later_run_is_as_the_one_before_where_nothing_else_is_said():
    said = JobSpec("/in", max_rejected="7", workers=2)
    assert said.after({}) == said  # of a job that was begun by an earlier release
    found = said.after({"max_rejected": "5%", "workers": None, "pool": "dedicated", "of_another_release": 1})
    assert found == JobSpec("/in", max_rejected="7", workers=2, pool="dedicated")
    assert (found.is_shared, said.is_shared) == (False, True)


def test_an_input_that_changed_is_not_mixed_with_what_it_was(package, tmp_path):
    write_rows(tmp_path / "in", 2, 100)
    job = LocalJob(package, tmp_path / "in", tmp_path / "out")
    job.score(0)
    output = OutputFolder(str(tmp_path / "out"))
    os.utime(tmp_path / "in" / "rows-0.parquet", ns=(1, 1))
    check_unchanged(job.plan, begin_again(output, job.plan))
    os.utime(tmp_path / "in" / "rows-1.parquet", ns=(1, 1))
    with pytest.raises(ConflictError, match=r"rows-1\.parquet has changed since the job was planned"):
        check_unchanged(job.plan, begin_again(output, job.plan))


@pytest.mark.parametrize("module", ["batch.score", "batch.view", "serve_app.cli.jobs.score", "serve_app.cli"])
def test_each_entry_can_be_imported_first(module):
    done = subprocess.run([sys.executable, "-c", f"import {module}"], check=False, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_output_belongs_to_one_process_at_a_time(tmp_path):
    """Also one that is killed lets go of it."""
    location = str(tmp_path / "out")
    hold = (
        "import sys; from serve_app.jobs.adapters.output_folder import OutputFolder;"
        f"OutputFolder({location!r}).claim(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConflictError, match=r"a job writes into .*out now"):
            OutputFolder(location).claim()
        other.kill()
    OutputFolder(location).claim()
    OutputFolder(location).claim()
