"""Input files of rows: Parquet, CSV and JSON lines (both also gzipped), local or in an object store."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from numpy.typing import NDArray

from batch.storage.folder import open_location
from batch.storage.local_walk import list_local
from batch.storage.text_rows import TextRows, read_csv_header, read_json_schema
from batch.transforms.columns import Columns
from batch.transforms.plan import InputFile, Unit
from serve_app.core.errors import InvalidDataError, NotFoundError
from serve_app.core.features import FeatureSpec
from serve_app.core.history_keys import KEY_SPECS
from serve_app.core.parquet_texts import split_texts

PARQUET: Final = (".parquet", ".pq")
CSV: Final = (".csv", ".csv.gz")
JSON_LINES: Final = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
SUFFIXES: Final = (*PARQUET, *CSV, *JSON_LINES)
BATCH_ROWS: Final = 65_536
"""Rows of one call: the cost of calls is then a few hundredths of that of scoring."""
_CODED: Final = pa.dictionary(pa.int32(), pa.string())
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
    """

    batch: pa.RecordBatch
    row_numbers: NDArray[np.int64]
    unread: list[tuple[int, str, str]] = field(default_factory=list)

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


def find_files(
    location: str, features: Sequence[FeatureSpec], columns: dict[str, str], *, is_confined: bool = False
) -> list[FoundFile]:
    """Return the input's files by name, each with its schema.

    Parameters
    ----------
    location : str
        A file or folder, local or ``s3://…``, ``gs://…``. Below a folder, names that begin with ``_``
        or ``.`` and other suffixes are passed over.
    features : sequence of FeatureSpec
        They give the types of text columns.
    columns : dict of str to str
        Input column by feature, where the names differ.
    is_confined : bool
        Whether links may not lead out of a local folder.

    Raises
    ------
    NotFoundError, InvalidDataError
        Nothing is there, or nothing of a known suffix, or a link leads out.
    """
    system, root = open_location(location)
    try:
        info = system.get_file_info(root)
        if info.type == pafs.FileType.NotFound:
            raise NotFoundError(f"there is nothing at {location}")
        found = [info]
        if info.type == pafs.FileType.Directory:
            is_local = isinstance(system, pafs.LocalFileSystem)
            paths = list_local(root, SUFFIXES, is_confined=is_confined) if is_local else None
            found = system.get_file_info(paths if is_local else pafs.FileSelector(root, recursive=True))
    except OSError as exc:
        raise InvalidDataError(f"{location} cannot be read: {exc}") from exc
    files = sorted((i for i in found if i.is_file and _is_wanted(i.path, root)), key=lambda i: i.path)
    if not files:
        raise InvalidDataError(f"{location} holds no file that ends in one of {', '.join(SUFFIXES)}")
    types = {columns.get(s.name, s.name): pa.string() if s.kind == "categorical" else pa.float64() for s in features}
    with ThreadPoolExecutor(N_LOOKERS) as threads:
        return list(threads.map(lambda i: _look(system, i, types), files))


def _is_wanted(path: str, root: str) -> bool:
    below = path[len(root) :].strip("/").split("/") if path != root else [""]
    return path.endswith(SUFFIXES) and not any(part.startswith(("_", ".")) for part in below)


