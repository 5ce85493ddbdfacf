"""The process beside a Gateway that writes events: folding them holds Python's lock, which scores need."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Final

from serve_app.errors import ScorecatError, UnknownOutcomeError
from serve_app.history.adapters.open_store import open_live_history
from serve_app.history.service.config import StateConfig
from serve_app.history.service.intake import Result, Work, write_events
from serve_app.history.service.live_history import LiveHistory
from serve_app.http.events.event_bodies import parse_events
from serve_app.http.parsing_process import ParsingProcess

FORGET_PERIOD_S: Final = 600.0

logger = logging.getLogger("scorecat.state")


class EventProcess:
    """Writes events to the states of a config, in a process of its own."""

    def __init__(self, config: StateConfig) -> None:
        self._config = config
        self._process = ParsingProcess(_lost)

    async def write(self, works: Sequence[Work]) -> Sequence[Result]:
        """Record works, see `serve_app.history.service.intake.write_events`."""
        return await self._process.run(partial(_write, self._config, list(works)))

    async def keep(self) -> None:
        """Start the process at once, so that the first event need not wait; then remove what is past retention."""
        while True:
            try:
                await self._process.run(partial(_forget, self._config))
            except ScorecatError as exc:
                logger.warning("what is past retention could not be removed: %s", exc)
            await asyncio.sleep(FORGET_PERIOD_S)


def _lost() -> UnknownOutcomeError:
    return UnknownOutcomeError(
        "the process that writes events died; it is not known whether these were stored: send them again, events "
        "with an event_id count once",
        1.0,
    )


@lru_cache(maxsize=1)
def _open(config: StateConfig) -> LiveHistory:
    return open_live_history(config)


def _write(config: StateConfig, works: Sequence[Work]) -> list[Result]:
    return write_events(_open(config), parse_events, works)


def _forget(config: StateConfig) -> int:
    return _open(config).forget()
