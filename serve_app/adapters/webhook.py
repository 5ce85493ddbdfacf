"""Tells webhooks of changes from a thread of its own: a slow or dead address delays nothing."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

TIMEOUT_S: Final = 5.0
ATTEMPTS: Final = 3
FIRST_WAIT_S: Final = 1.0
"""Before the second attempt; each further wait is four times as long."""
MAX_WAITING: Final = 256
"""Events that wait for an address which is slow; more are dropped and logged."""

logger = logging.getLogger("scorecat.webhook")

_Job = tuple[str, dict[str, Any]]


class Webhooks:
    """A `serve_app.service.rollout_ports.Notifier` that posts JSON.

    Events of all addresses are sent one after the other, in order. A redirect is not followed, and the answer's body
    is not read. Only the address' host is logged: its path may be a secret.

    Parameters
    ----------
    timeout_s, first_wait_s : float
    max_waiting : int
    """

    def __init__(
        self, *, timeout_s: float = TIMEOUT_S, first_wait_s: float = FIRST_WAIT_S, max_waiting: int = MAX_WAITING
    ) -> None:
        self._timeout_s = timeout_s
        self._first_wait_s = first_wait_s
        self._jobs: queue.Queue[_Job | None] = queue.Queue(max_waiting)
        self._closed = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def send(self, url: str, event: Mapping[str, Any]) -> None:
        """Queue one event; what cannot be delivered is logged."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
                self._thread.start()
        try:
            self._jobs.put_nowait((url, dict(event)))
        except queue.Full:
            logger.warning("webhook %s is too slow: event %s was dropped", _say_host(url), event.get("event"))

    def close(self, timeout_s: float = 0.0) -> None:
        """Stop after the attempt that is under way, and wait for that at most so long."""
        self._closed.set()
        with contextlib.suppress(queue.Full):
            self._jobs.put_nowait(None)
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        with httpx.Client(timeout=self._timeout_s) as client:
            while not self._closed.is_set():
                job = self._jobs.get()
                if job is None:
                    return
                try:
                    self._deliver(client, *job)
                except Exception:  # the next event may fare better
                    logger.exception("webhook %s could not be told", _say_host(job[0]))

    def _deliver(self, client: httpx.Client, url: str, event: dict[str, Any]) -> None:
        wait_s = self._first_wait_s
        for attempt in range(1, ATTEMPTS + 1):
            problem, is_final = _post(client, url, event)
            if not problem:
                return
            if is_final or attempt == ATTEMPTS:
                logger.warning("webhook %s was not told of %s: %s", _say_host(url), event.get("event"), problem)
                return
            if self._closed.wait(wait_s):
                return
            wait_s *= 4


def _post(client: httpx.Client, url: str, event: dict[str, Any]) -> tuple[str, bool]:
    """Return what went wrong, empty when nothing did, and whether another attempt is pointless."""
    try:
        with client.stream("POST", url, json=event) as answer:
            status = answer.status_code
    except httpx.HTTPError as exc:
        return f"{type(exc).__name__}: {exc}".removesuffix(": "), False
    is_worth_it = status >= httpx.codes.INTERNAL_SERVER_ERROR or status in (
        httpx.codes.TOO_MANY_REQUESTS,
        httpx.codes.REQUEST_TIMEOUT,
    )
    return ("" if httpx.codes.is_success(status) else f"it answered {status}"), not is_worth_it


def _say_host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}"
