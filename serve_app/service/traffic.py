"""Which version answers a request, kept in step with the split record, and what became of the requests."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pyarrow as pa

from serve_app.core.counters import ArmCounters
from serve_app.core.encoding import RowError
from serve_app.core.errors import (
    DeadlineExceededError,
    InvalidRowError,
    InvariantError,
    NotFoundError,
    NotReadyError,
    ReplicaLostError,
)
from serve_app.core.outputs import Extra
from serve_app.core.shadow import ShadowCounters
from serve_app.core.split import Choice, Split, only_arm, parse_split
from serve_app.service.ports import SplitSource
from serve_app.service.scoring import Score, Values, VersionScorer
from serve_app.service.shadowing import Shadowing
from serve_app.service.table_scoring import TableScorer, TableScores

RETRY_S: Final = 1.0
"""How long a Gateway waits before it tries again to follow a split whose versions it could not reach."""
KEEP_COUNTS_S: Final = 90.0
"""Requests chosen under an earlier split are counted for it this long; none lives longer."""
OWED: Final = (InvalidRowError, InvariantError, ReplicaLostError, DeadlineExceededError)
"""Failures counted against the version that was asked. Rows it rejects count for every version alike, so a
version that rejects what others accept shows; a full queue is nobody's failure."""

logger = logging.getLogger("scorecat.traffic")
Connect = Callable[[str, int], Awaitable[VersionScorer]]


