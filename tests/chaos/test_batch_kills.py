"""A batch job survives what is killed under it; output and scores are those of an undisturbed run."""

from __future__ import annotations

import os
import signal
import time

import pytest

from serve_app.cluster.processes import find_processes
from serve_app.cluster.spec import load_spec
from tests.testing_kit.batch.batch_process import check_complete, score_online, start_job, write_many
from tests.testing_kit.cluster.service_process import wait_for

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize("victim", ["driver", "CatBoostModel", "Encoder", "worker"])
def test_a_killed_process_costs_no_row(laptop, tmp_path, victim):
    source = tmp_path / "in"
    table = write_many(source)
    expected = score_online(laptop, table.slice(0, 20_000).drop_columns(["order_id", "user_id"]))
    driver = start_job(laptop, source, tmp_path / "out")
    if victim == "driver":
        driver.kill()
        driver.wait()
    elif victim == "worker":
        spec = load_spec(laptop.home)
        workers = [p for p in find_processes(spec) if "ScoreWorker" in " ".join(p.cmdline())]
        workers[0].kill()
    else:
        os.kill(laptop.deployments()["purchase-v1"][victim][0], signal.SIGKILL)
    if victim != "driver":
        said = driver.communicate(timeout=120)[1]
        assert driver.returncode == 0, said
    else:
        time.sleep(1.0)  # Ray ends the workers of a driver that is gone
        laptop.run("score", str(source), str(tmp_path / "out"), "--resume")
    check_complete(tmp_path / "out", table, expected)
    wait_for(laptop.is_answering, 60, "it still answers")
