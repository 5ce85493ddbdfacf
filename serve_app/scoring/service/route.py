"""The way of one request to the version that answers it, and what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from serve_app.errors import DeadlineExceededError, InvalidRowError, InvariantError, ReplicaLostError
from serve_app.models.core.outputs import Extra
from serve_app.scoring.core.counters import ArmCounters
from serve_app.scoring.core.split import Choice
from serve_app.scoring.service.shadowing import Shadowing
from serve_app.scoring.service.table_scoring import TableScorer, TableScores
from serve_app.scoring.service.version_scorer import Score, Values, VersionScorer

OWED: Final = (InvalidRowError, InvariantError, ReplicaLostError, DeadlineExceededError, asyncio.CancelledError)
"""Failures counted against the version that was asked. Rows it rejects, and callers who went away before its answer,
count for every version alike, so a version that rejects or keeps waiting more than others shows; a full queue is
nobody's failure."""


@dataclass(slots=True)
class RouteCounts:
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


class Route:
    """The way of one request: who answers, why, and where that is counted."""

    __slots__ = ("_counts", "_group", "_shadow", "reason", "scorer")

    def __init__(self, scorer: VersionScorer, choice: Choice, counts: RouteCounts, shadow: Shadowing | None) -> None:
        self.scorer = scorer
        self.reason = choice.reason
        self._group = choice.group
        self._counts = counts
        self._shadow = shadow

    async def score(self, values: Values, deadline_at: float) -> Score:
        """Score one row, see `VersionScorer.score`; the shadow may get a copy."""
        started_s = asyncio.get_running_loop().time()
        try:
            score = await self.scorer.score(values, deadline_at)
        except OWED:
            self._arm.count_error(self.reason, self._group)
            raise
        self._count_answer(values, score, started_s)
        return score

    def put(self, values: Values, deadline_at: float, settle: Callable[[Score | Exception], None]) -> None:
        """Score one row as `score` does, see `VersionScorer.put`."""
        started_s = asyncio.get_running_loop().time()

        def count(outcome: Score | Exception) -> None:
            if isinstance(outcome, Score):
                self._count_answer(values, outcome, started_s)
            elif isinstance(outcome, OWED):
                self._arm.count_error(self.reason, self._group)
            settle(outcome)

        try:
            self.scorer.put(values, deadline_at, count)
        except OWED:
            self._arm.count_error(self.reason, self._group)
            raise

    def _count_answer(self, values: Values, score: Score, started_s: float) -> None:
        took_s = asyncio.get_running_loop().time() - started_s
        self._arm.count_answer(self.reason, self._group, took_s, score.probability)
        if self._shadow is not None:
            self._shadow.offer_row(values, score, self.scorer)

    async def score_table(
        self,
        tables: TableScorer,
        batch: pa.RecordBatch,
        deadline_at: float,
        extras: Sequence[Extra] = (),
    ) -> TableScores:
        """Score a table as a whole, see `TableScorer.score`; the shadow may get a copy."""
        try:
            scores = await tables.score(self.scorer, batch, deadline_at, extras)
        except OWED:
            self._arm.count_error(self.reason, self._group)
            raise
        self._arm.count_table(self.reason, self._group)
        if self._shadow is not None:
            self._shadow.offer_table(batch, scores, self.scorer)
        return scores

    @property
    def _arm(self) -> ArmCounters:
        return self._counts.arms[self.scorer.version]
