"""Which version answers a request, kept in step with the split record."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from serve_app.errors import NotFoundError, NotReadyError
from serve_app.models.service.ports import SplitSource
from serve_app.runtime.log_once import LogOnce
from serve_app.scoring.core.counters import ArmCounters
from serve_app.scoring.core.shadow import ShadowCounters
from serve_app.scoring.core.split import Choice, Split, only_arm, parse_split
from serve_app.scoring.service.route import Route, RouteCounts, Watcher
from serve_app.scoring.service.shadowing import Shadowing
from serve_app.scoring.service.version_scorer import VersionScorer

RETRY_S: Final = 1.0
"""How long a Gateway waits before it tries again to follow a split whose versions it could not reach."""
LONGEST_WAIT_S: Final = 2.0
"""A split that begins later than this by our clock begins then: a clock that is off must not stop a rollback."""
KEEP_COUNTS_S: Final = 90.0
"""Requests chosen under an earlier split are counted for it this long; none lives longer."""
logger = logging.getLogger("scorecat.traffic")
Connect = Callable[[str, int], Awaitable[VersionScorer]]


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
    clock : callable
        Seconds since the epoch.
    """

    def __init__(
        self,
        source: SplitSource,
        connect: Connect,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._connect = connect
        self._draw = draw
        self._clock = clock
        self._record: Mapping[str, Any] | None = None
        self._attempted: Mapping[str, Any] | None = None
        self._attempt: asyncio.Task[None] | None = None
        self._trouble = LogOnce(logger)
        self._split: Split | None = None
        self._scorers: dict[tuple[str, int], VersionScorer] = {}
        self._wanted: set[tuple[str, int]] = set()
        self._shadow: Shadowing | None = None
        self._counts: list[RouteCounts] = []
        self._watchers: tuple[Watcher, ...] = ()
        self._n_begun = 0
        self._n_followed = 0

    async def begin(self, poll_s: float, patience_s: float) -> None:
        """Wait for the first split, so that a Gateway which knows none is not asked.

        Without a record it waits for ever: whoever writes it is not there yet. For versions that a record names and
        that do not answer it waits `patience_s` seconds; a Gateway without them still answers the routes of rollouts.
        """
        since_s: float | None = None
        loop = asyncio.get_running_loop()
        while self._split is None:
            try:
                record = self._source.read()
                split = parse_split(record) if record is not None else None
                since_s = loop.time() if split is not None and since_s is None else since_s
                await self.refresh()
            except Exception as exc:  # noqa: BLE001 - whatever it is, it is tried again
                self._complain(f"no split can be followed yet: {exc!r}")
            if self._split is None:
                if since_s is not None and loop.time() - since_s >= patience_s:
                    return
                await asyncio.sleep(poll_s if since_s is None else RETRY_S)

    async def follow(self, poll_s: float) -> None:
        """Look at the record for ever and follow it.

        The last known split stays in force when the record cannot be read or a version does not
        answer: a Gateway never stops serving because something else is down. A newer record ends the
        attempt to follow an older one, so that a rollback never waits for a version that hangs.
        """
        while True:
            await asyncio.sleep(poll_s)
            record = None
            with self._trouble.guard("the split record cannot be read; the last known split stays"):
                record = self._source.read()
            if record is None or record in (self._record, self._attempted):
                continue
            if self._attempt is not None:
                self._attempt.cancel()
            self._attempted = record
            self._attempt = asyncio.create_task(self._try(record))

    async def _try(self, record: Mapping[str, Any]) -> None:
        try:
            await self._apply(record)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the split before stays in force
            self._complain(f"the split of revision {record.get('revision')} cannot be followed yet: {exc!r}")
        if self._record != record:
            await asyncio.sleep(RETRY_S)
        self._attempted = None

    async def refresh(self) -> None:
        """Read the record once and follow it; raises what keeps it from that."""
        record = self._source.read()
        if record is not None and record != self._record:
            await self._apply(record)

    async def _apply(self, record: Mapping[str, Any]) -> None:
        self._n_begun += 1
        number = self._n_begun
        split = parse_split(record)
        keys = [(split.model, version) for version in split.versions]
        self._wanted = set(keys)
        missing = [key for key in keys if key not in self._scorers]
        found = await asyncio.gather(*(self._connect(*key) for key in missing), return_exceptions=True)
        failures: dict[int, Exception] = {}
        for key, outcome in zip(missing, found, strict=True):
            if isinstance(outcome, VersionScorer):
                self._scorers[key] = outcome
            elif isinstance(outcome, Exception):
                failures[key[1]] = outcome
            else:
                raise outcome
        if failures:
            split = self._narrow(split, failures)
            self._complain(f"revision {split.revision} without " + "; ".join(f"v{v}: {e}" for v, e in failures.items()))
        # From here on a newer record does not stop this one: all Gateways switch, or none.
        await asyncio.shield(asyncio.ensure_future(self._switch_in_time(number, split, None if failures else record)))

    async def _switch_in_time(self, number: int, split: Split, record: Mapping[str, Any] | None) -> None:
        wait_s = min(split.effective_at_s - self._clock(), LONGEST_WAIT_S)
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        # what was read last counts, whatever its revision: somebody may have put a higher one there meanwhile
        if number >= self._n_followed:
            self._n_followed = number
            self._switch(split)
            self._record = self._record if record is None else record

    def _complain(self, text: str) -> None:
        """Log what keeps a split from being followed, once: it is tried every second."""
        if self._trouble.is_new(text):
            logger.warning(text)

    def _narrow(self, split: Split, failures: Mapping[int, Exception]) -> Split:
        """Return what of a split can be served now; raise when the split before is better."""
        if split.shadow and set(failures) == {split.shadow.version}:
            return replace(split, shadow=None)
        if self._split is not None or split.stable in failures:
            raise next(iter(failures.values()))
        return Split(split.model, split.stable, only_arm(split.stable), split.revision)

    def _switch(self, split: Split) -> None:
        before, self._split = self._split, split
        kept = self._wanted | {(split.model, version) for version in split.versions}
        self._scorers = {key: scorer for key, scorer in self._scorers.items() if key in kept}
        if split.shadow is None:
            self._shadow = None
        elif before is None or before.shadow != split.shadow or self._shadow is None:
            self._shadow = Shadowing(self._scorers[split.model, split.shadow.version], split.shadow.share, self._draw)
        if before == split:
            return
        now_s = asyncio.get_running_loop().time()
        self._counts.append(RouteCounts(split.revision, tuple(split.versions), now_s))
        self._watchers = (self._counts[-1], *([self._shadow] if self._shadow is not None else []))
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
        return self._scorers[self.split.model, self.split.stable]

    async def check_ready(self) -> None:
        """Raise NotReadyError when nothing can be scored right now."""
        self.live.check_answering()
        if not self.live.is_answering:
            await self.live.probe()

    def choose(self, user_id: str | None, pin: int | None = None) -> Route:
        """Return the way of a request, see `Split.choose`."""
        split = self.split
        choice = split.choose(user_id, pin, self._draw())
        return Route(self._scorers[split.model, choice.version], choice, self._watchers)

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
        if version is not None and version not in split.versions:
            known = ", ".join(map(str, split.versions))
            raise NotFoundError(f"version {version} of {name} is not served; there is {known}")
        return self._scorers[name, split.stable if version is None else version]

    def route(self, name: str, version: int | None, user_id: str | None, pin: int | None) -> Route:
        """Return the way of a request to a named model: a version it names itself, else as `choose`."""
        scorer = self.find(name, version)
        if version is None:
            return self.choose(user_id, pin)
        return Route(scorer, Choice(version, "pin", 0), self._counts[-1:])

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
