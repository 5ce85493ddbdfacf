"""Input files of rows: Parquet, CSV and JSON lines (both also gzipped), local or in an object store."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from numpy.typing import NDArray

from batch.storage.text_rows import TextRows, read_csv_header, read_json_schema
from batch.transforms.columns import Columns
from serve_app.errors import InvalidDataError
from serve_app.features.core.cells import convert_values, read_cell
from serve_app.features.core.column_types import check_type
from serve_app.features.core.row_errors import RowError
from serve_app.features.core.row_keys import KEY_SPECS
from serve_app.features.core.specs import FeatureSpec
from serve_app.jobs.core.units import InputFile, Unit
from serve_app.runtime.shown_values import say_os_error
from serve_app.storage.file_names import has_suffix, read_partitions
from serve_app.storage.locations import open_location

PARQUET: Final = (".parquet", ".pq")
CSV: Final = (".csv", ".csv.gz")
JSON_LINES: Final = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
SUFFIXES: Final = (*PARQUET, *CSV, *JSON_LINES)
BATCH_ROWS: Final = 65_536
"""Rows of one call: the cost of calls is then a few hundredths of that of scoring."""
_CODABLE: Final = frozenset({"PLAIN", "PLAIN_DICTIONARY", "RLE_DICTIONARY", "RLE", "BIT_PACKED"})
"""Encodings of pages, those of levels among them, that Arrow reads as codes; valid files have others too."""
N_LOOKERS: Final = 16
"""Footers read at once; an object store answers one in tens of milliseconds."""


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Rows as they were read.

    Attributes
    ----------
    batch : RecordBatch
        The columns that are read.
    row_numbers : ndarray of int64
        Index in the file of each row.
    unread : list of (int, str, str)
        Lines that are no rows: index in the file, why, and the text.
    new_members : tuple of str
        Members of JSON lines up to here that came too late to be read.
    """

    batch: pa.RecordBatch
    row_numbers: NDArray[np.int64]
    unread: list[tuple[int, str, str]] = field(default_factory=list)
    new_members: tuple[str, ...] = ()

    @property
    def n_rows(self) -> int:
        """Rows that were read, those that are none included."""
        return int(self.batch.num_rows) + len(self.unread)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of the input and what its head says; `problem` is set when it cannot be read."""

    file: InputFile
    schema: pa.Schema | None
    problem: str = ""


def look_at_files(
    location: str, infos: Sequence[pafs.FileInfo], features: Sequence[FeatureSpec], columns: dict[str, str]
) -> list[FoundFile]:
    """Return files of the input, each with its schema.

    Parameters
    ----------
    location : str
        The input, local or ``s3://…``, ``gs://…``. A folder ``column=value`` in it gives the files below that
        column, unless they have it.
    infos : sequence of FileInfo
    features : sequence of FeatureSpec
        They give the types of text columns.
    columns : dict of str to str
        Input column by feature, where the names differ.
    """
    system, root = open_location(location)
    types = {columns.get(s.name, s.name): text_type(s) for s in features}
    given = [read_partitions(root, info.path) for info in infos]
    absent = dict.fromkeys(name for names in given for name in names)
    with ThreadPoolExecutor(N_LOOKERS) as threads:
        found = threads.map(lambda i, own: _look(system, i, {**absent, **own}, types), infos, given)
        return list(found)


def _look(
    system: pafs.FileSystem, info: pafs.FileInfo, given: dict[str, str | None], types: dict[str, pa.DataType]
) -> FoundFile:
    file = InputFile(info.path, info.size, info.mtime_ns or 0, given=given)
    try:
        if has_suffix(info.path, PARQUET):
            with pq.ParquetFile(info.path, filesystem=system) as parquet:
                meta, schema = parquet.metadata, parquet.schema_arrow
                rows = tuple(meta.row_group(i).num_rows for i in range(meta.num_row_groups))
                file = dataclasses.replace(file, group_rows=rows)
        else:
            schema = _read_text_schema(system, info.path, types)
        for name in given:
            if name not in schema.names:
                schema = schema.append(pa.field(name, types.get(name, pa.string())))
        return FoundFile(file, schema)
    except InvalidDataError as exc:
        return FoundFile(file, None, str(exc)[:500])
    except (pa.ArrowException, OSError, EOFError, ValueError) as exc:
        why = say_os_error(exc) if isinstance(exc, OSError) else exc
        return FoundFile(file, None, f"cannot be read: {why}"[:500])


def _read_text_schema(system: pafs.FileSystem, path: str, types: dict[str, pa.DataType]) -> pa.Schema:
    read = read_csv_header if has_suffix(path, CSV) else read_json_schema
    return read(system, path, types)


class RowFiles:
    """Reads the units of a job.

    Parameters
    ----------
    location : str
        The job's input; it tells the file system.
    columns : Columns
        What is read.
    schema : Schema
        Types of the columns that are read.
    features : sequence of FeatureSpec
        By them the values of text are read.
    batch_rows : int
        Most rows of a batch.
    """

    def __init__(
        self,
        location: str,
        columns: Columns,
        schema: pa.Schema,
        features: Sequence[FeatureSpec],
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        self._system, _ = open_location(location)
        self._columns = columns
        self._schema = pa.schema([schema.field(name) for name in columns.read])
        self._kept = pa.schema([schema.field(name) for name in columns.kept])
        specs = {spec.name: spec for spec in (*KEY_SPECS, *features)}  # an input may be called like a key
        self._specs = {column: specs[name] for name, column in (*columns.features, *columns.keys)}
        self._features = {column: specs[name] for name, column in columns.features}
        self._batch_rows = batch_rows

    def batches(self, unit: Unit, n_skipped: int = 0) -> Iterator[RowBatch]:
        """Yield the rows of a unit after its first `n_skipped`, always cut at the same places.

        Raises
        ------
        OSError, EOFError, pa.ArrowException
            The file cannot be read (on).
        """
        found = self._read_parquet(unit) if has_suffix(unit.path, PARQUET) else self._read_text(unit)
        for rows in found:
            if n_skipped >= rows.n_rows:
                n_skipped -= rows.n_rows
                continue
            yield rows if not n_skipped else _skip(rows, n_skipped)
            n_skipped = 0

    def _read_parquet(self, unit: Unit) -> Iterator[RowBatch]:
        is_remote = not isinstance(self._system, pafs.LocalFileSystem)
        at = unit.first_row
        meta = pq.read_metadata(unit.path, filesystem=self._system)
        schema = meta.schema.to_arrow_schema()
        given = self._find_given(unit, schema.names)
        names = [name for name in self._schema.names if name not in given]
        self._check_types(unit.path, schema, names)
        first, n_groups = unit.first_group or 0, unit.n_groups or meta.num_row_groups
        groups = list(range(first, first + n_groups))
        # Names repeat: as codes they are cheaper to read, to move and to encode. What is kept stays as it is.
        texts = [n for n in names if schema.field(n).type == pa.string() and n not in self._kept.names]
        with pq.ParquetFile(
            unit.path, filesystem=self._system, metadata=meta, pre_buffer=is_remote,
            read_dictionary=_find_codable(meta, groups, texts),
        ) as parquet:  # fmt: skip
            for batch in parquet.iter_batches(self._batch_rows, groups, names, use_threads=False):
                yield RowBatch(self._complete(batch, given), np.arange(at, at + batch.num_rows))
                at += batch.num_rows

    def _read_text(self, unit: Unit) -> Iterator[RowBatch]:
        kind = "csv" if has_suffix(unit.path, CSV) else "json"
        at, schema = 0, self._schema
        given: dict[str, pa.Scalar] = {}
        there: list[str] = []
        if unit.given or kind == "json":
            there = self._list_names(unit)
        if unit.given:
            given = self._find_given(unit, there)
            schema = pa.schema([field for field in schema if field.name not in given])
        text = TextRows(self._system, unit.path, kind, schema, self._specs, is_all=set(there) <= set(schema.names))
        for found, unread in text.blocks():
            bad = np.array([row for row, _, _ in unread], dtype=np.int64)
            batch = self._complete(found, given)
            n_rows = batch.num_rows + len(unread)
            numbers = np.setdiff1d(np.arange(n_rows), bad) + at
            lines = [(row + at, reason, line) for row, reason, line in unread]
            for rows in self._slice(batch, numbers, lines):
                yield dataclasses.replace(rows, new_members=tuple(text.new_members))
            at += n_rows

    def _list_names(self, unit: Unit) -> list[str]:
        types = {column: text_type(spec) for column, spec in self._specs.items()}
        try:
            return list(_read_text_schema(self._system, unit.path, types).names)
        except ValueError:  # no row in its first lines; the others are read, and these are rejected, in their turn
            return []

    def _find_given(self, unit: Unit, there: Sequence[str]) -> dict[str, pa.Scalar]:
        """Return the value of each column that only the folders of a file give."""
        names = [name for name in unit.given if name in self._schema.names and name not in there]
        return {
            name: _convert_given(unit.path, self._schema.field(name), unit.given[name], self._specs.get(name))
            for name in names
        }

    def _check_types(self, path: str, schema: pa.Schema, names: Sequence[str]) -> None:
        """Raise InvalidDataError unless a file has the columns, those that are kept of the types of the plan."""
        for name in names:
            if name not in schema.names:
                raise InvalidDataError(f"{path}: it has no column {name}, which it had when the job was planned")
            kind = schema.field(name).type
            if name in self._kept.names and kind != self._kept.field(name).type and not pa.types.is_null(kind):
                raise InvalidDataError(
                    f"{path}: column {name} is {kind}, and was {self._kept.field(name).type} when the job was planned"
                )
            if name in self._features:
                check_type(self._features[name], kind, name, path)

    def _complete(self, batch: pa.RecordBatch, given: dict[str, pa.Scalar]) -> pa.RecordBatch:
        """Return a batch in the order of the plan, with what the folders give; a kept column has its type."""
        columns = {name: batch.column(name) for name in batch.schema.names}
        columns |= {name: pa.repeat(value, batch.num_rows) for name, value in given.items()}
        for name in self._kept.names:
            if pa.types.is_null(columns[name].type):
                columns[name] = columns[name].cast(self._kept.field(name).type)
        for name, column in columns.items():
            if pa.types.is_string_view(column.type):  # rows of views cannot be picked
                columns[name] = column.cast(pa.string())
        names = [*self._schema.names, *(n for n in batch.schema.names if n not in self._schema.names)]
        return pa.RecordBatch.from_arrays([columns[name] for name in names], names=names)

    def _slice(
        self, batch: pa.RecordBatch, numbers: NDArray[np.int64], unread: list[tuple[int, str, str]]
    ) -> Iterator[RowBatch]:
        for start in range(0, max(batch.num_rows, 1), self._batch_rows):
            stop = start + self._batch_rows
            yield RowBatch(batch.slice(start, self._batch_rows), numbers[start:stop], unread if not start else [])


def _find_codable(meta: pq.FileMetaData, groups: Sequence[int], names: Sequence[str]) -> list[str]:
    """Return those columns whose pages can all be read as codes."""
    chunks = (meta.row_group(group).column(at) for group in groups for at in range(meta.num_columns))
    others = {chunk.path_in_schema for chunk in chunks if not _CODABLE.issuperset(chunk.encodings)}
    return [name for name in names if name not in others]


def text_type(spec: FeatureSpec) -> pa.DataType:
    """Return the type that a feature's column has where the input is text."""
    return pa.string() if spec.kind == "categorical" else pa.float64()


