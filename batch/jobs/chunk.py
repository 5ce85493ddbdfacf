"""Write one chunk of a unit: its parts appear when it is committed, not before."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from batch.transforms.partitions import split_partitions
from batch.transforms.results import REJECTED_SCHEMA
from serve_app.errors import BadRequestError, InvariantError
from serve_app.jobs.adapters.output_folder import REJECTED, OutputFolder
from serve_app.jobs.core.commits import Commit, PartFile
from serve_app.jobs.core.record import JobRows
from serve_app.jobs.core.units import name_part

GROUP_ROWS: Final = 1 << 18
"""Rows of a row group of the output."""


class _AbandonedError(BaseException):
    """Ends an open file without keeping it."""


class ChunkWriter:
    """Collects the results of a chunk.

    Parameters
    ----------
    output : OutputFolder
    unit, number : int
        Which chunk it is; they name its parts, so writing it again replaces them.
    partition_by : sequence of str
        Columns whose values become folders (``column=value``); the chunk is then held in memory.
    """

    def __init__(self, output: OutputFolder, unit: int, number: int, partition_by: Sequence[str] = ()) -> None:
        self._output = output
        self._unit, self._number = unit, number
        self._name = name_part(unit, number) + ".parquet"
        self._partition_by = list(partition_by)
        self._pending: list[pa.RecordBatch] = []
        self._rejected: list[pa.RecordBatch] = []
        self._n_pending = 0
        self._open = contextlib.ExitStack()
        self._writer: pq.ParquetWriter | None = None
        self._reasons: Counter[str] = Counter()
        self.counts = JobRows()
        self.new_members: tuple[str, ...] = ()

    def add(self, scored: pa.RecordBatch, rejected: Sequence[pa.RecordBatch], reasons: Mapping[str, int]) -> None:
        """Take scored and rejected rows, and how many of these there are by reason."""
        self._reasons.update(reasons)
        n_rejected = sum(batch.num_rows for batch in rejected)
        self.counts += JobRows(scored.num_rows + n_rejected, scored.num_rows, n_rejected)
        self._rejected += rejected
        self._pending.append(scored)
        self._n_pending += scored.num_rows
        if self._n_pending >= GROUP_ROWS and not self._partition_by:
            self._flush()

    def commit(self, *, is_last: bool) -> Commit:
        """Let the parts appear, then write the record that they are there."""
        files = self._commit_partitions() if self._partition_by else self._commit_file()
        n_written = sum(file.rows for file in files)
        if n_written != self.counts.scored:
            raise InvariantError(f"rows do not add up: {self.counts.scored} scored, {n_written} in the parts")
        rejected = None
        if self._rejected:
            rejected = PartFile(f"{REJECTED}/{self._name}", self.counts.rejected)
            table = pa.Table.from_batches(self._rejected, REJECTED_SCHEMA).sort_by("row")
            with self._output.create(rejected.path) as sink:
                pq.write_table(table, sink)
        else:
            self._output.remove(f"{REJECTED}/{self._name}")
        commit = Commit(
            self._unit, self._number, self.counts, files, rejected, is_last, dict(self._reasons), self.new_members
        )
        self._output.commit(commit)
        return commit

    def abandon(self) -> None:
        """Drop what is not committed; nothing of it has appeared."""
        with contextlib.suppress(_AbandonedError, BadRequestError), self._open:
            raise _AbandonedError

    def _flush(self) -> None:
        if not self._n_pending:
            return
        table = pa.Table.from_batches(self._pending)
        with self._writing():
            if self._writer is None:
                self._writer = self._open.enter_context(_opened(self._output, self._name, table.schema))
            self._writer.write_table(table, row_group_size=2 * GROUP_ROWS)
        self._pending, self._n_pending = [], 0

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """End the open file when the block fails; the output folder then says what the error means."""
        with contextlib.ExitStack() as stack:
            stack.push(self._open)
            yield
            stack.pop_all()

    def _commit_file(self) -> tuple[PartFile, ...]:
        self._flush()
        self._open.close()
        return (PartFile(self._name, self.counts.scored),) if self._writer is not None else ()

    def _commit_partitions(self) -> tuple[PartFile, ...]:
        if not self._n_pending:
            return ()
        table = pa.Table.from_batches(self._pending)
        files: dict[str, PartFile] = {}
        for folder, rows in split_partitions(table.select(self._partition_by)):
            path = f"{folder}/{self._name}"
            if path in files:
                raise InvariantError(f"two values of {', '.join(self._partition_by)} would both be in {folder}")
            part = table.take(pa.array(rows)).drop_columns(self._partition_by)
            with _opened(self._output, path, part.schema) as writer:
                writer.write_table(part, row_group_size=2 * GROUP_ROWS)
            files[path] = PartFile(path, part.num_rows)
        return tuple(files.values())


@contextlib.contextmanager
def _opened(output: OutputFolder, path: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Give the writer of a file that appears when the block ends without error."""
    # Scores hardly ever repeat: looking for that costs a fifth of writing them.
    repeated = [f.name for f in schema if not pa.types.is_floating(f.type) and not pa.types.is_nested(f.type)]
    with output.create(path) as sink:
        writer = pq.ParquetWriter(sink, schema, use_dictionary=repeated or False)
        try:
            yield writer
            writer.close()
        finally:
            writer.is_open = False  # or it writes its footer when it is collected
