"""A temporary place on disk for events that do not fit in memory, one Arrow file per partition of users."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Self

import pyarrow as pa


class EventSpill:
    """Batches by partition, on disk until the spill is closed.

    Parameters
    ----------
    parent : Path or None
        Where to make the temporary directory; the system's place for them when None.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self._parent = parent
        self._folder: Path | None = None
        self._writers: dict[int, pa.RecordBatchFileWriter] = {}

    def __enter__(self) -> Self:
        return self

    def append(self, partition: int, batch: pa.RecordBatch) -> None:
        """Write a batch at the end of a partition."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="scorecat-spill-", dir=self._parent))
        if partition not in self._writers:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            path = str(self._folder / f"{partition}.arrow")
            self._writers[partition] = pa.ipc.new_file(path, batch.schema, options=options)
        self._writers[partition].write_batch(batch)

    def partitions(self) -> list[int]:
        """Finish writing and return the partitions that hold rows, ascending."""
        for writer in self._writers.values():
            writer.close()
        return sorted(self._writers)

    def read(self, partition: int) -> pa.Table:
        """Return a partition's rows in the order they were appended."""
        if self._folder is None:
            raise KeyError(partition)
        with pa.OSFile(str(self._folder / f"{partition}.arrow")) as source, pa.ipc.open_file(source) as reader:
            return reader.read_all()

    def __exit__(self, *_: object) -> None:
        for writer in self._writers.values():
            writer.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
