"""Batch input and output in an object store: the same parts as in a folder, whole or not there, and resumable."""

from __future__ import annotations

import json

import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from batch.jobs.prepare import begin_again, check_unchanged, take_up
from serve_app.errors import BadRequestError, ConflictError, InvalidDataError, NotFoundError
from serve_app.jobs.adapters.output_folder import PLAN, SUMMARY, OutputFolder
from serve_app.jobs.core.spec import JobSpec
from serve_app.storage.locations import open_location
from tests.testing_kit.batch.batch_jobs import LocalJob, make_rows, read_output, spoil

pytestmark = pytest.mark.contract
N_ROWS = 600


@pytest.fixture
def store(remote_place) -> str:
    """A prefix of its own in a bucket of each kind, which pyarrow reaches as it would the real store's."""
    return remote_place.root


def put(location: str, name: str, data: bytes) -> None:
    system, root = open_location(location)
    with system.open_output_stream(f"{root}/{name}", compression=None) as sink:
        sink.write(data)


def fill(location: str, folder, kind: str = "parquet") -> None:
    """Put two files of rows at a location of a store, and in a folder."""
    folder.mkdir()
    table = spoil(make_rows(N_ROWS), [5])
    for number in range(2):
        path, rows = folder / f"{number}.{kind}", table.slice(300 * number, 300)
        if kind == "parquet":
            pq.write_table(rows, path, row_group_size=100)
        else:
            rows.to_pandas().to_csv(path, index=False)
        put(location, path.name, path.read_bytes())


def read_remote(location: str, folder) -> dict[str, bytes]:
    system, root = open_location(location)
    found = system.get_file_info(pafs.FileSelector(root, recursive=True))
    files = {i.path[len(root) + 1 :]: system.open_input_stream(i.path).read() for i in found if i.is_file}
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return files


@pytest.mark.parametrize("kind", ["parquet", "csv.gz"])
def test_a_job_reads_and_writes_a_store_as_it_does_a_folder(store, package, tmp_path, kind):
    fill(f"{store}/in", tmp_path / "in", kind)
    remote = LocalJob(package, f"{store}/in", f"{store}/out")
    summary = remote.run()
    remote.output.write_json(SUMMARY, summary)
    assert (summary["rows_read"], summary["rows_scored"], summary["rows_rejected"]) == (N_ROWS, N_ROWS - 1, 1)
    files = read_remote(f"{store}/out", tmp_path / "got")
    assert json.loads(files[SUMMARY])["is_complete"]
    assert not [name for name in files if "staging" in name]
    LocalJob(package, tmp_path / "in", tmp_path / "out").run()
    assert read_output(tmp_path / "got").equals(read_output(tmp_path / "out"))


def test_a_job_in_a_store_goes_on_where_it_was(store, package, tmp_path):
    fill(f"{store}/in", tmp_path / "in")
    job = LocalJob(package, f"{store}/in", f"{store}/out")
    assert len(job.plan.units) >= 2
    job.score(0)
    with pytest.raises(ConflictError, match="--resume"):
        LocalJob(package, f"{store}/in", f"{store}/out")
    output = OutputFolder(f"{store}/out")
    assert output.read_json(PLAN)["model"] == "purchase"
    plan, _ = take_up(JobSpec(job.spec.input), output, None, lambda *_: package.manifest)
    tally = begin_again(output, plan)
    check_unchanged(plan, tally)
    assert [unit.number for unit in tally.open_units] == [unit.number for unit in plan.units[1:]]
    again = LocalJob(package, f"{store}/in", f"{store}/out", plan=plan)
    again.tally = tally
    for unit in tally.open_units:
        again.score(unit.number)
    assert again.tally.to_summary()["rows_read"] == N_ROWS


def test_folders_of_a_store_are_columns_and_own_outputs_and_other_files_no_input(store, package, tmp_path):
    for number in range(2):
        path = tmp_path / "rows.parquet"
        pq.write_table(make_rows(10, number, 10 * number).drop_columns("brand"), path)
        put(f"{store}/in", f"day=2020-01-0{number}/brand=a%20b/{number}.PARQUET", path.read_bytes())
    put(f"{store}/in", "_SUCCESS", b"")
    put(f"{store}/in", "day=2020-01-00/.0.parquet.crc", b"x")
    put(f"{store}/in", "notes.txt", b"x")
    assert LocalJob(package, f"{store}/in", f"{store}/in/scores").run()["rows_read"] == 20
    job = LocalJob(package, f"{store}/in", f"{store}/out", keep=("order_id", "day"), partition_by=("day",))
    assert job.run()["rows_scored"] == 20
    assert job.plan.not_read == ("notes.txt", "scores (a job's output)")
    read_remote(f"{store}/out", tmp_path / "got")
    found = pq.read_table(tmp_path / "got").sort_by("order_id")
    assert [str(day) for day in found.column("day").to_pylist()] == ["2020-01-00"] * 10 + ["2020-01-01"] * 10


def test_what_is_not_there_is_said_as_for_a_folder(store, package, tmp_path):
    with pytest.raises((NotFoundError, InvalidDataError)):
        LocalJob(package, f"{store}/none", f"{store}/out")


def test_a_bucket_that_is_not_there_is_named(store, package):
    missing = store.partition("://")[0] + "://no-such-bucket-0815/in"
    with pytest.raises(BadRequestError, match="no-such-bucket-0815"):
        LocalJob(package, missing, f"{store}/out")
