"""Jobs of a running service: asked for over HTTP, seen and ended by anybody, with a pool of their own."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve_app.cluster.environment import cluster_environment
from serve_app.cluster.spec import load_spec
from serve_app.jobs.adapters.output_folder import OutputFolder
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from tests.testing_kit.batch.batch_jobs import make_rows, read_output, spoil
from tests.testing_kit.batch.batch_process import check_complete, score_online, start_job, write_many
from tests.testing_kit.cluster.service_process import ServiceProcess, wait_for

pytestmark = pytest.mark.cluster
ENDED = {"succeeded", "incomplete", "failed", "cancelled", "died"}


def await_end(service: ServiceProcess, job_id: str, timeout_s: float = 90) -> dict:
    def ended():
        found = httpx.get(f"{service.url}/v1/jobs/{job_id}", timeout=30).json()
        return found if found["state"] in ENDED else None

    return wait_for(ended, timeout_s, f"the end of {job_id}")


@contextlib.contextmanager
def held(service: ServiceProcess, source: Path, output: Path, *options: str):
    """A job whose driver stands still in the middle, for less than its lease; give the driver and the job."""
    driver = start_job(service, source, output, *options)

    def running():
        jobs = httpx.get(f"{service.url}/v1/jobs", timeout=30).json()["jobs"]
        return next((job for job in jobs if job["output"] == str(output) and job["progress"]), None)

    job = wait_for(running, 10, "progress of the job")
    driver.send_signal(signal.SIGSTOP)
    try:
        assert job["state"] == "running"
        yield driver, job
    finally:
        driver.send_signal(signal.SIGCONT)


def pools(service: ServiceProcess) -> list[str]:
    return [app for app in service.deployments() if "-job-" in app]


def test_jobs_asked_for_over_http_wait_their_turn_and_are_downloaded(service):
    table = spoil(make_rows(3_000), [7])
    (service.home / "data" / "in").mkdir(parents=True, exist_ok=True)
    pq.write_table(table, service.home / "data" / "in" / "rows.parquet")
    body = {"input": "in", "keep": ["order_id"], "who": "anna"}
    answers = [httpx.post(f"{service.url}/v1/jobs", json=body, timeout=30) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202], answers[0].text
    first, second = (answer.json()["id"] for answer in answers)
    assert answers[0].headers["location"] == f"/v1/jobs/{first}"
    found = await_end(service, first)
    assert found["state"] == "succeeded", found
    assert (found["model"], found["version"], found["who"], found["output"]) == ("purchase", 1, "anna", None)
    assert (found["progress"]["rows_scored"], found["progress"]["rows_rejected"]) == (2_999, 1)
    assert (found["progress"]["percent"], found["summary"]["is_complete"]) == (100, True)
    links = {one["name"]: one["href"] for one in found["results"]}
    assert set(links) == {"part-000000-0000.parquet", "_rejected/part-000000-0000.parquet", "_SUMMARY.json"}
    got = pq.read_table(pa.BufferReader(httpx.get(service.url + links["part-000000-0000.parquet"]).content))
    rows = pa.concat_tables([table.slice(0, 7), table.slice(8)])
    assert got.column("order_id").equals(rows.column("order_id"))
    assert np.array_equal(
        got.column("probability").to_numpy(), score_online(service, rows.drop_columns(["order_id", "user_id"]))
    )
    for name in ("_job/plan.json", "../order.json", "%2e%2e/order.json", "..%2forder.json"):
        assert httpx.get(f"{service.url}/v1/jobs/{first}/results/{name}").status_code == 404
    waited = await_end(service, second)
    assert waited["state"] == "succeeded"
    assert waited["started_at"] >= found["ended_at"]
    shown = service.run("jobs", "show", first).stdout
    assert f"{first}: succeeded" in shown
    assert links["_SUMMARY.json"] in shown
    metrics = httpx.get(service.facts["metrics_url"]).text
    assert "scorecat_jobs_ended_total{" in metrics


def test_a_job_of_somebody_else_is_seen_and_ended_and_can_go_on(service, tmp_path):
    table = write_many(tmp_path / "in")
    expected = score_online(service, table.slice(0, 20_000).drop_columns(["order_id", "user_id"]))
    with held(service, tmp_path / "in", tmp_path / "out") as (driver, job):
        assert (job["origin"], job["progress"]["rows_total"]) == ("command", table.num_rows)
        told = json.loads(service.run("jobs", "cancel", job["id"], "--no-wait", "--json").stdout)
        assert (told["state"], told["is_cancelling"]) == ("running", True)
    done = await_end(service, job["id"])
    assert done["state"] == "cancelled"
    assert done["summary"]["is_complete"] is False
    assert driver.wait(20) == 130
    again = service.run("jobs", "cancel", job["id"], check=False)
    assert (again.returncode, "has ended already: cancelled" in again.stderr) == (1, True)
    service.run("score", str(tmp_path / "in"), str(tmp_path / "out"), "--resume")
    check_complete(tmp_path / "out", table, expected)


def test_a_pool_of_a_job_ends_with_it_however_it_ends(service, tmp_path):
    table = write_many(tmp_path / "in")
    expected = score_online(service, table.slice(0, 20_000).drop_columns(["order_id", "user_id"]))
    with held(service, tmp_path / "in", tmp_path / "out", "--pool", "dedicated") as (driver, job):
        assert pools(service) == [f"purchase-v1-job-{job['id']}"]
        driver.kill()
        driver.wait()
    assert await_end(service, job["id"])["state"] == "died"
    output = OutputFolder(str(tmp_path / "out"))

    def tells_what_is_committed() -> bool:
        told = await_end(service, job["id"])["progress"]["rows_read"]
        return told == sum(commit.counts.read for commit in output.commits()) > 0

    wait_for(tells_what_is_committed, 20, "rows of the killed job are the committed ones")
    wait_for(lambda: not pools(service), 40, "the pool is gone")
    done = service.run(
        *("score", str(tmp_path / "in"), str(tmp_path / "out"), "--resume", "--pool", "dedicated", "--json")
    )
    check_complete(tmp_path / "out", table, expected)
    wait_for(lambda: not pools(service), 40, "the pool is gone")
    assert "starting purchase-v1-job-" in done.stderr or json.loads(done.stdout)["is_complete"]


REMOVE = "import ray, sys; from ray import serve; ray.init(sys.argv[1], log_to_driver=False); serve.delete(sys.argv[2])"


def test_a_version_that_goes_ends_its_job_early_and_nothing_is_lost(service, tmp_path, package_dir):
    version = DirectoryRegistry(service.home / "registry").publish("purchase", package_dir)
    app = f"purchase-v{version}"
    table = write_many(tmp_path / "in")
    expected = score_online(service, table.slice(0, 20_000).drop_columns(["order_id", "user_id"]))
    service.run("shadow", "start", str(version), "--share", "0.1")
    wait_for(lambda: all(service.deployments().get(app, {"": []}).values()), 60, "the version runs")
    spec = load_spec(service.home)
    with held(service, tmp_path / "in", tmp_path / "out", "--model", f"purchase@{version}") as (driver, _):
        service.run("shadow", "stop")
        subprocess.run(
            [sys.executable, "-c", REMOVE, spec.address, app],
            env={**service.environment, **cluster_environment(spec)},
            check=True,
            capture_output=True,
            timeout=60,
        )  # as the control app does, 70 s after nothing wants the version any more
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == 1, said
    assert "scorecat score" in said.partition("go on with: ")[2], said
    assert "--resume --pool dedicated" in said, said
    service.run("score", str(tmp_path / "in"), str(tmp_path / "out"), "--resume", "--pool", "dedicated")
    check_complete(tmp_path / "out", table, expected)
    assert set(read_output(tmp_path / "out").column("version").to_pylist()) == {version}
