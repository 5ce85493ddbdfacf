"""Event logs on disk: CSV (plain or gzip) and Parquet, a file or a directory, read and written as a stream."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from serve_app.errors import InvalidDataError
from serve_app.events.adapters.csv_faults import (
    NULLS,
    explain_header,
    find_fault,
    find_line,
    is_empty,
    is_gzip,
    read_header,
)
from serve_app.events.core.event_rows import ID_COLUMNS, NOT_AN_ID, OPTIONAL_COLUMNS
from serve_app.features.core.arrow_types import (
    IDS,
    NUMBERS,
    TIMES,
    as_ids,
    as_plain,
    as_text,
    is_text,
    meaning_of,
    plain_type,
)
from serve_app.features.core.event_times import TIME_RULE, read_times
from serve_app.features.core.near_names import find_near
from serve_app.features.core.row_keys import PUBLISHED_COLUMNS
from serve_app.storage.file_listing import list_files
from serve_app.storage.file_names import has_suffix, read_partitions

BLOCK_BYTES: Final = 8 << 20
BATCH_ROWS: Final = 1 << 17
SUFFIXES: Final = (".csv", ".csv.gz", ".parquet")
_NUMBERED: Final = ("user_id", "product_id", "category_id")
"""Ids that stay numbers where every file of a log has numbers: they take less time and memory than text."""
_LABELS: Final = ("category_code", "brand")


class EventLog:
    """An event log that can be read as often as needed.

    Parameters
    ----------
    path : Path
        A ``.csv``, ``.csv.gz`` or ``.parquet`` file, or a directory of them (read in name order), its
        subfolders included; a folder ``column=value`` gives its files that column, unless they have it.

    Raises
    ------
    NotFoundError
        There is nothing at `path`.
    InvalidDataError
        The file's name has another ending, or the directory holds no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        found = list_files(pafs.LocalFileSystem(), str(path), SUFFIXES, what="no event log")
        files = [Path(file.path) for file in found.files]
        # a folder of nothing but empty files is refused by the first of them, as a file by itself is
        self.files = [file for file in files if not is_empty(file)] or files
        empty = sorted(set(files) - set(self.files))
        self.left_out = found.left_out + [f"{file.relative_to(path)} (empty)" for file in empty]

    @property
    def n_bytes(self) -> int:
        """Size on disk."""
        return sum(file.stat().st_size for file in self.files)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the log's lines in their order.

        Yields
        ------
        RecordBatch
            The published columns, null where a file lacks one, and ``event_id`` where any file has it: ``event_time``
            as int64 seconds since 1970 UTC, ``price`` as float64, ids as string; user, product and category ids as
            int64 where every file stores whole numbers. All batches of a log have one schema.

        Raises
        ------
        InvalidDataError
            A column is missing or holds something else, a file is empty or cut.
        """
        for file in self.files:
            yield from self.batches_of(file)

    def batches_of(self, file: Path) -> Iterator[pa.RecordBatch]:
        """Yield the lines of one of `files`, as `batches` does."""
        n_rows, given = 0, self.partitions(file)
        for batch in _read_file(file, self._schema):
            yield _normalise(file, _add_partitions(file, batch, given), self._schema, n_rows)
            n_rows += batch.num_rows

    @property
    def absent(self) -> list[str]:
        """Columns that a log need not have and no file of this one has; raises as `batches`."""
        return [name for name in OPTIONAL_COLUMNS if not any(name in types for types in self._types)]

    @cached_property
    def _types(self) -> list[dict[str, pa.DataType]]:
        return [_find_types(file, self.partitions(file)) for file in self.files]

    @cached_property
    def _schema(self) -> pa.Schema:
        return _choose_schema(self._types)

    def partitions(self, file: Path) -> dict[str, str | None]:
        """Return the columns of a log that the folders of a file give, as text, by name."""
        found = read_partitions(str(self.path), str(file))
        return {name: value for name, value in found.items() if name in (*PUBLISHED_COLUMNS, "event_id")}


def _add_partitions(file: Path, batch: pa.RecordBatch, given: Mapping[str, str | None]) -> pa.RecordBatch:
    """Return the batch with the columns that only its folders give."""
    for name, text in given.items():
        if name not in batch.schema.names:
            value = pa.scalar(text, pa.string())
            try:
                value = value.cast(pa.float64()) if name == "price" else value
            except pa.ArrowInvalid as exc:
                raise InvalidDataError(f"{file}: the folder {name}={text} gives no number for the price") from exc
            batch = batch.append_column(name, pa.repeat(value, batch.num_rows))
    return batch


def is_parquet(file: Path) -> bool:
    """Return whether a file is a Parquet file, by its name."""
    return has_suffix(file.name, ".parquet")


def _find_types(file: Path, given: Collection[str]) -> dict[str, pa.DataType]:
    """Return the type of each column that a file, or its folders, give.

    Raises
    ------
    InvalidDataError
        A column is missing, or misspelt, or the file is no log.
    """
    if is_parquet(file):
        with _explained(file), pq.ParquetFile(file) as parquet:
            found = {field.name: field.type for field in parquet.schema_arrow}
            header = list(found)
    else:
        with _explained(file):
            header = read_header(file)
        found = dict.fromkeys(header, pa.string())
    found = dict.fromkeys(given, pa.string()) | found
    absent = [name for name in PUBLISHED_COLUMNS if name not in found]
    near = {meant: name for name in header if (meant := find_near(name, absent))}
    missing = [name for name in absent if name not in OPTIONAL_COLUMNS or name in near]
    if missing:
        named = ", ".join(f"{name} (did you mean {near[name]!r}?)" if name in near else name for name in missing)
        raise InvalidDataError(f"{file} has no column {named}: {explain_header(header, missing)}")
    twice = [name for name in found if name in (*PUBLISHED_COLUMNS, "event_id") and header.count(name) > 1]
    if twice:
        raise InvalidDataError(f"{file} has the column {twice[0]} twice")
    return found


def _choose_schema(files: Sequence[dict[str, pa.DataType]]) -> pa.Schema:
    kinds: dict[str, pa.DataType] = dict.fromkeys(PUBLISHED_COLUMNS, pa.string())
    kinds |= {"event_time": pa.int64(), "price": pa.float64()}
    kinds |= {name: pa.int64() for name in _NUMBERED if all(_is_number(types.get(name, pa.null())) for types in files)}
    if any("event_id" in types for types in files):
        kinds["event_id"] = pa.string()
    return pa.schema(list(kinds.items()))


def _is_number(kind: pa.DataType) -> bool:
    return meaning_of(kind) in {"integer", "null"} and plain_type(kind) != pa.uint64()


def _read_file(file: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the lines of one file as they are stored: those columns of `schema` that it has."""
    with _explained(file):
        yield from _read_parquet(file, schema.names) if is_parquet(file) else _read_csv(file, schema.names)