def _convert_given(path: str, field: pa.Field, text: str | None, spec: FeatureSpec | None) -> pa.Scalar:
    """Return what a folder gives: a number for a feature that is one, otherwise its text."""
    if spec is None or spec.kind == "categorical":
        return pa.scalar(text, field.type)
    errors: dict[int, RowError] = {}
    found = convert_values(spec, field.type, [read_cell(text)], errors)
    if errors:
        raise InvalidDataError(f"{path}: its folder {field.name}={text}: {errors[0].detail}")
    return found[0]


def _skip(rows: RowBatch, n: int) -> RowBatch:
    first = int(min([*rows.row_numbers[:1], *(row for row, _, _ in rows.unread)])) + n
    keep = rows.row_numbers >= first
    return RowBatch(
        rows.batch.slice(int((~keep).sum())),
        rows.row_numbers[keep],
        [u for u in rows.unread if u[0] >= first],
        rows.new_members,
    )


def is_json_lines(path: str) -> bool:
    """Whether a file of the input is of JSON lines."""
    return has_suffix(path, JSON_LINES)


def pack_schema(schema: pa.Schema) -> str:
    """Return a schema as text for a JSON record."""
    return base64.b64encode(schema.remove_metadata().serialize().to_pybytes()).decode()


def unpack_schema(text: Any) -> pa.Schema:
    """Return the schema `pack_schema` was given."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
