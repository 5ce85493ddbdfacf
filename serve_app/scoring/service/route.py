"""The way of one request to the version that answers it, and who is told what became of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import pyarrow as pa

from serve_app.errors import DeadlineExceededError, InvalidRowError, InvariantError, ReplicaLostError
from serve_app.models.core.outputs import Extra
from serve_app.scoring.core.counters import ArmCounters
from serve_app.scoring.core.split import Choice
from serve_app.scoring.service.table_scoring import TableScorer, TableScores
from serve_app.scoring.service.version_scorer import Score, Values, VersionScorer

OWED: Final = (InvalidRowError, InvariantError, ReplicaLostError, DeadlineExceededError, asyncio.CancelledError)
"""Failures counted against the version that was asked. Rows it rejects, and callers who went away before its answer,
count for every version alike, so a version that rejects or keeps waiting more than others shows; a full queue is
nobody's failure."""


class Route:
    """The way of one request: who answers, why, and who is told.

    Attributes
    ----------
    scorer : VersionScorer
    reason : str
    group : int
        Of users, see `serve_app.scoring.core.counters`.
    prediction_id : str
        Names the answer for a row; empty before there is one.
    """

    __slots__ = ("_watchers", "group", "prediction_id", "reason", "scorer")

    def __init__(self, scorer: VersionScorer, choice: Choice, watchers: Sequence[Watcher]) -> None:
        self.scorer = scorer
        self.reason = choice.reason
        self.group = choice.group
        self.prediction_id = ""
        self._watchers = watchers

    async def score(self, values: Values, deadline_at: float) -> Score:
        """Score one row, see `VersionScorer.score`."""
        now_s = asyncio.get_running_loop().time
        started_s = now_s()
        try:
            score = await self.scorer.score(values, deadline_at)
        except OWED:
            self._tell_failure()
            raise
        self._tell_answer(values, score, now_s() - started_s)
        return score

    def put(self, values: Values, deadline_at: float, settle: Callable[[Score | Exception], None]) -> None:
        """Score one row as `score` does, see `VersionScorer.put`."""
        now_s = asyncio.get_running_loop().time
        started_s = now_s()

        def tell(outcome: Score | Exception) -> None:
            if isinstance(outcome, Score):
                self._tell_answer(values, outcome, now_s() - started_s)
            elif isinstance(outcome, OWED):
                self._tell_failure()
            settle(outcome)

        try:
            self.scorer.put(values, deadline_at, tell)
        except OWED:
            self._tell_failure()
            raise

    def _tell_answer(self, values: Values, score: Score, took_s: float) -> None:
        self.prediction_id = os.urandom(16).hex()
        for watcher in self._watchers:
            watcher.note_answer(self, values, score, took_s)

    def _tell_failure(self) -> None:
        for watcher in self._watchers:
            watcher.note_failure(self)

    async def score_table(
        self,
        tables: TableScorer,
        batch: pa.RecordBatch,
        deadline_at: float,
        extras: Sequence[Extra] = (),
    ) -> TableScores:
        """Score a table as a whole, see `TableScorer.score`."""
        try:
            scores = await tables.score(self.scorer, batch, deadline_at, extras)
        except OWED:
            self._tell_failure()
            raise
        for watcher in self._watchers:
            watcher.note_table(self, batch, scores)
        return scores


class Watcher(Protocol):
    """Is told what became of a request: on the event loop, before the caller is; must be quick and never raise."""

    def note_answer(self, route: Route, values: Values, score: Score, took_s: float) -> None:
        """Take note of an answered row."""
        ...

    def note_table(self, route: Route, batch: pa.RecordBatch, scores: TableScores) -> None:
        """Take note of an answered table."""
        ...

    def note_failure(self, route: Route) -> None:
        """Take note of a request that its version failed, see `OWED`."""
        ...


@dataclass(slots=True)
class RouteCounts(Watcher):
    """Counters under one revision of the split; replaced by empty ones when they are reported."""

    revision: int
    versions: tuple[int, ...]
    opened_at_s: float
    arms: dict[int, ArmCounters] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.take()

    def take(self) -> dict[int, ArmCounters]:
        """Return what was counted since the last time, and start anew."""
        taken, self.arms = self.arms, {version: ArmCounters() for version in self.versions}
        return taken

    def note_answer(self, route: Route, values: Values, score: Score, took_s: float) -> None:  # noqa: ARG002 - its row
        """Count an answered row."""
        self.arms[route.scorer.version].count_answer(route.reason, route.group, took_s, score.probability)

    def note_table(self, route: Route, batch: pa.RecordBatch, scores: TableScores) -> None:  # noqa: ARG002 - its rows
        """Count an answered table."""
        self.arms[route.scorer.version].count_table(route.reason, route.group)

    def note_failure(self, route: Route) -> None:
        """Count a failure."""
        self.arms[route.scorer.version].count_error(route.reason, route.group)
