"""A webhook is told in order, a few times when need be, and never keeps anybody waiting."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from collections import deque

import pytest

from serve_app.adapters.webhook import ATTEMPTS, Webhooks
from serve_app.service.rollout_ports import Notifier

pytestmark = pytest.mark.unit

EVENT = {"event": "rollout", "rollout": 1, "why": "v2 is ready: ümlaut"}


class Receiver:
    """A server on a free port that answers with one status after the other; None hangs until the end."""

    def __init__(self, *statuses):
        self.statuses, self.bodies, self.n_calls = deque(statuses), [], 0
        self.arrived = threading.Semaphore(0)
        self._done, self._open = threading.Event(), []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/secret-path"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        with contextlib.suppress(OSError):
            while not self._done.is_set():
                connection, _ = self._socket.accept()
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as file:
            while (line := file.readline()).startswith(b"POST"):
                length = 0
                while (line := file.readline()).strip():
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                self.bodies.append(json.loads(file.read(length)))
                self.n_calls += 1
                status = self.statuses.popleft() if self.statuses else 204
                self.arrived.release()
                if status is None:
                    self._done.wait(30)
                    return
                connection.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nLocation: /\r\n\r\n".encode())

    def close(self):
        self._done.set()
        self._socket.close()
        for connection in self._open:
            connection.close()


@pytest.fixture
def receive():
    with contextlib.ExitStack() as stack:

        def start(*statuses):
            receiver = Receiver(*statuses)
            stack.callback(receiver.close)
            return receiver

        yield start


@pytest.fixture
def webhooks():
    webhooks = Webhooks(timeout_s=0.2, first_wait_s=0.01, max_waiting=3)
    yield webhooks
    webhooks.close(5.0)


def test_it_is_a_notifier(webhooks):
    port: Notifier = webhooks
    assert callable(port.send)


def test_events_arrive_as_json_and_in_order(webhooks, receive):
    receiver = receive()
    for k in range(3):
        webhooks.send(receiver.url, {**EVENT, "rollout": k})
        assert receiver.arrived.acquire(timeout=10)
    assert receiver.bodies == [{**EVENT, "rollout": k} for k in range(3)]


@pytest.mark.parametrize("first", [500, 503, 429, None])
def test_what_failed_is_sent_again(webhooks, receive, first):
    receiver = receive(first, 200)
    webhooks.send(receiver.url, EVENT)
    for _ in range(2):
        assert receiver.arrived.acquire(timeout=10)
    assert receiver.bodies == [EVENT, EVENT]


@pytest.mark.parametrize("status", [301, 400, 404, 410])
def test_what_was_refused_is_not(webhooks, receive, status):
    receiver = receive(status)
    webhooks.send(receiver.url, EVENT)
    webhooks.send(receiver.url, {**EVENT, "rollout": 2})
    for _ in range(2):
        assert receiver.arrived.acquire(timeout=10)
    assert [body["rollout"] for body in receiver.bodies] == [1, 2]


def test_after_three_attempts_it_is_logged_without_the_path(webhooks, receive, caplog):
    caplog.set_level(logging.WARNING, "scorecat.webhook")
    receiver = receive(*[500] * ATTEMPTS)
    webhooks.send(receiver.url, EVENT)
    webhooks.send(receiver.url, {**EVENT, "rollout": 2})
    for _ in range(ATTEMPTS + 1):
        assert receiver.arrived.acquire(timeout=10)
    assert [body["rollout"] for body in receiver.bodies] == [1] * ATTEMPTS + [2]
    assert "webhook http://127.0.0.1 was not told of rollout: it answered 500" in caplog.text
    assert "secret-path" not in caplog.text


def test_a_webhook_that_hangs_delays_nobody_and_what_is_too_much_is_dropped(receive, caplog):
    caplog.set_level(logging.WARNING, "scorecat.webhook")
    webhooks, receiver = Webhooks(timeout_s=30.0, max_waiting=3), receive(None)
    webhooks.send(receiver.url, EVENT)
    assert receiver.arrived.acquire(timeout=10)
    began = time.monotonic()
    for _ in range(100):
        webhooks.send(receiver.url, EVENT)
    assert time.monotonic() - began < 1.0
    assert caplog.text.count("is too slow: event rollout was dropped") == 97
    webhooks.close()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/nobody", "http://", "ftp://example/x"])
def test_an_address_that_cannot_be_reached_harms_no_other(webhooks, receive, url):
    receiver = receive()
    webhooks.send(url, EVENT)
    webhooks.send(receiver.url, EVENT)
    assert receiver.arrived.acquire(timeout=10)
    assert receiver.bodies == [EVENT]
