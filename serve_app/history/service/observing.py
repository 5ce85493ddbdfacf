"""A scored row recorded as a view, in the same call; the score never waits long for that, nor fails with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from serve_app.errors import NotReadyError, ScorecatError
from serve_app.events.core.event_rows import EVENT_TYPES, VIEW
from serve_app.features.core.row_keys import KEY_NAMES
from serve_app.history.service.intake import EventSink
from serve_app.history.service.live_history import LiveEvent

OBSERVE_TIMEOUT_S: Final = 1.0
"""Longest wait for a record; its share of a deadline is a half."""
COOL_DOWN_S: Final = 1.0
"""After a failure the store is left alone for so long: a dead one costs nothing a request."""
OFF: Final = "off"
UNAVAILABLE: Final = "unavailable"

logger = logging.getLogger("scorecat.state")


class Observer:
    """Records scored rows as views.

    Parameters
    ----------
    sink : EventSink or None
        None: nothing is recorded.
    """

    def __init__(self, sink: EventSink | None) -> None:
        self._sink = sink
        self._down_until = 0.0
        self._why = ""

    async def observe(self, keys: Sequence[Any], price: float, deadline_at: float) -> tuple[str, str]:
        """Record a row and return (status, detail).

        Parameters
        ----------
        keys : sequence
            Of the row, as in `serve_app.features.core.row_keys.KEY_NAMES`.
        price : float
        deadline_at : float
            Of the request, event-loop time.
        """
        now = asyncio.get_running_loop().time()
        if self._sink is None:
            return OFF, "this service keeps no history"
        if now < self._down_until:
            return UNAVAILABLE, self._why
        wait_s = min(OBSERVE_TIMEOUT_S, (deadline_at - now) / 2)
        row = dict(zip(KEY_NAMES, keys, strict=True))
        event = LiveEvent(
            row["user_id"], row["session_id"], row["product_id"], EVENT_TYPES[VIEW], price,
            row["event_time"], row["category_id"], row["event_id"], is_row=True,
        )  # fmt: skip
        try:
            outcome = await self._sink.observe(event, now + wait_s)
        except ScorecatError as exc:
            if not isinstance(exc, NotReadyError):
                logger.exception("a row could not be recorded")
            self._why = exc.detail if isinstance(exc, NotReadyError) else "an internal error was logged"
            self._down_until = asyncio.get_running_loop().time() + COOL_DOWN_S
            return UNAVAILABLE, self._why
        return outcome.status, outcome.detail
