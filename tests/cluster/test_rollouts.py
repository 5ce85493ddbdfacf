"""Rollouts on a real cluster: by themselves, under load, and through the death of what runs them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.models.service.registry import CHAMPION
from tests.testing_kit import make_package
from tests.testing_kit.cluster.service_process import ROW, ServiceProcess, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
SCRIPT = Path(__file__).with_name("failing_version.py")
N_VERSIONS = 5

QUICK = {
    "steps": [20, 50, 100],
    "interval": "3s",
    "initialDelay": "1s",
    "bake_time_s": 2,
    "rollback_window_s": 600,
    "metrics": {"errors": {"interval": "1s", "max_added_share": 0.2}},
}
SLOW = {**QUICK, "steps": [10, 50], "interval": "1h"}
"""Stays at its first step."""


class Users(threading.Thread):
    """Sends rows of random users from a few connections until `stop`; counts answers by status and version."""

    def __init__(self, url: str, n_clients: int = 4) -> None:
        super().__init__(daemon=True)
        self._url, self._n_clients = f"{url}/predict_purchase", n_clients
        self._stopping = threading.Event()
        self.statuses: Counter[int] = Counter()
        self.versions: dict[str, set[str]] = {}

    def run(self) -> None:
        threads = [threading.Thread(target=self._send) for _ in range(self._n_clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _send(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._stopping.is_set():
                user = f"user-{random.randrange(2_000)}"
                try:
                    answer = client.post(self._url, json={**ROW, "user_id": user})
                except httpx.TransportError:
                    self.statuses[0] += 1
                    continue
                self.statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    self.versions.setdefault(user, set()).add(answer.headers["x-model-version"])

    def stop(self) -> None:
        self._stopping.set()
        self.join(60)


@contextmanager
def users_of(service: ServiceProcess) -> Iterator[Users]:
    users = Users(service.url)
    users.start()
    try:
        yield users
    finally:
        users.stop()


@pytest.fixture
def shop(services, tmp_path_factory) -> ServiceProcess:
    """A service of version 1 whose registry has four more."""

    def prepare(process: ServiceProcess) -> None:
        for seed in range(N_VERSIONS):
            folder = tmp_path_factory.mktemp("packages") / "purchase"
            make_package(folder, seed=seed)
            registry_of(process).publish("purchase", folder)
        registry_of(process).move_alias("purchase", CHAMPION, 1)

    return services.ask("shop", prepare)


def registry_of(service: ServiceProcess) -> DirectoryRegistry:
    return DirectoryRegistry(service.home / "registry")


def start(service: ServiceProcess, **body) -> int:
    answer = httpx.post(f"{service.url}/v1/rollouts", json=body, timeout=60)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def describe(service: ServiceProcess, number: int) -> dict:
    answer = httpx.get(f"{service.url}/v1/rollouts/{number}", timeout=30)
    return answer.json() if answer.status_code == 200 else {"phase": "", "why": answer.text}


def wait_for_phase(service: ServiceProcess, number: int, phase: str, timeout_s: float = 90) -> dict:
    seen: dict = {}

    def look() -> bool:
        seen.update(describe(service, number))
        return seen["phase"] == phase

    try:
        wait_for(look, timeout_s, f"rollout {number} to be {phase}")
    except AssertionError as exc:
        raise AssertionError(f"{exc}; it is {seen['phase']}: {seen['why']}") from None
    return seen


def shares_of(service: ServiceProcess) -> dict[int, float]:
    (model,) = httpx.get(f"{service.url}/v1/models", timeout=30).json()["models"]
    return {v["version"]: v["share"] for v in model["versions"] if v["share"]}


def abort(service: ServiceProcess, number: int) -> dict:
    answer = httpx.post(f"{service.url}/v1/rollouts/{number}/abort", timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_good_canary_gets_everything_by_itself_and_becomes_the_champion(shop):
    with users_of(shop) as users:
        done = shop.run("rollout", "start", "2", "--plan", str(write_plan(shop)), "--wait", "--json")
        found = json.loads(done.stdout)
        assert found["phase"] == "succeeded", found["why"]
        wait_for(lambda: registry_of(shop).aliases("purchase").versions[CHAMPION] == 2, 30, "the alias to move")
        wait_for(lambda: shares_of(shop) == {2: 1.0}, 30, "version 2 to have everything")
    assert set(users.statuses) == {200}
    assert all(len(versions) <= 2 for versions in users.versions.values())
    changes = json.loads(shop.run("rollout", "history", str(found["id"]), "--json").stdout)["changes"]
    assert [c["to"] for c in changes][:5] == ["deploying", "progressing", "progressing", "promoting", "succeeded"]
    status = json.loads(shop.run("status", "--json").stdout)
    assert set(status["apps"]) == {"purchase-v1", "purchase-v2", "control", "gateway"}
    assert (status["version"], status["models"][0]["stable"]) == (2, 2)
    # within its window it can be taken back, in one call
    aborted = abort(shop, found["id"])
    assert aborted["phase"] == "rolled_back"
    wait_for(lambda: shares_of(shop) == {1: 1.0}, 30, "version 1 to have everything again")
    wait_for(lambda: registry_of(shop).aliases("purchase").versions[CHAMPION] == 1, 30, "the alias to move back")
    assert shop.predict().headers["x-model-version"] == "1"


def test_a_canary_that_errs_is_rolled_back_by_the_evidence(shop):
    package = registry_of(shop).locate("purchase", 3)
    subprocess.run(
        [sys.executable, str(SCRIPT), str(shop.home), "purchase", "3", str(package)],
        check=True, env=shop.environment, timeout=120,
    )  # fmt: skip
    with users_of(shop) as users:
        number = start(shop, version=3, plan=QUICK)
        found = wait_for_phase(shop, number, "rolled_back")
        assert "errors" in found["why"]
        wait_for(lambda: shares_of(shop) == {1: 1.0}, 30, "version 1 to have everything")
    assert set(users.statuses) <= {200, 500}
    arms = {arm["version"]: arm for arm in found["arms"]}
    assert arms[3]["errors"] > 0
    assert arms[1]["errors"] == 0
    (last,) = [
        c for c in httpx.get(f"{shop.url}/v1/rollouts/{number}/history").json()["changes"] if c["to"] == "rolled_back"
    ]
    assert (last["who"], last["from"]) == ("controller", "progressing")
    assert last["evidence"]
    assert [shop.predict().status_code for _ in range(20)] == [200] * 20


def test_an_unverified_version_is_refused_and_nothing_changes(shop):
    model = registry_of(shop).locate("purchase", 5) / "model.cbm"
    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        answer = httpx.post(f"{shop.url}/v1/rollouts", json={"version": 5}, timeout=60)
    finally:
        model.write_bytes(whole)
    assert answer.status_code == 400
    assert "model.cbm" in answer.json()["detail"]
    assert shares_of(shop) == {1: 1.0}
    assert "purchase-v5" not in shop.deployments()


def test_up_after_down_goes_on_with_the_rollout(shop):
    number = start(shop, version=2, plan=SLOW, allow=["anna"])
    wait_for_phase(shop, number, "progressing")
    wait_for(lambda: shares_of(shop) == {1: 0.9, 2: 0.1}, 30, "the split")
    before = {user: version_of(shop, user) for user in map(str, range(40))}
    assert len(set(before.values())) == 2
    shop.down()
    refused = shop.run("up", "--port", str(shop.port), "--model", "purchase@3", check=False)
    assert refused.returncode == 1
    assert f"rollout {number}" in refused.stderr
    registry_of(shop).move_alias("purchase", CHAMPION, 3)  # by hand: the rollout goes on all the same
    shop.up()
    registry_of(shop).move_alias("purchase", CHAMPION, 1)
    assert (shop.facts["version"], shop.facts["shares"]) == (1, {"1": 0.9, "2": 0.1})
    wait_for(lambda: shares_of(shop) == {1: 0.9, 2: 0.1}, 30, "the split")
    assert describe(shop, number)["phase"] == "progressing"
    assert {user: version_of(shop, user) for user in before} == before
    assert {user: version_of(shop, int(user)) for user in before} == before  # a whole number stands for its text
    assert version_of(shop, "anna") == "2"
    assert abort(shop, number)["phase"] == "rolled_back"
    wait_for(lambda: shares_of(shop) == {1: 1.0}, 30, "version 1 to have everything")


def test_a_shadow_is_compared_and_answers_nobody(shop):
    with users_of(shop) as users:
        shop.run("shadow", "start", "2", "--share", "1")
        number = json.loads(shop.run("rollout", "status", "--json").stdout)["id"]
        wait_for_phase(shop, number, "progressing")
        wait_for(lambda: describe(shop, number)["shadow"]["n_compared"] > 50, 90, "rows to be compared")
        shop.run("shadow", "stop")
    assert set(users.statuses) == {200}
    assert set().union(*users.versions.values()) == {"1"}
    found = describe(shop, number)
    assert (found["phase"], found["shadow"]["mean_absolute_difference"] > 0) == ("rolled_back", True)


def version_of(service: ServiceProcess, user: str | int) -> str:
    return service.predict({**ROW, "user_id": user}).headers["x-model-version"]


def write_plan(service: ServiceProcess) -> Path:
    path = service.home / "plan.yaml"
    path.write_text(json.dumps(QUICK))  # JSON is YAML
    return path
