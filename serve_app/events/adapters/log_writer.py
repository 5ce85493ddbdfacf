"""Event logs written to disk as a stream: CSV (plain or gzip) and Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from serve_app.errors import InvalidDataError
from serve_app.events.adapters.csv_faults import is_gzip
from serve_app.events.adapters.log_files import SUFFIXES, is_parquet
from serve_app.features.core.event_times import format_times
from serve_app.storage.file_names import has_suffix


class LogWriter:
    """Writes event batches to one CSV or Parquet file; the file appears when the writer closes without error.

    Parameters
    ----------
    path : Path
        Ends in ``.csv``, ``.csv.gz`` or ``.parquet``.
    """

    def __init__(self, path: Path) -> None:
        if not has_suffix(path.name, SUFFIXES):
            raise InvalidDataError(f"{path} must end in one of {', '.join(SUFFIXES)}")
        self.path = path
        self._partial = path.with_name("." + path.name + ".partial")
        self._sink: Any = None
        self._stream: Any = None
        self.n_rows = 0

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch of the published columns with ``event_time`` as int64 seconds since 1970 UTC."""
        times = batch.column("event_time")
        at = times.cast(pa.timestamp("s", "UTC")) if is_parquet(self.path) else format_times(times.to_numpy())
        batch = batch.set_column(batch.schema.get_field_index("event_time"), "event_time", at)
        if self._sink is None:
            self._open(batch.schema)
        self._sink.write(batch)
        self.n_rows += batch.num_rows

    def _open(self, schema: pa.Schema) -> None:
        if is_parquet(self.path):
            self._sink = pq.ParquetWriter(self._partial, schema)
            return
        compression = "gzip" if is_gzip(self.path) else None
        self._stream = pa.output_stream(str(self._partial), compression=compression)
        # Style "needed" quotes every string; "none" raises when a value holds a comma or a quote.
        options = pacsv.WriteOptions(include_header=False, quoting_style="none")
        self._stream.write((",".join(schema.names) + "\n").encode())
        self._sink = pacsv.CSVWriter(self._stream, schema, write_options=options)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for stream in (self._sink, self._stream):
            if stream is not None:
                stream.close()
        if kind is None and self._sink is not None:
            self._partial.replace(self.path)
        else:
            self._partial.unlink(missing_ok=True)
