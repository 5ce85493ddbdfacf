"""Routes and commands of batch jobs on the real use case, without a cluster."""

from __future__ import annotations

import contextlib
import functools
import json
import sys

import httpx
import pytest

from batch.view import name_program
from serve_app import cli
from serve_app.cli.jobs import jobs as commands
from serve_app.client.operator import JobsClient
from serve_app.errors import QueueFullError
from serve_app.http.app import create_app
from serve_app.http.operator.job_schemas import JOB, JobList, JobView
from serve_app.jobs.core.progress import Progress
from serve_app.jobs.core.record import JobRows
from serve_app.jobs.service.request import FIELDS
from serve_app.scoring.service.traffic import Traffic
from tests.testing_kit import MemoryAccessLog, MemorySplit
from tests.testing_kit.jobs.jobs import JobWorld
from tests.testing_kit.rollouts.control import AppTransport, LocalJobs

pytestmark = pytest.mark.unit
PROGRESS = Progress(100, 400, 2, 0.25, 50.4, 6.0)


class Shop:
    def __init__(self, world: JobWorld) -> None:
        self.world = world
        self.transport = AppTransport(functools.cache(self.make_app))
        self.http = httpx.Client(transport=self.transport, base_url="http://shop")

    def make_app(self):
        jobs = LocalJobs(self.world.control)
        return create_app(Traffic(MemorySplit(), None), MemoryAccessLog(), timeout_s=1, jobs=jobs)

    def post(self, **body) -> httpx.Response:
        return self.http.post("/v1/jobs", json={"input": "rows.csv", **body})


@pytest.fixture
def shop(tmp_path) -> Shop:
    return Shop(JobWorld(tmp_path / "home", n_waiting=1, keep_s=3600))


def test_a_job_is_accepted_with_its_address_and_can_be_followed_there(shop):
    answer = shop.post(who="anna", keep="order_id")
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["state"], job["model"], job["version"]) == ("queued", "purchase", 3)
    shop.world.run(job["id"])
    shop.world.beat(job["id"], rows=JobRows(100, 98, 2), progress=PROGRESS)
    found = shop.http.get(answer.headers["location"]).json()
    JobView.model_validate(found)
    assert found["progress"] == {
        "rows_read": 100, "rows_total": 400, "rows_scored": 98, "rows_rejected": 2, "percent": 25.0,
        "rows_per_s": 50, "left_s": 6.0,
    }  # fmt: skip
    listed = shop.http.get("/v1/jobs").json()
    JobList.model_validate(listed)
    assert [one["id"] for one in listed["jobs"]] == [job["id"]]


