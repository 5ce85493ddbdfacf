from __future__ import annotations

import os
import signal
import time

import httpx
import pytest

from tests.testing_kit.client.load import Load
from tests.testing_kit.cluster.service_process import ROW, ServiceProcess, wait_for

pytestmark = pytest.mark.chaos
N_CLIENTS = 16
HANGS_S = 9.0
"""Requests have 5 s, and a busy machine adds to that; where nobody refuses them they hang for 10 s and more."""


def kill_under_load(service: ServiceProcess, deployment: str) -> Load:
    """Kill a replica, and go on sending until another one is there and answers."""
    app = "gateway" if deployment == "Gateway" else "purchase-v1"
    before = service.deployments()[app][deployment]
    load = Load(service.url, N_CLIENTS)
    load.start()
    load.await_answers()
    os.kill(before[0], signal.SIGKILL)

    def is_replaced() -> bool:
        pids = service.deployments()[app][deployment]
        return before[0] not in pids and len(pids) >= len(before)

    wait_for(is_replaced, 90, f"another {deployment}")
    wait_for(service.is_answering, 90, "the service to answer again")
    load.await_answers()
    load.stop()
    return load


@pytest.mark.parametrize("deployment", ["CatBoostModel", "Encoder", "Gateway"])
def test_laptop_loses_at_most_what_was_in_flight_and_refuses_the_rest_until_it_is_back(laptop, deployment):
    load = kill_under_load(laptop, deployment)
    assert set(load.statuses) <= {0, 200, 503}, load.statuses
    assert load.statuses[0] <= N_CLIENTS
    assert load.refusals_without_retry_after == 0
    assert load.longest_s < HANGS_S
    assert laptop.is_answering()


@pytest.mark.parametrize("deployment", ["CatBoostModel", "Encoder", "Gateway"])
def test_production_loses_at_most_what_was_in_flight_on_the_killed_replica(production, deployment):
    load = kill_under_load(production, deployment)
    assert set(load.statuses) <= {0, 200, 503}, load.statuses
    assert load.statuses[0] + load.statuses[503] <= N_CLIENTS
    wait_for(
        lambda: all(
            len(pids) >= 2
            for name, app in production.deployments().items()
            if name != "control"  # one, always: versions answer without it
            for pids in app.values()
        ),
        60,
        "every deployment to have two replicas again",
    )
    assert production.is_answering()


def answers_soon(service: ServiceProcess) -> bool:
    try:
        return httpx.post(f"{service.url}/predict_purchase", json=ROW, timeout=3).status_code == 200
    except httpx.TransportError:
        return False


def test_a_gateway_that_hangs_does_not_take_the_others_down(production):
    pid = production.deployments()["gateway"]["Gateway"][0]
    os.kill(pid, signal.SIGSTOP)
    try:
        # HAProxy asks every second, waits 3 s, and takes a server out after two failures
        wait_for(lambda: all(answers_soon(production) for _ in range(10)), 60, "the other Gateway to get all requests")
        assert [production.predict().status_code for _ in range(10)] == [200] * 10
    finally:
        os.kill(pid, signal.SIGCONT)
    assert production.is_answering()


def test_a_full_log_disk_never_costs_an_answer(production):
    log_dir = production.home / "logs"
    aside = log_dir.with_name("logs-aside")
    log_dir.rename(aside)
    log_dir.write_text("a file where the folder was: no log line can be written")
    try:
        assert [production.predict().status_code for _ in range(20)] == [200] * 20
        time.sleep(1.5)  # lines are written once a second
        assert [production.predict().status_code for _ in range(20)] == [200] * 20
    finally:
        log_dir.unlink()
        aside.rename(log_dir)
    assert httpx.get(f"{production.url}/readyz", timeout=60).status_code == 200
    assert production.is_answering()


def test_scores_do_not_need_the_controller(laptop):
    (pid,) = laptop.deployments()["control"]["ControlApp"]
    load = Load(laptop.url, N_CLIENTS)
    load.start()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: laptop.deployments()["control"]["ControlApp"] not in ([], [pid]), 60, "another controller")
    load.stop()
    assert set(load.statuses) == {200}, load.statuses
    wait_for(
        lambda: httpx.get(f"{laptop.url}/v1/rollouts", timeout=60).status_code == 200, 90, "the routes of rollouts"
    )
    assert laptop.is_answering()
