"""A webhook is told in order, a few times when need be, keeps nobody waiting, and nothing is lost with a process."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import socket
import threading
import time
from collections import deque

import pytest

from serve_app.errors import NotReadyError
from serve_app.notices.ports import Notice, Outbox
from serve_app.notices.webhook import ATTEMPTS, Webhooks

pytestmark = pytest.mark.unit

EVENT = {"event": "rollout", "rollout": 1, "why": "v2 is ready: ümlaut"}


class Receiver:
    """A server on a free port that answers with one status after the other; None hangs until the end, 0 drips."""

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
                n_dripped = 0
                while not status:
                    if self._done.wait(30 if status is None else 0.02):
                        return
                    connection.sendall(b"HTTP/1.1 200 OK\r\n" if n_dripped == 0 else b"X: drip\r\n")
                    n_dripped += 1
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


class MemoryOutbox(Outbox):
    """Notices in memory; `settled` is what became of each, `trouble` is raised by every call."""

    def __init__(self):
        self.notices, self.settled, self.trouble = {}, {}, None
        self.done = threading.Semaphore(0)
        self._lock = threading.Lock()

    def put(self, url, event):
        with self._lock:
            number = len(self.settled) + 1
            self.notices[number], self.settled[number] = Notice(number, url, event), ("waiting", 0, "")
            return number

    def waiting(self):
        with self._lock:
            if self.trouble:
                raise self.trouble
            return [self.notices[k] for k, found in self.settled.items() if found[0] == "waiting"]

    def settle(self, notice_id, status, n_attempts, problem):
        with self._lock:
            if self.trouble:
                raise self.trouble
            self.settled[notice_id] = (status, n_attempts, problem)
            self.notices[notice_id] = dataclasses.replace(self.notices[notice_id], n_attempts=n_attempts)
        if status != "waiting":
            self.done.release()


@pytest.fixture
def outbox():
    return MemoryOutbox()


@pytest.fixture
def webhooks(outbox):
    webhooks = Webhooks(outbox, timeout_s=0.3, first_wait_s=0.001, look_s=0.05)
    yield webhooks
    webhooks.close(5.0)


@pytest.fixture
def send(outbox, webhooks):
    def put(url, event=EVENT):
        number = outbox.put(url, event)
        webhooks.wake()
        return number

    return put


def await_settled(outbox, n=1):
    for _ in range(n):
        assert outbox.done.acquire(timeout=10)


def test_events_arrive_as_json_and_in_order(send, outbox, receive):
    receiver = receive()
    for k in range(20):
        send(receiver.url, {**EVENT, "rollout": k})
    await_settled(outbox, 20)
    assert receiver.bodies == [{**EVENT, "rollout": k} for k in range(20)]
    assert set(outbox.settled.values()) == {("delivered", 1, "")}


@pytest.mark.parametrize("first", [500, 503, 429, None, 0])
def test_what_failed_is_sent_again(send, outbox, receive, first):
    receiver = receive(first, 200)
    number = send(receiver.url)
    await_settled(outbox)
    assert receiver.bodies == [EVENT, EVENT]
    assert outbox.settled[number] == ("delivered", 2, "")


@pytest.mark.parametrize("status", [301, 400, 404, 410])
def test_what_was_refused_is_not(send, outbox, receive, status):
    receiver = receive(status)
    refused = send(receiver.url)
    send(receiver.url, {**EVENT, "rollout": 2})
    await_settled(outbox, 2)
    assert [body["rollout"] for body in receiver.bodies] == [1, 2]
    assert outbox.settled[refused] == ("undelivered", 1, f"it answered {status}")


def test_what_is_given_up_is_recorded_and_logged_without_the_path(send, outbox, receive, caplog):
    caplog.set_level(logging.WARNING, "scorecat.webhook")
    receiver = receive(*[500] * ATTEMPTS)
    number = send(receiver.url)
    send(receiver.url, {**EVENT, "rollout": 2})
    await_settled(outbox, 2)
    assert [body["rollout"] for body in receiver.bodies] == [1] * ATTEMPTS + [2]
    assert outbox.settled[number] == ("undelivered", ATTEMPTS, "it answered 500")
    assert "webhook http://127.0.0.1 was not told of rollout of rollout 1: it answered 500" in caplog.text
    assert "secret-path" not in caplog.text


@pytest.mark.parametrize("how", [None, 0])
def test_an_address_that_hangs_or_drips_delays_no_other(send, outbox, receive, how):
    """The limit holds for the whole call: bytes that come one by one do not extend it."""
    slow, quick = receive(*[how] * ATTEMPTS), receive()
    number = send(slow.url)
    assert slow.arrived.acquire(timeout=10)
    began = time.monotonic()
    for k in range(3):
        send(quick.url, {**EVENT, "rollout": k})
    await_settled(outbox, 3)
    assert time.monotonic() - began < 1.0
    await_settled(outbox)
    assert outbox.settled[number] == ("undelivered", ATTEMPTS, "no answer within 0.3 s")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/nobody", "http://", "ftp://example/x", "http://a b/"])
def test_an_address_that_cannot_be_reached_harms_no_other(send, outbox, receive, url):
    receiver = receive()
    send(url)
    send(receiver.url)
    await_settled(outbox, 2)
    assert receiver.bodies == [EVENT]
    assert outbox.settled[1][0] == "undelivered"


def test_what_a_process_left_behind_is_told_by_the_next(outbox, receive):
    receiver = receive(500, 500)
    number = outbox.put(receiver.url, EVENT)
    first = Webhooks(outbox, first_wait_s=100.0)
    first.wake()
    assert receiver.arrived.acquire(timeout=10)
    first.close(5.0)
    second = Webhooks(outbox, first_wait_s=0.001)
    second.wake()
    await_settled(outbox)
    second.close(5.0)
    assert outbox.settled[number][0] == "delivered"
    assert receiver.bodies == [EVENT] * 3


def test_what_was_told_and_could_not_be_recorded_is_not_told_twice(send, outbox, receive):
    receiver = receive()
    outbox.waiting, waiting = lambda: [outbox.notices[1]], outbox.waiting
    outbox.trouble = NotReadyError("the disk is full")
    number = send(receiver.url)
    assert receiver.arrived.acquire(timeout=10)
    time.sleep(0.2)
    outbox.trouble, outbox.waiting = None, waiting
    await_settled(outbox)
    assert (receiver.n_calls, outbox.settled[number]) == (1, ("delivered", 1, ""))


def test_an_outbox_that_cannot_be_read_is_read_again(send, outbox, receive):
    receiver = receive()
    outbox.trouble = NotReadyError("locked")
    send(receiver.url)
    time.sleep(0.1)
    outbox.trouble = None
    await_settled(outbox)
    assert receiver.bodies == [EVENT]
