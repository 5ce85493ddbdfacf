"""A batch job reads from a bucket and writes into one what it writes into a folder, and goes on where it was cut."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from batch.storage.folder import OutputFolder, open_location
from serve_app.adapters.catboost_model import CatBoostScorer
from serve_app.adapters.package_dir import load_package
from serve_app.core.errors import BadRequestError
from tests.testing_kit.batch_jobs import LocalJob, read_output, spoil, write_rows

pytestmark = pytest.mark.contract


@pytest.fixture
def package(package_dir):
    return load_package(package_dir, CatBoostScorer.load)


@pytest.fixture
def rows(tmp_path) -> Path:
    """Two files of 500 rows, two of them bad."""
    folder = tmp_path / "rows"
    tables = write_rows(folder, 2, 500)
    pq.write_table(spoil(tables[1], [3, 77]), folder / "rows-1.parquet", row_group_size=100)
    return folder


def upload(folder: Path, location: str) -> str:
    system, root = open_location(location)
    for file in sorted(folder.iterdir()):
        with system.open_output_stream(f"{root}/{file.name}") as stream:
            stream.write(file.read_bytes())
    return location


def read_parts(location: str) -> pa.Table:
    system, root = open_location(location)
    files = [f.path for f in system.get_file_info(pafs.FileSelector(root)) if f.base_name.startswith("part-")]
    return pa.concat_tables([pq.read_table(path, filesystem=system) for path in sorted(files)])


def test_a_job_between_buckets_equals_one_between_folders(remote_place, package, rows, tmp_path):
    source, output = upload(rows, f"{remote_place.root}/in"), f"{remote_place.root}/out"
    here, there = LocalJob(package, rows, tmp_path / "out"), LocalJob(package, source, output)
    assert there.run() == here.run()
    assert read_parts(output).equals(read_output(tmp_path / "out"))
    assert read_parts(f"{output}/_rejected").num_rows == 2


def test_a_job_into_a_bucket_goes_on_where_it_was_cut(remote_place, package, rows):
    source, output = upload(rows, f"{remote_place.root}/in"), f"{remote_place.root}/out"
    cut = LocalJob(package, source, output)
    cut.score(0)
    cut.score(2)
    assert not OutputFolder(output).is_empty()
    done = {commit.unit for commit in OutputFolder(output).commits()}
    assert done == {0, 2}
    rest = LocalJob(package, source, output, plan=cut.plan)
    for unit in cut.plan.units:
        if unit.number not in done:
            rest.score(unit.number)
    whole = f"{remote_place.root}/whole"
    LocalJob(package, source, whole).run()
    assert read_parts(output).equals(read_parts(whole))


def test_a_bucket_that_is_not_there_is_named(remote_place, package):
    missing = remote_place.root.split("://")[0] + "://no-such-bucket-0815/in"
    with pytest.raises(BadRequestError, match="no-such-bucket-0815"):
        LocalJob(package, missing, f"{remote_place.root}/out")