def test_a_full_queue_is_429_with_retry_after(shop):
    shop.post()
    answer = shop.post()
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:scorecat:problem:queue-full"
    with JobsClient("http://shop", transport=shop.transport) as client, pytest.raises(QueueFullError) as caught:
        client.start({"input": "rows.csv"})
    assert caught.value.retry_after_s == 60


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"input": "/etc/passwd"}, 400, "SCORECAT_JOB_ROOTS"),
        ({"input": "none.csv"}, 404, "nothing at"),
        ({"output": "../jobs/x"}, 400, "SCORECAT_JOB_ROOTS"),
        ({"model": "other"}, 404, "other"),
        ({"explain": -1}, 422, "0 to 50"),
        ({"mapping": "/etc/passwd"}, 422, "must be an object"),
        ({"input": ""}, 422, "1 to 2,000"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_queued(shop, body, status, text):
    answer = shop.post(**body)
    assert answer.status_code == status, answer.text
    assert text in answer.text
    assert shop.http.get("/v1/jobs").json() == {"jobs": []}


def test_results_are_downloaded_and_nothing_else(shop):
    job = shop.post().json()["id"]
    output = shop.world.home / "jobs" / job / "output"
    (output / "brand=a b").mkdir(parents=True)
    (output / "brand=a b" / "part-000000-0000.parquet").write_bytes(b"PAR1rows")
    (one,) = shop.http.get(f"/v1/jobs/{job}").json()["results"]
    assert one["href"] == f"/v1/jobs/{job}/results/brand%3Da%20b/part-000000-0000.parquet"
    answer = shop.http.get(one["href"])
    assert (answer.status_code, answer.content) == (200, b"PAR1rows")
    assert shop.http.get(one["href"], headers={"Range": "bytes=4-"}).content == b"rows"
    for name in ("..%2Forder.json", "%2e%2e/order.json", "none", "%00"):
        assert shop.http.get(f"/v1/jobs/{job}/results/{name}").status_code == 404
    assert shop.http.get("/v1/jobs/..%2F..").status_code in (404, 422)


def test_an_unknown_job_an_ended_one_and_a_strange_body_are_told_apart(shop):
    assert shop.http.get("/v1/jobs/none").status_code == 404
    assert shop.http.get("/v1/jobs/no%20id").status_code == 422
    job = shop.post().json()["id"]
    assert shop.http.post(f"/v1/jobs/{job}/cancel", json={"why": "x"}).status_code == 422
    answer = shop.http.post(f"/v1/jobs/{job}/cancel")
    assert (answer.status_code, answer.json()["state"], answer.json()["cancelled_by"]) == (202, "cancelled", "http")
    assert shop.http.post(f"/v1/jobs/{job}/cancel").status_code == 409


def test_what_is_documented_is_what_is_read(shop):
    documented = shop.http.get("/openapi.json").json()["components"]["schemas"]["JobBody"]
    assert documented == JOB.to_schema()
    assert set(documented["properties"]) == set(FIELDS)
    assert shop.post(**documented["examples"][0] | {"input": "rows.csv"}).is_success


def test_without_a_control_app_the_routes_say_so():
    app = create_app(Traffic(MemorySplit(), None), MemoryAccessLog(), timeout_s=1)
    http = httpx.Client(transport=AppTransport(lambda: app), base_url="http://shop")
    for path in ("/v1/jobs", "/v1/jobs/x", "/v1/jobs/x/results/y"):
        assert http.get(path).status_code == 503


# --- commands


@pytest.fixture
def run(shop, monkeypatch, capsys):
    @contextlib.contextmanager
    def connect(_):
        with JobsClient("http://shop", transport=shop.transport) as client:
            yield client

    monkeypatch.setattr(commands, "connect", connect)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["scorecat", "jobs", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as exc:
            code = int(exc.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_commands_show_jobs_and_end_them(shop, run):
    code, said, _ = run("list")
    assert (code, "there is no job" in said) == (0, True)
    job = shop.post(who="anna").json()["id"]
    shop.world.run(job)
    shop.world.beat(job, rows=JobRows(100, 98, 2), progress=PROGRESS)
    code, said, _ = run("list")
    assert code == 0
    assert {job, "running", "v3"} <= set(said.split())
    code, said, _ = run("show", job)
    assert "read 100 of 400 = scored 98 + rejected 2 · 25 %, 50 rows/s, 6 s left" in said
    code, said, _ = run("cancel", job, "--no-wait", "--json")
    assert (code, json.loads(said)["is_cancelling"]) == (0, True)
    shop.world.beat(job, state="cancelled")
    said = run("show", job)[1]
    assert "cancelled" in said
    assert "go on with" not in said  # its output is its record's, and goes with it
    assert json.loads(run("list", "--json")[1])["jobs"][0]["state"] == "cancelled"


def test_a_job_that_ended_early_is_shown_with_the_command_that_goes_on(shop, run):
    job = shop.post(output="out dir").json()["id"]
    shop.world.run(job)
    assert "go on with" not in run("show", job)[1]
    shop.world.beat(job, state="cancelled")
    data = shop.world.data
    told = f"go on with     {name_program()} score {data}/rows.csv '{data}/out dir' --resume"
    assert told in run("show", job)[1]
    plain = json.loads(run("show", job, "--json")[1])["resume_command"]
    assert plain == f"scorecat score {data}/rows.csv '{data}/out dir' --resume"


def test_a_job_that_has_ended_is_1_and_wrong_use_is_2(shop, run):
    job = shop.post().json()["id"]
    assert run("cancel", job)[0] == 0  # it only waited
    code, _, said = run("cancel", job)
    assert (code, "ended already" in said) == (1, True)
    assert run("show", "none")[0] == 2
    assert run("show", "../x")[0] == 2
    assert run("list", "--limit", "0")[0] == 2
    code, said, _ = run("show", "none", "--json")
    assert (code, json.loads(said)["error"]["code"]) == (2, "not-found")