def _look(system: pafs.FileSystem, info: pafs.FileInfo, types: dict[str, pa.DataType]) -> FoundFile:
    modified_ns = info.mtime_ns or 0
    try:
        if info.path.endswith(PARQUET):
            with pq.ParquetFile(info.path, filesystem=system) as parquet:
                meta = parquet.metadata
                rows = tuple(meta.row_group(i).num_rows for i in range(meta.num_row_groups))
                return FoundFile(InputFile(info.path, info.size, modified_ns, rows), parquet.schema_arrow)
        read = read_csv_header if info.path.endswith(CSV) else read_json_schema
        return FoundFile(InputFile(info.path, info.size, modified_ns), read(system, info.path, types))
    except InvalidDataError as exc:
        return FoundFile(InputFile(info.path, info.size, modified_ns), None, str(exc)[:500])
    except (pa.ArrowException, OSError, EOFError, ValueError) as exc:
        return FoundFile(InputFile(info.path, info.size, modified_ns), None, f"cannot be read: {exc}"[:500])


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
        # Names repeat: as codes they are cheaper to read, to move and to encode. What is kept stays as it is.
        kept = set(columns.kept)
        self._coded = [f.name for f in self._schema if f.type == pa.string() and f.name not in kept]
        specs = {spec.name: spec for spec in (*features, *KEY_SPECS)}
        self._specs = {column: specs[name] for name, column in (*columns.features, *columns.keys)}
        self._batch_rows = batch_rows

    def batches(self, unit: Unit, n_skipped: int = 0) -> Iterator[RowBatch]:
        """Yield the rows of a unit after its first `n_skipped`, always cut at the same places.

        Raises
        ------
        OSError, EOFError, pa.ArrowException
            The file cannot be read (on).
        """
        found = self._read_parquet(unit) if unit.path.endswith(PARQUET) else self._read_text(unit)
        for rows in found:
            if n_skipped >= rows.n_rows:
                n_skipped -= rows.n_rows
                continue
            yield rows if not n_skipped else _skip(rows, n_skipped)
            n_skipped = 0

    def _read_parquet(self, unit: Unit) -> Iterator[RowBatch]:
        is_remote = not isinstance(self._system, pafs.LocalFileSystem)
        at = unit.first_row
        meta = pq.read_metadata(unit.path, filesystem=self._system) if self._coded else None
        coded = split_texts(meta, self._coded)[0] if meta else []
        with pq.ParquetFile(
            unit.path, metadata=meta, filesystem=self._system, pre_buffer=is_remote, read_dictionary=coded
        ) as parquet:
            first, n_groups = unit.first_group or 0, unit.n_groups or parquet.num_row_groups
            for batch in parquet.iter_batches(
                self._batch_rows, list(range(first, first + n_groups)), self._columns.read, use_threads=False
            ):
                ordered = batch.select(self._schema.names)
                if any(
                    f.type not in {kind, _CODED} for f, kind in zip(ordered.schema, self._schema.types, strict=True)
                ):
                    raise InvalidDataError(f"{unit.path}: its columns are not of the types of the plan")
                yield RowBatch(ordered, np.arange(at, at + ordered.num_rows))
                at += ordered.num_rows

    def _read_text(self, unit: Unit) -> Iterator[RowBatch]:
        kind = "csv" if unit.path.endswith(CSV) else "json"
        at = 0
        for batch, unread in TextRows(self._system, unit.path, kind, self._schema, self._specs).blocks():
            bad = np.array([row for row, _, _ in unread], dtype=np.int64)
            n_rows = batch.num_rows + len(unread)
            numbers = np.setdiff1d(np.arange(n_rows), bad) + at
            yield from self._slice(batch, numbers, [(row + at, reason, text) for row, reason, text in unread])
            at += n_rows

    def _slice(
        self, batch: pa.RecordBatch, numbers: NDArray[np.int64], unread: list[tuple[int, str, str]]
    ) -> Iterator[RowBatch]:
        for start in range(0, max(batch.num_rows, 1), self._batch_rows):
            stop = start + self._batch_rows
            yield RowBatch(batch.slice(start, self._batch_rows), numbers[start:stop], unread if not start else [])


def _skip(rows: RowBatch, n: int) -> RowBatch:
    first = int(min([*rows.row_numbers[:1], *(row for row, _, _ in rows.unread)])) + n
    keep = rows.row_numbers >= first
    return RowBatch(
        rows.batch.slice(int((~keep).sum())), rows.row_numbers[keep], [u for u in rows.unread if u[0] >= first]
    )


def pack_schema(schema: pa.Schema) -> str:
    """Return a schema as text for a JSON record."""
    return base64.b64encode(schema.remove_metadata().serialize().to_pybytes()).decode()


def unpack_schema(text: Any) -> pa.Schema:
    """Return the schema `pack_schema` was given."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
