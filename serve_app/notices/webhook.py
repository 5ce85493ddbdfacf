"""Tells webhooks what waits in the outbox, from a thread of its own: a slow or dead address delays no other.

Each address has its own queue, in order. What was told is recorded, so a process that dies loses nothing: the next one
goes on. It may tell once more what was told right before; an event's `id` stays the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import httpx

from serve_app.notices.ports import Notice, NoticeStatus, Outbox
from serve_app.runtime.log_once import LogOnce

TIMEOUT_S: Final = 5.0
"""For a whole call, from the look-up of the name to the status of the answer."""
ATTEMPTS: Final = 5
FIRST_WAIT_S: Final = 1.0
"""Before the second attempt; each further wait is four times as long, 85 s together."""
LOOK_S: Final = 30.0
"""How often the outbox is looked at without being asked to."""

logger = logging.getLogger("scorecat.webhook")


class Webhooks:
    """Posts what waits in an outbox as JSON.

    A redirect is not followed, and the answer's body is not read. Only the address' host is logged: its path may be a
    secret.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        timeout_s: float = TIMEOUT_S,
        first_wait_s: float = FIRST_WAIT_S,
        look_s: float = LOOK_S,
    ) -> None:
        self._outbox = outbox
        self._timeout_s = timeout_s
        self._first_wait_s = first_wait_s
        self._look_s = look_s
        self._loop = asyncio.new_event_loop()
        self._woken = asyncio.Event()
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._unsettled: dict[int, tuple[NoticeStatus, int, str]] = {}
        self._is_closed = False
        self._trouble = LogOnce(logger)
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Look into the outbox soon; the first call begins."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
                self._thread.start()
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._woken.set)

    def close(self, timeout_s: float = 0.0) -> None:
        """Stop, and wait for that at most so long; what waits is told by the next process."""
        self._is_closed = True
        if self._thread is not None:
            self.wake()
            self._thread.join(timeout_s)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        async with httpx.AsyncClient(timeout=self._timeout_s, limits=limits) as client:
            while not self._is_closed:
                self._woken.clear()
                with self._trouble.guard("the outbox of webhooks cannot be read"):
                    await self._look(client)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), self._look_s)
            for task in self._busy.values():
                task.cancel()

    async def _look(self, client: httpx.AsyncClient) -> None:
        """Give each address that is idle what waits for it."""
        waiting = await asyncio.to_thread(self._outbox.waiting)
        self._busy = {url: task for url, task in self._busy.items() if not task.done()}
        for url, notices in itertools.groupby(sorted(waiting, key=lambda n: (n.url, n.id)), key=lambda n: n.url):
            if url not in self._busy:
                task = asyncio.create_task(self._tell_all(client, list(notices)))
                task.add_done_callback(lambda _: self._woken.set())
                self._busy[url] = task

    async def _tell_all(self, client: httpx.AsyncClient, notices: Sequence[Notice]) -> None:
        try:
            for notice in notices:
                await self._tell(client, notice)
        except Exception:
            logger.exception("webhook %s could not be told; it is tried again", _say_host(notices[0].url))
            await asyncio.sleep(self._look_s)

    async def _tell(self, client: httpx.AsyncClient, notice: Notice) -> None:
        """Post one event until it is told or given up; what became of it and could not be stored is not done again."""
        found, host = self._unsettled.get(notice.id), _say_host(notice.url)
        for attempt in itertools.count(notice.n_attempts + 1):
            if found is None:
                problem, is_final = await self._post(client, notice)
                status: NoticeStatus = "waiting" if problem else "delivered"
                if problem and (is_final or attempt >= ATTEMPTS):
                    status = "undelivered"
                    what = notice.event.get("event"), notice.event.get("rollout"), problem, attempt
                    logger.warning("webhook %s was not told of %s of rollout %s: %s (%d attempts)", host, *what)
                found = status, attempt, problem
            self._unsettled[notice.id] = found
            await asyncio.to_thread(self._outbox.settle, notice.id, *found)
            del self._unsettled[notice.id]
            if found[0] != "waiting":
                return
            found = None
            await asyncio.sleep(self._first_wait_s * 4 ** (attempt - 1))

    async def _post(self, client: httpx.AsyncClient, notice: Notice) -> tuple[str, bool]:
        """Return what went wrong, empty when nothing did, and whether another attempt is pointless."""
        try:
            async with asyncio.timeout(self._timeout_s), client.stream("POST", notice.url, json=notice.event) as answer:
                status = answer.status_code
        except TimeoutError:
            return f"no answer within {self._timeout_s:g} s", False
        except httpx.HTTPError as exc:
            return f"{type(exc).__name__}: {exc}".removesuffix(": "), False
        except Exception as exc:  # noqa: BLE001 - an address that nothing can be sent to
            return f"{type(exc).__name__}: {exc}", True
        is_worth_it = status >= httpx.codes.INTERNAL_SERVER_ERROR or status in (
            httpx.codes.TOO_MANY_REQUESTS,
            httpx.codes.REQUEST_TIMEOUT,
        )
        return ("" if httpx.codes.is_success(status) else f"it answered {status}"), not is_worth_it


def _say_host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}"
