"""Score one unit: read, encode, predict, write, commit; calls overlap, results keep the rows' order."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batch.jobs.chunk import ChunkWriter
from batch.storage.row_files import RowBatch, RowFiles
from batch.transforms.columns import Columns
from batch.transforms.pace import Pace
from batch.transforms.partitions import find_long_names
from batch.transforms.results import NO_ROW, ResultColumns, build_rejected, build_unread, name_reason
from serve_app.errors import NotReadyError, ReplicaLostError
from serve_app.features.core.row_errors import RowError
from serve_app.jobs.adapters.output_folder import OutputFolder
from serve_app.jobs.core.commits import Commit
from serve_app.jobs.core.record import JobRows
from serve_app.jobs.core.spec import DEFAULT_PATIENCE_S
from serve_app.jobs.core.units import UNIT_ROWS, Unit
from serve_app.models.service.ports import EncoderPort, ModelPort

CALL_TIMEOUT_S: Final = 60.0
"""Below the 180 s after which arrays in shared memory are taken for forgotten."""
RETRY_S: Final = 1.0

Report = Callable[[JobRows], None]


@dataclass(frozen=True, slots=True)
class Scored:
    """A batch and what became of it."""

    rows: RowBatch
    kept: NDArray[np.int64]
    predictions: NDArray[np.float64]
    shap: NDArray[np.float64] | None
    errors: tuple[RowError, ...]


@dataclass
class UnitScorer:
    """Scores units of one job with the replicas of one version.

    Attributes
    ----------
    columns : Columns
    files : RowFiles
    output : OutputFolder
    results : ResultColumns
    encoder, model : ports to the version's replicas
    pace : Pace
        Calls under way, learned over units.
    partition_by : tuple of str
        Columns of the output whose values become folders.
    chunk_rows : int
        Rows after which a part is closed and committed.
    patience_s, retry_s : float
    in_thread : callable
        Runs reading and writing beside the event loop, like `asyncio.to_thread`.
    """

    columns: Columns
    files: RowFiles
    output: OutputFolder
    results: ResultColumns
    encoder: EncoderPort
    model: ModelPort
    pace: Pace = field(default_factory=Pace)
    partition_by: tuple[str, ...] = ()
    chunk_rows: int = UNIT_ROWS
    patience_s: float = DEFAULT_PATIENCE_S
    retry_s: float = RETRY_S
    in_thread: Callable[..., Awaitable[Any]] = asyncio.to_thread

    async def score(self, unit: Unit, report: Report = lambda _: None) -> list[Commit]:
        """Score what is left of a unit and return all its commits.

        Raises
        ------
        OSError, EOFError, pa.ArrowException, InvalidDataError
            The rows cannot be read; chunks that are committed stay.
        ReplicaLostError
            No replica answered for `patience_s`.
        BadRequestError
            The output cannot be written.
        """
        commits = self.output.commits([unit.number])
        if commits and commits[-1].is_last:
            return commits
        done = sum((c.counts for c in commits), JobRows())
        batches = self.files.batches(unit, done.read)
        waiting: deque[asyncio.Task[Scored]] = deque()
        writer = self._open_chunk(unit, len(commits))
        try:
            while True:
                rows = await self.in_thread(next, batches, None)
                if rows is not None:
                    while len(under_way := [t for t in waiting if not t.done()]) >= self.pace.n_calls:
                        await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                    waiting.append(asyncio.create_task(self._score_batch(rows)))
                while waiting and (rows is None or waiting[0].done() or len(waiting) > 2 * self.pace.most):
                    scored = await waiting.popleft()
                    if writer.counts.read >= self.chunk_rows:
                        commits.append(await self.in_thread(writer.commit, is_last=False))
                        done += commits[-1].counts
                        writer = self._open_chunk(unit, len(commits))
                    await self.in_thread(self._write, writer, unit, scored)
                    report(done + writer.counts)
                if rows is None:
                    break
            commits.append(await self.in_thread(writer.commit, is_last=True))
        finally:
            writer.abandon()
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        return commits

    def _open_chunk(self, unit: Unit, number: int) -> ChunkWriter:
        return ChunkWriter(self.output, unit.number, number, self.partition_by)

    async def _score_batch(self, rows: RowBatch) -> Scored:
        if not rows.batch.num_rows:
            return Scored(rows, np.empty(0, np.int64), np.empty(0), None, ())
        folders = [name for name in self.partition_by if name in rows.batch.schema.names]
        unnamed = find_long_names(pa.Table.from_batches([rows.batch.select(folders)])) if folders else {}
        features = self.columns.select_features(rows.batch, unnamed)
        now_s = asyncio.get_running_loop().time
        give_up_at = now_s() + self.patience_s
        while True:
            started_at = now_s()
            try:
                scored = await self._call(rows, features)
            except (NotReadyError, OSError) as exc:  # of a replica's socket or shared arrays: the input was read
                self.pace.note_refusal()
                if now_s() >= give_up_at:
                    raise ReplicaLostError(f"no replica answered for {self.patience_s:g} s: {exc}") from exc
                await asyncio.sleep(self.retry_s)
            else:
                self.pace.note_answer(now_s() - started_at, rows.batch.num_rows)
                return scored

    async def _call(self, rows: RowBatch, features: pa.RecordBatch) -> Scored:
        encoded = await self.encoder.encode_rows(features, timeout_s=CALL_TIMEOUT_S)
        try:
            found = await self.model.predict(encoded.for_model, timeout_s=CALL_TIMEOUT_S)
            shap = None
            if self.results.n_reasons:
                shap = await self.model.compute("shap", encoded.for_model, timeout_s=CALL_TIMEOUT_S)
        finally:
            encoded.release()
        return Scored(rows, encoded.rows, found, shap, encoded.errors)

    def _write(self, writer: ChunkWriter, unit: Unit, scored: Scored) -> None:
        rows = scored.rows
        kept = self.columns.select_kept(rows.batch)
        if scored.errors:
            kept = kept.take(pa.array(scored.kept))
        added = self.results.build(scored.predictions, scored.shap)
        schema = pa.schema([*kept.schema, *self.results.schema])
        rejected = []
        if scored.errors:
            rejected.append(build_rejected(unit.path, rows.batch, scored.errors, rows.row_numbers))
        if rows.unread:
            rejected.append(build_unread(unit.path, rows.unread))
        reasons = Counter([name_reason(error) for error in scored.errors] + [NO_ROW] * len(rows.unread))
        writer.new_members = rows.new_members or writer.new_members
        writer.add(pa.RecordBatch.from_arrays([*kept.columns, *added], schema=schema), rejected, reasons)
