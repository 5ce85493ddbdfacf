"""A part of a log through the live service, every answer compared with what it must be."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from serve_app.client.clients import AsyncClient
from serve_app.client.rows import Prediction
from serve_app.errors import InvalidRowError, InvariantError
from serve_app.events.service.partitions import LogSummary, Partition
from serve_app.models.service.ports import Package
from serve_app.skew.expected import ExpectedRows, FeatureDifference, compare_answer, expect_rows
from serve_app.skew.report import SkewReport
from serve_app.skew.verify import UserSender, plan_steps, read_positions
from serve_app.training.service.features_table import feature_rows


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
    """

    def __init__(
        self,
        partition: Partition,
        summary: LogSummary,
        load_package: Callable[[int], Package],
        version: int,
        on_event: Callable[[], None],
    ) -> None:
        self.report = SkewReport()
        self._partition = partition
        self._rows: pa.Table = feature_rows(partition, summary)
        self._positions = read_positions(partition)
        self._load_package = load_package
        self._version = version
        self._on_event = on_event
        self._expected: dict[int, ExpectedRows] = {}

    async def run(self, client: AsyncClient, concurrency: int, prefix: str, shift_s: int) -> SkewReport:
        """Send the part under ids that begin with `prefix`, and return what was found.

        Raises
        ------
        ScorecatError
            A request got no answer, or an event was not recorded: nothing can be said of what follows.
        """
        sender = UserSender(client, concurrency, self._take_answer, self._take_purchase)
        await sender.send(plan_steps(self._partition, prefix, shift_s))
        self.report.n_unavailable = sender.n_unavailable
        return self.report

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
        self._on_event()

    def _take_purchase(self) -> None:
        self.report.n_purchases += 1
        self._on_event()

    def _expect(self, version: int) -> ExpectedRows:
        found = self._expected.get(version)
        if found is None:
            found = self._expected[version] = expect_rows(self._rows, self._load_package(version))
        return found
