"""One log through one service, part by part, over as many starts as it takes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from serve_app.errors import InvariantError, NotFoundError
from serve_app.events.adapters.log_files import EventLog
from serve_app.events.adapters.spill import EventSpill
from serve_app.events.service.partitions import LogSummary, read_partitions, split_users
from serve_app.models.adapters.package_dir import load_package
from serve_app.models.catboost.scorer import CatBoostScorer
from serve_app.models.service.ports import Package
from serve_app.models.service.registry import Registry
from serve_app.skew.report import SkewReport
from serve_app.skew.verify_log import PartVerifier
from serve_app.storage.json_file import ProgressFile

MEMORY_EVENTS: Final = 50_000
PART_EVENTS: Final = 5_000
"""A log is compared in parts of some users with so many events; an interrupted run goes on with the next part."""


@dataclass(slots=True)
class VerifyRun:
    """How far the comparison has come.

    Attributes
    ----------
    record : ProgressFile
    url : str
        The service.
    prefixes : list of str
        Begin the ids that were sent, one for each start; they are what there is to clean.
    n_parts : int
        Parts that are done.
    report : SkewReport
        Of these parts.
    is_complete : bool
    """

    record: ProgressFile
    url: str = ""
    prefixes: list[str] = field(default_factory=list)
    n_parts: int = 0
    report: SkewReport = field(default_factory=SkewReport)
    is_complete: bool = False

    def save(self) -> None:
        """Write the record."""
        self.record.write(
            {
                "url": self.url,
                "prefixes": self.prefixes,
                "parts": self.n_parts,
                "part_events": PART_EVENTS,
                "report": self.report.to_json(),
                "complete": self.is_complete,
            }
        )

    def compare(
        self,
        log: EventLog,
        summary: LogSummary,
        load: Callable[[int], Package],
        version: int,
        send: Callable[[PartVerifier], None],
        advance: Callable[[int], None],
    ) -> None:
        """Compare the parts that are left, and write the record after each.

        Parameters
        ----------
        log : EventLog
        summary : LogSummary
            Filled as the log is read.
        load : callable
            Returns the package of a version, see `open_packages`.
        version : int
            What is served now.
        send : callable
            Runs a part's verifier to its end.
        advance : callable
            Told of so many events more.
        """
        with EventSpill() as spill:
            groups = read_partitions(log, spill, summary, memory_rows=MEMORY_EVENTS)
            parts = (part for group in groups for part in split_users(group, PART_EVENTS))
            for number, part in enumerate(parts):
                if number < self.n_parts:
                    advance(part.table.num_rows)
                    continue
                verifier = PartVerifier(part, summary, load, version, lambda: advance(1))
                send(verifier)
                self.report.add(verifier.report)
                self.n_parts = number + 1
                self.save()
        self.is_complete = True
        self.save()


def load_run(record: ProgressFile) -> VerifyRun:
    """Return a run as it was left, or a new one."""
    found = record.read()
    if found is None:
        return VerifyRun(record)
    if found.get("part_events") != PART_EVENTS:  # its parts are others
        return VerifyRun(record, prefixes=list(found["prefixes"]))
    return VerifyRun(
        record,
        found["url"],
        list(found["prefixes"]),
        int(found["parts"]),
        SkewReport.from_json(found["report"]),
        found["complete"],
    )


def open_packages(registry: Registry, model: str) -> Callable[[int], Package]:
    """Return what loads the package of a served version, each once."""

    @functools.cache
    def load(version: int) -> Package:
        try:
            directory = registry.locate(model, version)
        except NotFoundError as exc:
            raise InvariantError(
                f"the service answers with {model} version {version}, which the registry here does not hold: set "
                f"SCORECAT_REGISTRY to the service's registry"
            ) from exc
        return load_package(directory, CatBoostScorer.load)

    return load
