"""A part of a log through the live service, every answer compared with what it must be.

Users are sent side by side, and each user's next event after the previous answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import pyarrow as pa

from serve_app.client.clients import AsyncClient
from serve_app.client.rows import Prediction
from serve_app.errors import InvalidRowError, InvariantError, NotReadyError
from serve_app.events.service.partitions import LogSummary, Partition
from serve_app.history.service.observing import OFF, UNAVAILABLE
from serve_app.models.service.ports import Package
from serve_app.skew.expected import ExpectedRows, FeatureDifference, compare_answer, expect_rows
from serve_app.skew.report import SkewReport
from serve_app.skew.verify import Step, plan_steps, read_positions
from serve_app.training.service.features_table import feature_rows

SETTLED: Final = ("recorded", "duplicate")
UNAVAILABLE_TRIES: Final = 40
UNAVAILABLE_WAIT_S: Final = 0.5
"""After a failure the service leaves its store alone for a second."""


class PartVerifier:
    """Compares the answers for one part of a log, of whatever versions they are.

    Parameters
    ----------
    partition : Partition
        All events of some users.
    summary : LogSummary
    load_package : callable
        ``load_package(version)`` reads the package that a version serves.
    version : int
        The one that stands for a row without an answer.
    on_event : callable
        Called after each event.
    n_tries, wait_s : int, float
        How often, and after how long, a row is asked for again whose history the service did not find in time.
    """

    def __init__(
        self,
        partition: Partition,
        summary: LogSummary,
        load_package: Callable[[int], Package],
        version: int,
        on_event: Callable[[], None],
        *,
        n_tries: int = UNAVAILABLE_TRIES,
        wait_s: float = UNAVAILABLE_WAIT_S,
    ) -> None:
        self.report = SkewReport()
        self._partition = partition
        self._rows: pa.Table = feature_rows(partition, summary)
        self._positions = read_positions(partition)
        self._load_package = load_package
        self._version = version
        self._on_event = on_event
        self._n_tries = n_tries
        self._wait_s = wait_s
        self._expected: dict[int, ExpectedRows] = {}

    async def run(self, client: AsyncClient, concurrency: int, prefix: str, shift_s: int) -> SkewReport:
        """Send the part under ids that begin with `prefix`, and return what was found.

        Parameters
        ----------
        client : AsyncClient
            With at least `concurrency` connections.
        concurrency : int
            Users under way at once, at most.
        prefix : str
        shift_s : int
            See `plan_steps`.

        Raises
        ------
        ScorecatError
            A request got no answer in all its tries, or an event was not recorded: nothing can be said of what follows.
        """
        users = plan_steps(self._partition, prefix, shift_s)
        queue = iter(users)
        tasks = [asyncio.create_task(self._send(client, queue)) for _ in range(min(concurrency, len(users)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return self.report

    async def _send(self, client: AsyncClient, queue: Iterable[list[Step]]) -> None:
        for steps in queue:
            for step in steps:
                if step.row is None:
                    await _record(client, step)
                    self.report.n_purchases += 1
                else:
                    self._take_answer(step.row, await self._score(client, step.body))
                self._on_event()

    async def _score(self, client: AsyncClient, body: bytes) -> Prediction | InvalidRowError:
        """Score and record a row, and ask again while the service says that its store did not answer in time.

        Asking again is exact: a row whose event is stored is not added to its history once more.
        """
        for _ in range(self._n_tries):
            try:
                answer = await client.predict(body, detail=True)
            except InvalidRowError as error:
                return error
            detail = answer.detail or {}
            observed = detail.get("observed") or {}
            status, history = observed.get("status"), (detail.get("history") or {}).get("status")
            if OFF in {status, history}:
                raise NotReadyError("this service keeps no history: start it with SCORECAT_STATE set to a place")
            if status in SETTLED and history != UNAVAILABLE:
                return answer
            if UNAVAILABLE not in {status, history}:
                raise InvariantError(f"a row was not recorded: {status} {observed.get('detail', '')}".rstrip())
            self.report.n_unavailable += 1
            await asyncio.sleep(self._wait_s)
        raise NotReadyError(f"the store of histories did not answer in {self._n_tries} tries")

    def _take_answer(self, row: int, answer: Prediction | InvalidRowError) -> None:
        position = self._positions[row]
        if isinstance(answer, InvalidRowError):
            expected = self._expect(self._version)
            why = "; ".join(f"{e.pointer} {e.detail}" for e in answer.errors) or answer.detail
            if row in expected.rejected:
                self.report.n_rejected += 1
                self.report.add_row(1, [])
            else:
                self.report.add_row(1, [FeatureDifference(position, "", "matrix", "a score", f"rejected: {why}")])
        else:
            if answer.version is None or answer.detail is None:
                raise InvariantError("an answer has no version or no detail: is it scorecat?")
            expected = self._expect(answer.version)
            features = answer.detail["features"]
            self.report.versions.add(answer.version)
            self.report.add_row(*compare_answer(expected, row, position, features, answer.probability))

    def _expect(self, version: int) -> ExpectedRows:
        found = self._expected.get(version)
        if found is None:
            found = self._expected[version] = expect_rows(self._rows, self._load_package(version))
        return found


async def _record(client: AsyncClient, step: Step) -> None:
    answer = await client.send_events(step.event)
    # A duplicate is one whose first answer was lost.
    if sum(answer.counts[status] for status in SETTLED) != 1:
        why = answer.errors[0].detail if answer.errors else "without a reason"
        raise InvariantError(f"a purchase was not recorded: {why}")
