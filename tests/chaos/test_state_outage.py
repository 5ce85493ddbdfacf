"""The store of the states killed and filled up under load: scores go on, nothing confirmed is lost."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.testing_kit.client.load import Load
from tests.testing_kit.cluster.service_process import ROW, ServiceProcess, wait_for
from tests.testing_kit.history.redis_server import RedisServer, running_redis

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def service(services, serve_champion, redis_server) -> ServiceProcess:
    def prepare(process: ServiceProcess) -> None:
        process.environment["SCORECAT_STATE"] = redis_server.url
        serve_champion(process)

    return services.ask("outage", prepare)


class Sender(threading.Thread):
    """Sends events of one shopper, each again until it is confirmed, until `stop`."""

    def __init__(self, url: str, user: str) -> None:
        super().__init__(daemon=True)
        self._url, self._user = f"{url}/v1/events", user
        self._stopping = threading.Event()
        self.n_confirmed = self.n_refused = 0
        self.faults: list[str] = []

    def run(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._stopping.is_set():
                event = {
                    "event_type": "view", "user_id": self._user, "user_session": "s-1", "product_id": "1",
                    "price": 1.0, "event_id": f"{self._user}-{self.n_confirmed}",
                }  # fmt: skip
                answer = client.post(self._url, json=event)
                if answer.status_code == 202:
                    self.n_confirmed += 1
                elif answer.status_code in {503, 504} and "retry-after" in answer.headers:
                    self.n_refused += 1
                    time.sleep(0.1)
                else:
                    self.faults.append(answer.text)

    def stop(self) -> None:
        self._stopping.set()
        self.join(40)


def look_up(service: ServiceProcess, user: str, **more: Any) -> dict[str, Any]:
    return service.predict({**ROW, "user_id": user, **more}, params={"detail": "true"}).json()


def time_answers(service: ServiceProcess) -> float:
    started = time.monotonic()
    assert all(service.is_answering() for _ in range(20))
    return time.monotonic() - started


def test_redis_killed_under_load_and_back(service, redis_server):
    user = uuid.uuid4().hex
    load, sender = Load(service.url, 8), Sender(service.url, user)
    load.start()
    sender.start()
    try:
        load.await_answers()
        wait_for(lambda: sender.n_confirmed > 0, 20, "a confirmed event")
        before_s = time_answers(service)
        redis_server.stop(kill=True)
        wait_for(lambda: look_up(service, user)["history"]["status"] == "unavailable", 10, "defaults")
        observed = look_up(service, user, observe=True, event_id=f"{user}-lost")
        assert observed["observed"]["status"] == "unavailable"
        assert time_answers(service) < 2 * before_s + 2  # a dead store costs nothing a request
    finally:
        redis_server.stop()  # it is still up when the test failed early
        redis_server.start()
    wait_for(lambda: look_up(service, user)["history"]["status"] == "found", 20, "look-ups again")
    confirmed = sender.n_confirmed
    wait_for(lambda: sender.n_confirmed > confirmed, 20, "events again")
    load.stop()
    sender.stop()
    assert set(load.statuses) == {200}, load.statuses
    assert sender.faults == []
    assert sender.n_refused > 0
    assert look_up(service, user)["features"]["total_events_x"]["value"] == sender.n_confirmed + 1
    assert service.is_answering()


def test_redis_that_is_full_refuses_events_and_goes_on_answering_look_ups(service, redis_server):
    user = uuid.uuid4().hex
    event = {"event_type": "view", "user_id": user, "user_session": "s-1", "product_id": "1", "price": 1.0}

    def send() -> httpx.Response:
        return httpx.post(f"{service.url}/v1/events", json=event, timeout=30)

    assert send().status_code == 202
    client = redis_server.client()
    client.config_set("maxmemory", 1)
    try:
        refused = send()
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.headers["content-type"] == "application/problem+json"
        assert look_up(service, user)["features"]["total_events_x"]["value"] == 2
    finally:
        client.config_set("maxmemory", 0)
        client.close()
    assert send().status_code == 202
    assert look_up(service, user)["features"]["total_events_x"]["value"] == 3
    assert service.is_answering()