@dataclass(slots=True)
class Counts:
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

    def __init__(self, scorer: VersionScorer, choice: Choice, counts: Counts, shadow: Shadowing | None) -> None:
        self.scorer = scorer
        self.reason = choice.reason
        self._group = choice.group
        self._counts = counts
        self._shadow = shadow

    async def score(self, values: Values, deadline_at: float) -> Score:
        """Score one row, see `VersionScorer.score`; the shadow may get a copy."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        with self._counting_errors():
            score = await self.scorer.score(values, deadline_at)
        self._arm.count_answer(self.reason, self._group, loop.time() - started_s, score.probability)
        if self._shadow is not None:
            self._shadow.offer_row(values, score, self.scorer)
        return score

    async def score_table(
        self,
        tables: TableScorer,
        batch: pa.RecordBatch,
        deadline_at: float,
        known: tuple[RowError, ...] = (),
        extras: Sequence[Extra] = (),
    ) -> TableScores:
        """Score a table as a whole, see `TableScorer.score`; the shadow may get a copy."""
        with self._counting_errors():
            scores = await tables.score(self.scorer, batch, deadline_at, known, extras)
        self._arm.count_table(self.reason, self._group)
        if self._shadow is not None:
            self._shadow.offer_table(batch, scores, self.scorer)
        return scores

    @property
    def _arm(self) -> ArmCounters:
        return self._counts.arms[self.scorer.version]

    @contextmanager
    def _counting_errors(self) -> Iterator[None]:
        try:
            yield
        except OWED:
            self._arm.count_error(self.reason, self._group)
            raise


class Traffic:
    """All versions with traffic, and which of them answers whom.

    Parameters
    ----------
    source : SplitSource
        The durable record of which versions answer.
    connect : callable
        ``await connect(name, version)`` returns a scorer that has answered a probe.
    draw : callable
        Uniform on [0, 1).
    """

    def __init__(self, source: SplitSource, connect: Connect, draw: Callable[[], float] = random.random) -> None:
        self._source = source
        self._connect = connect
        self._draw = draw
        self._record: Mapping[str, Any] | None = None
        self._split: Split | None = None
        self._scorers: dict[int, VersionScorer] = {}
        self._shadow: Shadowing | None = None
        self._counts: list[Counts] = []

    async def follow(self, poll_s: float) -> None:
        """Look at the record for ever and follow it.

        The last known split stays in force when the record cannot be read or a version does not
        answer: a Gateway never stops serving because something else is down. A newer record ends the
        attempt to follow an older one, so that a rollback never waits for a version that hangs.
        """
        attempt: asyncio.Task[None] | None = None
        attempted: Mapping[str, Any] | None = None
        failure = ""
        while True:
            await asyncio.sleep(poll_s)
            try:
                record = self._source.read()
                failure = ""
            except Exception as exc:
                if str(exc) != failure:
                    logger.exception("the split record cannot be read; the last known split stays")
                failure = str(exc)
                continue
            if record is None or record == self._record:
                continue
            if attempt is not None and not attempt.done():
                if record == attempted:
                    continue
                attempt.cancel()
            attempted = record
            attempt = asyncio.create_task(self._attempt(record))

    async def _attempt(self, record: Mapping[str, Any]) -> None:
        try:
            await self._apply(record)
        except Exception:
            logger.exception("the split of revision %s cannot be followed yet", record.get("revision"))
        if self._record != record:
            await asyncio.sleep(RETRY_S)

    async def refresh(self) -> None:
        """Read the record once and follow it; raises what keeps it from that."""
        record = self._source.read()
        if record is not None and record != self._record:
            await self._apply(record)

    async def _apply(self, record: Mapping[str, Any]) -> None:
        split = parse_split(record)
        scorers = dict(self._scorers) if self._split and self._split.model == split.model else {}
        missing = [version for version in split.versions if version not in scorers]
        found = await asyncio.gather(*(self._connect(split.model, v) for v in missing), return_exceptions=True)
        failures = {}
        for version, outcome in zip(missing, found, strict=True):
            if isinstance(outcome, VersionScorer):
                scorers[version] = outcome
            elif isinstance(outcome, Exception):
                failures[version] = outcome
            else:
                raise outcome
        if not failures:
            self._switch(split, scorers)
            self._record = record
            return
        reachable = self._narrow(split, failures)
        logger.warning("revision %d: %s", split.revision, "; ".join(f"v{v}: {e}" for v, e in failures.items()))
        self._switch(reachable, scorers)

    def _narrow(self, split: Split, failures: Mapping[int, Exception]) -> Split:
        """Return what of a split can be served now; raise when the split before is better."""
        if split.shadow and set(failures) == {split.shadow.version}:
            return replace(split, shadow=None)
        if self._split is not None or split.stable in failures:
            raise next(iter(failures.values()))
        return Split(split.model, split.stable, only_arm(split.stable), split.revision)

    def _switch(self, split: Split, scorers: dict[int, VersionScorer]) -> None:
        before, self._split = self._split, split
        self._scorers = {v: scorer for v, scorer in scorers.items() if v in split.versions}
        if split.shadow is None:
            self._shadow = None
        elif before is None or before.shadow != split.shadow or self._shadow is None:
            self._shadow = Shadowing(self._scorers[split.shadow.version], split.shadow.share, self._draw)
        if before == split:
            return
        now_s = asyncio.get_running_loop().time()
        self._counts.append(Counts(split.revision, tuple(split.versions), now_s))
        shares = ", ".join(f"v{version} {share:.2%}" for version, share in split.shares.items())
        logger.info("split of %s is now %s (revision %d)", split.model, shares, split.revision)

    @property
    def split(self) -> Split:
        """The split in force; raises NotReadyError before the first is known."""
        if self._split is None:
            raise NotReadyError("no model version answers yet", 1.0)
        return self._split

    @property
    def live(self) -> VersionScorer:
        """The stable version."""
        return self._scorers[self.split.stable]

    @property
    def model_name(self) -> str:
        """Name of the served model."""
        return self.split.model

    @property
    def versions(self) -> list[int]:
        """Versions that can be asked, ascending."""
        return sorted(self._scorers)

    async def check_ready(self) -> None:
        """Raise NotReadyError when nothing can be scored right now."""
        self.live.check_answering()
        if not self.live.is_answering:
            await self.live.probe()

    def choose(self, user_id: str | None, pin: int | None = None) -> Route:
        """Return the way of a request, see `Split.choose`."""
        choice = self.split.choose(user_id, pin, self._draw())
        return Route(self._scorers[choice.version], choice, self._counts[-1], self._shadow)

    def find(self, name: str, version: int | None = None) -> VersionScorer:
        """Return the scorer of a named model: of a version, or the stable one.

        Raises
        ------
        NotFoundError
            Another model or version is served.
        """
        split = self.split
        if name != split.model:
            raise NotFoundError(f"no model {name} is served here; there is {split.model}")
        if version is not None and version not in self._scorers:
            known = ", ".join(map(str, self._scorers))
            raise NotFoundError(f"version {version} of {name} is not served; there is {known}")
        return self._scorers[split.stable if version is None else version]

    def route(self, name: str, version: int | None, user_id: str | None, pin: int | None) -> Route:
        """Return the way of a request to a named model: a version it names itself, else as `choose`."""
        scorer = self.find(name, version)
        if version is None:
            return self.choose(user_id, pin)
        return Route(scorer, Choice(version, "pin", 0), self._counts[-1], None)

    def take_shadow(self) -> ShadowCounters | None:
        """Return the shadow's counters since the last time; None without a shadow or copies."""
        taken = self._shadow.take() if self._shadow is not None else None
        return taken if taken is not None and taken.n_copied else None

    def take_counts(self) -> list[tuple[int, dict[int, ArmCounters]]]:
        """Return the counters by revision since the last time, those with anything in them."""
        oldest_at_s = asyncio.get_running_loop().time() - KEEP_COUNTS_S
        while len(self._counts) > 1 and self._counts[1].opened_at_s < oldest_at_s:
            self._counts.pop(0)
        taken = [(counts.revision, counts.take()) for counts in self._counts]
        return [(revision, arms) for revision, arms in taken if any(arm.routed for arm in arms.values())]
