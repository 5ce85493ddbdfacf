"""Rollouts in profile production under constant load: nobody is refused, nobody bounces, whatever dies."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from serve_app.features.core.specs import PURCHASE_FEATURES
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from tests.testing_kit import make_package
from tests.testing_kit.client.user_load import UserLoad
from tests.testing_kit.cluster.service_process import ServiceProcess, wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

PLAN = """
steps: [20, 50, 100]
interval_s: 3
initial_delay_s: 1
bake_time_s: 3
rollback_window_s: 4
metrics:
  errors: {max_added_share: 0.1, interval_s: 1}
  latency: {max_ratio: 20, interval_s: 1, dry_run: true}
"""
SLOW_PLAN = PLAN.replace("interval_s: 3", "interval_s: 600", 1)


@pytest.fixture
def service(production, package_dir) -> ServiceProcess:
    """Versions 1, 2 and 3 are equal; version 4 refuses every hour after noon."""
    registry = DirectoryRegistry(production.home / "registry")
    if registry.versions("purchase") == [1]:
        for _ in range(2):
            registry.publish("purchase", package_dir)
        strict = [dataclasses.replace(f, maximum=11) if f.name == "hour" else f for f in PURCHASE_FEATURES]
        make_package(production.home / "strict", features=strict)
        registry.publish("purchase", production.home / "strict")
    return production


@pytest.fixture
def load(service) -> Iterator[UserLoad]:
    load = UserLoad(service.url)
    load.start()
    load.await_all_users(since=time.time())
    yield load
    load.stop()


def rollout(service: ServiceProcess, *arguments: str) -> dict:
    return json.loads(service.run("rollout", *arguments, "--json").stdout)


def begin(service: ServiceProcess, version: int, plan: str, tmp_path: Path) -> int:
    (tmp_path / "plan.yaml").write_text(plan)
    return rollout(service, "start", str(version), "--plan", str(tmp_path / "plan.yaml"))["id"]


def phase(service: ServiceProcess, rollout_id: int) -> str:
    return httpx.get(f"{service.url}/v1/rollouts/{rollout_id}", timeout=60).json().get("phase", "")


def await_phase(service: ServiceProcess, rollout_id: int, *phases: str, timeout_s: float = 120) -> None:
    wait_for(lambda: phase(service, rollout_id) in phases, timeout_s, f"rollout {rollout_id} to be {phases}")


def kill(service: ServiceProcess, app: str, deployment: str) -> None:
    os.kill(service.deployments()[app][deployment][0], signal.SIGKILL)


def champion(service: ServiceProcess) -> int:
    return DirectoryRegistry(service.home / "registry").resolve("purchase", "champion")


def test_a_good_canary_takes_over_by_itself_whatever_dies_and_nobody_notices(service, load, tmp_path):
    number = begin(service, 2, PLAN.replace("[20, 50, 100]", "[20, 40, 60, 100]"), tmp_path)
    await_phase(service, number, "progressing")
    kill(service, "control", "ControlApp")
    kill(service, "purchase-v2", "CatBoostModel")
    await_phase(service, number, "succeeded", timeout_s=240)
    wait_for(lambda: champion(service) == 2, 60, "the alias to move")
    moved_at = time.time()
    load.await_all_users(since=moved_at)
    load.stop()
    assert set(load.statuses) == {200}, load.problems
    assert set(load.paths()) <= {"1>2", "2"}, load.paths()
    assert set(load.versions(since=moved_at)) == {"2"}
    story = rollout(service, "history", str(number))
    assert "succeeded" in [change["to"] for change in story["changes"]]


def test_pausing_resuming_promoting_and_removing_an_old_version_bother_nobody(service, load, tmp_path):
    before = champion(service)
    number = begin(service, 3, SLOW_PLAN, tmp_path)
    await_phase(service, number, "progressing")
    for command, expected in (("pause", "paused"), ("resume", "progressing"), ("promote", "promoting")):
        load.await_all_users(since=time.time())
        assert rollout(service, command, str(number), "--why", "a test")["phase"] == expected
    await_phase(service, number, "succeeded")
    wait_for(lambda: champion(service) == 3, 60, "the alias to move")
    load.await_all_users(since=time.time())
    if before == 2:  # which took over from version 1 in the test before; its requests have 70 s to end
        wait_for(lambda: "purchase-v1" not in service.deployments(), 120, "the version before to be removed")
        load.await_all_users(since=time.time())
    load.stop()
    assert set(load.statuses) == {200}, load.problems
    assert set(load.paths()) <= {f"{before}>3", "3"}, load.paths()


def harm_split_file(service: ServiceProcess, load: UserLoad) -> None:
    """Remove the split file while a Gateway dies, then put one there that claims to be newer; it has to be mended."""
    path = service.home / "state" / "split.json"
    written = path.read_text()
    victim = service.deployments()["gateway"]["Gateway"][0]
    path.unlink()
    os.kill(victim, signal.SIGKILL)
    wait_for(path.exists, 20, "the split file to be written again")

    def is_replaced() -> bool:
        pids = service.deployments()["gateway"]["Gateway"]
        return victim not in pids and len(pids) == 2

    wait_for(is_replaced, 60, "another Gateway")
    load.await_all_users(since=time.time())
    foreign = path.with_name("foreign.json")
    foreign.write_text(json.dumps(json.loads(written) | {"revision": 1_000_000, "effective_at_s": 0.0}))
    foreign.replace(path)
    wait_for(lambda: path.read_text() == written, 20, "the split file to be mended")
    load.await_all_users(since=time.time())


def test_after_an_abort_no_canary_answers_within_a_second_and_nobody_is_refused(service, load, tmp_path):
    stable = champion(service)
    canary = 1 if stable != 1 else 2
    number = begin(service, canary, SLOW_PLAN, tmp_path)
    await_phase(service, number, "progressing")
    wait_for(lambda: load.versions(time.time() - 2)[str(canary)] > 20, 60, "the canary to answer")
    harm_split_file(service, load)
    httpx.post(f"{service.url}/v1/rollouts/{number}/abort", json={"why": "a test"}, timeout=60).raise_for_status()
    (aborted,) = [c for c in rollout(service, "history", str(number))["changes"] if c["to"] == "rolled_back"]
    decided_at = datetime.fromisoformat(aborted["at"]).timestamp()
    load.await_all_users(since=decided_at + 1.0)
    load.stop()
    assert str(canary) not in load.versions(since=decided_at + 1.0)
    lost = sum(n for status, n in load.statuses.items() if status != 200)
    assert lost <= 24, load.problems  # one for each connection: what was in flight at the Gateway that was killed
    assert set(load.paths()) <= {f"{stable}", f"{stable}>{canary}>{stable}"}, load.paths()
    assert champion(service) == stable


def test_a_canary_that_errs_is_rolled_back_by_itself_with_its_evidence(service, load, tmp_path):
    stable = champion(service)
    number = begin(service, 4, PLAN.replace("latency: {max_ratio: 20, interval_s: 1, dry_run: true}", ""), tmp_path)
    await_phase(service, number, "rolled_back")
    rolled_back_at = time.time()
    load.await_all_users(since=rolled_back_at + 1.0)
    load.stop()
    found = rollout(service, "status", str(number))
    assert "errors" in found["why"]
    assert set(load.versions(rolled_back_at + 1.0)) == {str(stable)}
    assert set(load.statuses) == {200, 422}
    assert champion(service) == stable
    assert service.is_answering()
