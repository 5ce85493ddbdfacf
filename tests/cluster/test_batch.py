"""Batch jobs on a running service: the same scores as online, and every ending says what to do."""

from __future__ import annotations

import json
import signal
import subprocess

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve_app.jobs.adapters.output_folder import OutputFolder
from tests.testing_kit.batch.batch_jobs import make_rows, read_output, read_rejected, spoil, write_rows
from tests.testing_kit.batch.batch_process import check_complete, score_online, start_job, write_many
from tests.testing_kit.cluster.service_process import SCORECAT

pytestmark = pytest.mark.cluster


def test_batch_and_online_scores_are_the_same_to_the_last_bit(service, tmp_path):
    tables = write_rows(tmp_path / "in", 2, 5_000, group_rows=2_000)
    done = service.run("score", str(tmp_path / "in"), str(tmp_path / "out"), "--json")
    summary = json.loads(done.stdout)
    assert (summary["rows_read"], summary["rows_scored"], summary["rows_rejected"]) == (10_000, 10_000, 0)
    found = read_output(tmp_path / "out")
    assert found.column("order_id").to_pylist() == list(range(10_000))
    features = pa.concat_tables(tables).drop_columns(["order_id", "user_id"])
    assert np.array_equal(found.column("probability").to_numpy(), score_online(service, features))
    assert json.loads((tmp_path / "out" / "_SUMMARY.json").read_text())["is_complete"]


def test_a_submitted_job_needs_no_settings(service, tmp_path):
    write_rows(tmp_path / "in", 1, 1_000)
    done = subprocess.run(
        [
            *(str(SCORECAT.with_name("ray")), "job", "submit", "--address", service.facts["job_address"], "--"),
            *("python", "-m", "batch.score", str(tmp_path / "in"), str(tmp_path / "out"), "--explain", "2"),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "read 1,000 = scored 1,000 + rejected 0" in done.stdout
    assert len(read_output(tmp_path / "out").column("reasons")[0]) == 2


def test_a_torn_file_is_set_aside_and_scored_once_it_is_mended(service, tmp_path):
    write_rows(tmp_path / "in", 3, 1_000)
    path = tmp_path / "in" / "rows-1.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    done = service.run("score", str(tmp_path / "in"), str(tmp_path / "out"), check=False)
    assert done.returncode == 1
    assert f"set aside: {path}" in done.stderr
    summary = json.loads((tmp_path / "out" / "_SUMMARY.json").read_text())
    assert (summary["rows_scored"], len(summary["set_aside"]), summary["is_complete"]) == (2_000, 1, False)
    path.write_bytes(whole)
    service.run("score", str(tmp_path / "in"), str(tmp_path / "out"), "--resume")
    assert read_output(tmp_path / "out").column("order_id").to_pylist() == list(range(3_000))


def test_too_many_rejected_rows_end_the_job(service, tmp_path):
    (tmp_path / "in").mkdir()
    pq.write_table(spoil(make_rows(100), range(30)), tmp_path / "in" / "a.parquet")
    arguments = ["score", str(tmp_path / "in"), str(tmp_path / "out")]
    done = service.run(*arguments, "--max-rejected", "29", check=False)
    assert done.returncode == 2
    assert "30 of 100 rows were rejected, more than --max-rejected allows (29 rows)" in done.stderr
    assert len(read_rejected(tmp_path / "out")) == 30
    service.run(*arguments, "--max-rejected", "30", "--resume")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere", "out"], 2, "there is nothing at"),
        (["in", "in"], 1, "holds files already"),
        (["in", "out", "--resume"], 2, "no job that could be resumed"),
        (["in", "out", "--model", "purchase@77"], 2, "77"),
        (["in", "out", "--max-rejected", "many"], 2, "--max-rejected many"),
        (["in", "out", "--keep", "ordr_id"], 2, "did you mean order_id?"),
        (["in", "/proc/out"], 2, "cannot be written"),
        (["in", "out", "--mapping", "in/none.yaml"], 2, "cannot be read"),
    ],
)
def test_wrong_use_is_said_before_anything_is_scored(service, tmp_path, arguments, code, message):
    write_rows(tmp_path / "in", 1, 100)
    named = [str(tmp_path / a) if a in {"in", "out", "nowhere", "in/none.yaml"} else a for a in arguments]
    done = service.run("score", *named, check=False)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert not list(tmp_path.rglob("part-*"))


def test_an_interrupted_job_says_how_to_go_on_and_does(service, tmp_path):
    source = tmp_path / "in"
    table = write_many(source)
    expected = score_online(service, table.slice(0, 20_000).drop_columns(["order_id", "user_id"]))
    driver = start_job(service, source, tmp_path / "out")
    driver.send_signal(signal.SIGTERM)
    _, said = driver.communicate(timeout=30)
    assert driver.returncode == 130
    told = f"go on with: SCORECAT_HOME={service.home} {SCORECAT} score {source} {tmp_path / 'out'} --resume"
    assert told in said
    committed = OutputFolder(str(tmp_path / "out")).commits()
    summary = json.loads((tmp_path / "out" / "_SUMMARY.json").read_text())
    assert not (tmp_path / "ray").exists()  # no cluster of Ray's own was started in place of the one that was left
    assert not summary["is_complete"]
    assert summary["rows_read"] == sum(commit.counts.read for commit in committed) < table.num_rows
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("_job/commits/*")}
    service.run("score", str(source), str(tmp_path / "out"), "--resume")
    check_complete(tmp_path / "out", table, expected)
    assert {p: p.stat().st_mtime_ns for p in before} == before  # nothing that was done was done again