def _read_parquet(file: Path, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file) as parquet:
        columns = [name for name in names if name in parquet.schema_arrow.names]
        yield from parquet.iter_batches(batch_size=BATCH_ROWS, columns=columns)


def _read_csv(file: Path, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    # Ids are compared as strings (DESIGN, section 5), and a string column is as fast to read as a number.
    types = dict.fromkeys(names, pa.string()) | {"price": pa.float64()}
    header = read_header(file)
    # Python's gzip passes over zeros after the end, as gzip(1) does and Arrow does not; it takes as long
    with pa.input_stream(gzip.open(file) if is_gzip(file) else str(file)) as stream:
        reader = pacsv.open_csv(
            stream,
            read_options=pacsv.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=pacsv.ParseOptions(newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                column_types=types,
                include_columns=[name for name in names if name in header],
                strings_can_be_null=True,
                null_values=list(NULLS),
            ),
        )
        with reader:
            yield from reader


def _normalise(file: Path, batch: pa.RecordBatch, schema: pa.Schema, n_before: int) -> pa.RecordBatch:
    columns = []
    for field in schema:
        at = batch.schema.get_field_index(field.name)
        column = pa.nulls(batch.num_rows) if at < 0 else batch.column(at)
        columns.append(
            _read_times(file, column, n_before) if field.name == "event_time" else _read(file, field, column)
        )
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _read(file: Path, field: pa.Field, column: pa.Array) -> pa.Array:
    name, meaning = field.name, meaning_of(column.type)
    if name in ID_COLUMNS and field.type == pa.string():
        try:
            text, outside = as_ids(name, column)
        except InvalidDataError as exc:
            raise InvalidDataError(f"{file}: {exc.detail}") from exc
        return text if outside is None else pc.if_else(pa.array(outside), NOT_AN_ID, text)
    if name == "price" and meaning not in NUMBERS:
        raise InvalidDataError(f"{file}: column price must hold numbers, not {column.type}")
    if name in _LABELS and meaning is not None:
        # history has no use for them: what can be no label (a flag, a time, a fraction) is none, and refuses no event
        return as_plain(as_text(column)[0]) if meaning in IDS else pa.nulls(len(column), pa.string())
    if field.type == pa.string() and not (is_text(column.type) or meaning == "null"):
        raise InvalidDataError(f"{file}: column {name} must hold text, not {column.type}")
    plain = as_plain(column)
    return plain if plain.type == field.type else plain.cast(field.type, safe=False)


def _read_times(file: Path, column: pa.Array, n_before: int) -> pa.Array:
    if meaning_of(column.type) not in TIMES:
        raise InvalidDataError(f"{file}: column event_time must hold times, not {column.type}")
    times, bad = read_times(column)
    if bad:
        row = n_before + bad[0]
        place = f"row {row + 1}" if is_parquet(file) else f"line {find_line(file, row)}"
        raise InvalidDataError(f"{file}: {place}: event_time {TIME_RULE}, got {str(column[bad[0]].as_py())[:40]!r}")
    return times


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    """Say what is wrong with a file that Arrow, or the system, cannot read."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, zlib.error, EOFError, OSError) as exc:
        raise InvalidDataError(f"{file}{_explain(file, exc)}") from exc


def _explain(file: Path, exc: Exception) -> str:
    if isinstance(exc, OSError) and exc.strerror and exc.errno:
        return f" cannot be read: {exc.strerror}"
    if is_parquet(file):
        return " is no Parquet file, or it is cut or damaged: write it again"
    fault = find_fault(file)
    if fault:
        return f" {fault}" if fault.startswith("is ") else f": {fault}"
    if is_gzip(file):
        return " is cut, or is no gzip file: compress it again"
    if "straddling" in str(exc):
        return f" has a line of more than {BLOCK_BYTES >> 20} MiB, or a quote that is never closed"
    return " cannot be read as CSV: look for a quote that is never closed, and for prices that are no numbers"
