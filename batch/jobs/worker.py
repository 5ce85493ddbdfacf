"""The actor that Ray Data gives units to: one event loop of its own, on which the handles live."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
import threading
import time
import traceback
from typing import Any, Final

import orjson
import pyarrow as pa

from batch.jobs.prepare import JobPlan
from batch.jobs.unit import UnitScorer
from batch.storage.row_files import BATCH_ROWS, RowFiles
from batch.transforms.pace import Pace
from batch.transforms.results import ResultColumns
from serve_app.cluster.environment import SHARED_ARRAYS
from serve_app.deployments.calls.handles import EncoderHandle, ModelHandle
from serve_app.errors import BadRequestError, InvalidDataError, ScorecatError
from serve_app.jobs.adapters.output_folder import OutputFolder
from serve_app.jobs.core.commits import Commit
from serve_app.jobs.core.record import JobRows
from serve_app.jobs.core.units import Unit
from serve_app.models.core.manifest import parse_manifest
from serve_app.runtime.shown_values import say_os_error

NICENESS: Final = 15
"""Driving a job, reading and writing give way to online requests, as the replicas' threads for jobs do. Not less
than those: they hold their replica's interpreter at times, and while a worker keeps one of them from the CPU,
online rows wait too."""
REPORT_S: Final = 0.5
UNSHARED_ROWS: Final = 16_384
"""Rows of one call where arrays travel in the call: a message of gRPC must stay small."""

logger = logging.getLogger("scorecat.jobs")


class ScoreWorker:
    """Scores units; what becomes of one is a row of Ray Data, an error too.

    Parameters
    ----------
    app : str
        The version's Serve application.
    plan : JobPlan
        Without its units.
    manifest : bytes
        The package's ``manifest.json``.
    output : str
    patience_s : float
    most_calls : int
        Calls that this worker may have under way.
    progress_actor : actor handle
        Where progress is shown, see `batch.jobs.progress_actor.ProgressActor`.
    """

    def __init__(
        self, app: str, plan: JobPlan, manifest: bytes, output: str, patience_s: float, most_calls: int,
        progress_actor: Any,
    ) -> None:  # fmt: skip
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
        self._create = functools.partial(_create_scorer, app, plan, manifest, output, patience_s, most_calls)
        self._progress_actor = progress_actor
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="calls", daemon=True).start()
        self._scorer: UnitScorer | None = None
        progress_actor.greet.remote(socket.gethostname(), os.getpid())

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Score the units of a batch of Ray Data, which is one."""
        outcomes = [self._score(Unit(**orjson.loads(text))) for text in batch["unit"]]
        return {"outcome": [orjson.dumps(outcome).decode() for outcome in outcomes]}

    def _score(self, unit: Unit) -> dict[str, Any]:
        shown_at, began_at = 0.0, time.time()

        def report(counts: JobRows) -> None:
            nonlocal shown_at
            if time.monotonic() - shown_at >= REPORT_S:
                shown_at = time.monotonic()
                self._progress_actor.show.remote(unit.number, counts)

        async def run() -> list[Commit]:
            if self._scorer is None:  # handles belong to the loop they are made on
                self._scorer = self._create()
            return await self._scorer.score(unit, report)

        try:
            commits = asyncio.run_coroutine_threadsafe(run(), self._loop).result()
        except Exception as exc:  # noqa: BLE001 - the job says which unit it was
            state, reason = _judge(exc)
            return {"unit": unit.number, "state": state, "reason": reason}
        return {"unit": unit.number, "state": "done", "commits": commits, "span": [began_at, time.time()]}


def _judge(exc: Exception) -> tuple[str, str]:
    """Return what a failure means for its unit, and the reason in words."""
    if isinstance(exc, InvalidDataError):
        return "set_aside", str(exc)
    if isinstance(exc, BadRequestError):
        return "fatal", str(exc)
    if isinstance(exc, ScorecatError):
        return "failed", str(exc)
    if isinstance(exc, pa.ArrowException | OSError | EOFError):
        return "set_aside", f"cannot be read: {say_os_error(exc) if isinstance(exc, OSError) else exc}"[:1000]
    logger.error("a unit was given up", exc_info=exc)
    return "failed", "".join(traceback.format_exception_only(exc)).strip()[:1000]


def _create_scorer(
    app: str, plan: JobPlan, packed: bytes, output: str, patience_s: float, most_calls: int
) -> UnitScorer:
    manifest, spec = parse_manifest(packed), plan.spec
    batch_rows = BATCH_ROWS if os.environ.get(SHARED_ARRAYS) else UNSHARED_ROWS
    return UnitScorer(
        columns=plan.columns,
        files=RowFiles(spec.input, plan.columns, plan.schema, manifest.features, batch_rows),
        output=OutputFolder(output),
        results=ResultColumns(manifest, plan.version, spec.explain or 0),
        encoder=EncoderHandle(app, is_bulk=True),
        model=ModelHandle(app, is_bulk=True),
        pace=Pace(most_calls),
        partition_by=spec.partition_by or (),
        patience_s=patience_s,
    )
