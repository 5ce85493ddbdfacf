"""Event logs on disk: CSV (plain or gzip) and Parquet, a file or a directory, read and written as a stream."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from serve_app.adapters.event_times import format_times, parse_times
from serve_app.core.errors import InvalidDataError, NotFoundError
from serve_app.core.event_rows import PUBLISHED_COLUMNS

BLOCK_BYTES: Final = 8 << 20
BATCH_ROWS: Final = 1 << 17
ROW_GROUP_ROWS: Final = 1 << 19
SUFFIXES: Final = (".csv", ".csv.gz", ".parquet")
_TEXT: Final = ("event_type", "category_code", "brand", "user_session", "event_id")


class EventLog:
    """An event log that can be read as often as needed.

    Parameters
    ----------
    path : Path
        A ``.csv``, ``.csv.gz`` or ``.parquet`` file, or a directory of them (read in name order).

    Raises
    ------
    NotFoundError
        There is nothing at `path`.
    InvalidDataError
        The file's name has another ending, or the directory holds no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = _find_files(path)

    @property
    def n_bytes(self) -> int:
        """Size on disk."""
        return sum(file.stat().st_size for file in self.files)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the log's lines in their order.

        Yields
        ------
        RecordBatch
            The published columns and ``event_id`` where the log has it: ``event_time`` as int64 seconds
            since 1970 UTC, ``price`` as float64, ids as string (CSV) or as they are stored (Parquet).

        Raises
        ------
        InvalidDataError
            A column is missing or holds something else, a file is empty or cut.
        """
        for file in self.files:
            reader = _read_parquet if file.name.endswith(".parquet") else _read_csv
            try:
                for batch in reader(file):
                    yield _normalise(file, batch)
            except (pa.ArrowInvalid, pa.ArrowTypeError, EOFError, OSError) as exc:
                raise InvalidDataError(_explain(file, exc)) from exc


class EventWriter:
    """Writes event batches to one CSV or Parquet file; the file appears when the writer closes without error.

    Parameters
    ----------
    path : Path
        Ends in ``.csv``, ``.csv.gz`` or ``.parquet``.
    """

    def __init__(self, path: Path) -> None:
        _check_suffix(path)
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
        is_parquet = self.path.name.endswith(".parquet")
        times = batch.column("event_time")
        at = times.cast(pa.timestamp("s", "UTC")) if is_parquet else format_times(times.to_numpy())
        batch = batch.set_column(batch.schema.get_field_index("event_time"), "event_time", at)
        if self._sink is None:
            self._open(batch.schema)
        self._sink.write(batch)
        self.n_rows += batch.num_rows

    def _open(self, schema: pa.Schema) -> None:
        if self.path.name.endswith(".parquet"):
            self._sink = pq.ParquetWriter(self._partial, schema)
            return
        compression = "gzip" if self.path.name.endswith(".gz") else None
        self._stream = pa.output_stream(str(self._partial), compression=compression)
        # Style "needed" quotes every string; "none" raises when a value holds a comma or a quote.
        options = pacsv.WriteOptions(include_header=False, quoting_style="none")
        self._stream.write((",".join(schema.names) + "\n").encode())
        self._sink = pacsv.CSVWriter(self._stream, schema, write_options=options)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self._sink, self._stream):
            if stream is not None:
                stream.close()
        if kind is None and self._sink is not None:
            self._partial.replace(self.path)
        else:
            self._partial.unlink(missing_ok=True)


def _check_suffix(path: Path) -> None:
    if not path.name.endswith(SUFFIXES):
        raise InvalidDataError(f"{path} must end in one of {', '.join(SUFFIXES)}")


def _find_files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name.endswith(SUFFIXES) and file.is_file())
        if not files:
            raise InvalidDataError(f"{path} holds no file that ends in one of {', '.join(SUFFIXES)}")
        return files
    if not path.exists():
        raise NotFoundError(f"there is no event log at {path}")
    if not path.is_file():  # some devices never end
        raise InvalidDataError(f"{path} is a device, pipe or socket: an event log is a file, or a folder of files")
    _check_suffix(path)
    return [path]


def _select(file: Path, names: list[str]) -> list[str]:
    missing = [name for name in PUBLISHED_COLUMNS if name not in names]
    if missing:
        raise InvalidDataError(
            f"{file} has no column {', '.join(missing)}: an event log has the columns {', '.join(PUBLISHED_COLUMNS)}"
        )
    return [*PUBLISHED_COLUMNS, *(["event_id"] if "event_id" in names else [])]


def _read_parquet(file: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file) as parquet:
        columns = _select(file, parquet.schema_arrow.names)
        for batch in parquet.iter_batches(batch_size=BATCH_ROWS, columns=columns):
            yield batch.select(columns)


def _read_csv(file: Path) -> Iterator[pa.RecordBatch]:
    if file.stat().st_size == 0:
        raise InvalidDataError(f"{file} is empty")
    columns = _select(file, _read_header(file))
    _refuse_cut_file(file, columns)
    # Ids are compared as strings (DESIGN, section 5), and a string column is as fast to read as a number.
    types = {name: pa.string() for name in columns} | {"price": pa.float64()}
    reader = pacsv.open_csv(
        str(file),
        read_options=pacsv.ReadOptions(block_size=BLOCK_BYTES),
        convert_options=pacsv.ConvertOptions(
            column_types=types, include_columns=columns, strings_can_be_null=True, null_values=["", "NULL", "null"]
        ),
    )
    with reader:
        yield from reader


def _read_header(file: Path) -> list[str]:
    opener = gzip.open if file.name.endswith(".gz") else open
    try:
        with opener(file, "rt", encoding="utf-8-sig", newline="") as stream:
            return next(csv.reader(stream), [])
    except (UnicodeDecodeError, csv.Error) as exc:
        raise InvalidDataError(f"{file} is not a CSV file in UTF-8: {exc}") from exc


def _refuse_cut_file(file: Path, columns: list[str]) -> None:
    """Refuse a plain CSV without a last newline whose last session id is shorter than the one before.

    A line with too few columns is refused by the parser; a cut inside the last column is not seen there.
    """
    if file.name.endswith(".gz") or columns[-1] != "user_session":
        return
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - 4096))
        tail = stream.read()
    lines = tail.splitlines()
    if tail.endswith(b"\n") or len(lines) < 3:  # noqa: PLR2004 a header or a torn line, and two lines to compare
        return
    last, before = (len(line.rsplit(b",", 1)[-1]) for line in (lines[-1], lines[-2]))
    if last < before:
        raise InvalidDataError(f"{file} is cut in the middle of its last line: {lines[-1].decode(errors='replace')!r}")


def _normalise(file: Path, batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = []
    for name in batch.schema.names:
        column = batch.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        columns.append(_as_expected(file, name, column))
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _as_expected(file: Path, name: str, column: pa.Array) -> pa.Array:
    kind = column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if name == "event_time":
        return parse_times(file.name, column)
    if name == "price":
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
            raise InvalidDataError(f"{file}: column price must hold numbers, not {kind}")
        return column if kind == pa.float64() else pc.cast(column, pa.float64(), safe=False)
    if pa.types.is_null(kind):
        return column.cast(pa.string())
    if is_text:
        return column if kind == pa.string() else column.cast(pa.string())
    if pa.types.is_integer(kind) and name not in _TEXT:
        return column
    if pa.types.is_integer(kind) and name in {"user_session", "event_id"}:
        return column.cast(pa.string())
    raise InvalidDataError(f"{file}: column {name} must hold {'text' if name in _TEXT else 'ids'}, not {kind}")


def _explain(file: Path, exc: Exception) -> str:
    text = str(exc)
    if isinstance(exc, EOFError) or "Truncated" in text or "truncated" in text:
        return f"{file} is cut: {text}"
    if "Expected" in text and "columns" in text:
        return f"{file} is cut in the middle of a line or has a line with other columns: {text}"
    return f"{file} cannot be read as an event log: {text}"
