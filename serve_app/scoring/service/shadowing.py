"""Copies of requests for a shadow version: off the answer path, dropped and counted under pressure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

import numpy as np
import pyarrow as pa

from serve_app.errors import ScorecatError
from serve_app.scoring.core.shadow import ShadowCounters
from serve_app.scoring.service.route import Route, Watcher
from serve_app.scoring.service.table_scoring import SLICE_ROWS, TableScorer, TableScores
from serve_app.scoring.service.version_scorer import Score, Values, VersionScorer

MAX_COPIES: Final = 128
"""Copies of single rows under way at once; more are dropped."""
MAX_LIVE_WAITING: Final = 64
"""With more rows than this waiting for the live version the Gateway is under pressure: nothing is copied."""
COPY_TIMEOUT_S: Final = 5.0

logger = logging.getLogger("scorecat.shadow")


class Shadowing(Watcher):
    """A version that scores copies and answers nobody.

    Parameters
    ----------
    scorer : VersionScorer
        Of the shadow.
    share : float
        Of the requests, 0-1.
    draw : callable
        Uniform on [0, 1).
    """

    def __init__(self, scorer: VersionScorer, share: float, draw: Callable[[], float]) -> None:
        self._scorer = scorer
        self._share = share
        self._draw = draw
        self._tables = TableScorer()
        self._n_tables = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._counters = ShadowCounters()

    def take(self) -> ShadowCounters:
        """Return what was counted since the last time, and start anew."""
        taken, self._counters = self._counters, ShadowCounters()
        return taken

    def note_answer(self, route: Route, values: Values, score: Score, took_s: float) -> None:  # noqa: ARG002
        """Copy a scored row, if it is drawn and there is room."""
        if self._draw() >= self._share:
            return
        self._counters.n_copied += 1
        if len(self._tasks) >= MAX_COPIES or route.scorer.n_waiting > MAX_LIVE_WAITING:
            self._counters.n_dropped += 1
        else:
            self._start(self._copy_row(values, score))

    def note_table(self, route: Route, batch: pa.RecordBatch, scores: TableScores) -> None:
        """Copy a scored table, if it is drawn, small enough and the only one under way."""
        if scores.predictions.ndim != 1 or self._draw() >= self._share:
            return
        self._counters.n_copied += scores.n_rows
        if self._n_tables or scores.n_rows > SLICE_ROWS or route.scorer.n_waiting > MAX_LIVE_WAITING:
            self._counters.n_dropped += scores.n_rows
        else:
            self._n_tables += 1
            self._start(self._copy_table(batch, scores))

    def note_failure(self, route: Route) -> None:
        """Copy nothing: there is no answer to compare with."""

    def _start(self, copy: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(copy)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _copy_row(self, values: Values, live: Score) -> None:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        try:
            found = await self._scorer.score(values, started_s + COPY_TIMEOUT_S)
        except ScorecatError:
            self._counters.n_failed += 1
            return
        is_changed = found.recommendation != live.recommendation
        self._counters.count_pair(
            live.probability, found.probability, is_changed=is_changed, latency_s=loop.time() - started_s
        )

    async def _copy_table(self, batch: pa.RecordBatch, live: TableScores) -> None:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        try:
            found = await self._tables.score(self._scorer, batch, started_s + COPY_TIMEOUT_S)
            n_changed = _count_changed(live, found)
            latency_s = loop.time() - started_s
            self._counters.count_table(live.predictions, found.predictions, n_changed=n_changed, latency_s=latency_s)
        except ScorecatError:
            self._counters.n_failed += live.n_rows
        finally:
            self._n_tables -= 1


def _count_changed(live: TableScores, shadow: TableScores) -> int:
    """Return how many rows that both accepted got another recommendation; 0 where there is none."""
    if live.manifest.task != "binary" or shadow.manifest.task != "binary":
        return 0
    both = (live.bands >= 0) & (shadow.bands >= 0)
    return int(np.count_nonzero((live.bands != shadow.bands) & both))
