"""Rows of CSV and JSON lines; a line that is none is found and handed over, the others go on.

Blocks of lines are read at once by type. When a value does not fit its type, the block is read value by value, by
the same rules as a table that comes over HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.fs as pafs
import pyarrow.json as pajson
from numpy.typing import NDArray

from batch.storage.lines import find_first_end, find_record_ends, parse_header, read_blocks, skip_blank_lines
from batch.transforms.columns import CONTENT
from batch.transforms.json_members import (
    carries_any,
    fits,
    holds_objects,
    infer_types,
    is_utf8,
    list_new,
    list_new_members,
    may_be_cut,
    parse_object,
    write_text,
)
from serve_app.features.core.cells import convert_values, read_cell, show_value
from serve_app.features.core.row_errors import RowError, add_unreadable
from serve_app.features.core.specs import FeatureSpec
from serve_app.runtime.json_bodies import has_constants

BLOCK_BYTES: Final = 8 << 20
HEAD_BYTES: Final = 1 << 20
HEAD_LINES: Final = 1_000
"""Lines of JSON that tell which members there are."""
MOST_NEW: Final = 20
"""Members that are named because they came too late to be read."""
TYPED_ROWS: Final = 100
"""Rows that tell their types; the others of `HEAD_LINES` tell those that are null, or not there, in them."""
Unread = tuple[int, str, str]
"""A line that is no row: its index, why, and its text."""


def read_csv_header(system: pafs.FileSystem, path: str, types: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return the columns of a CSV file: features of the given types, everything else as text."""
    head, _ = next(read_blocks(system, path, HEAD_BYTES, is_csv=True), (b"", True))
    names = parse_header(skip_blank_lines(head), types)
    if not names:
        raise ValueError("the file is empty: it must begin with a line of column names")
    if names.count("") > 1:  # a line that ends in ``,,``; one alone is an index, and is kept
        names = [name for name in names if name]
    return pa.schema([pa.field(name, types.get(name, pa.string())) for name in names])


def read_json_schema(system: pafs.FileSystem, path: str, types: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return the members of the first megabyte of JSON lines: features of the given types, others as found.

    A member that is null in all of them has the type null.
    """
    head, _ = next(read_blocks(system, path, HEAD_BYTES, is_csv=False), (b"", True))
    if not head.strip():
        raise ValueError("the file is empty")
    # A line that is no UTF-8 is rejected when it is its turn; what it names may be in later lines too.
    lines = [line.decode(errors="replace").encode() for line in head.splitlines()[:HEAD_LINES]]
    rows = [row for line in lines if isinstance(row := parse_object(line), dict)]
    if not rows:  # a bad line is found again when it is its turn
        raise ValueError(f"its first {HEAD_LINES:,} lines hold no JSON object")
    seen = set().union(*rows)
    others = [{name: row[name] for name in row if name not in types} for row in rows]
    typed = infer_types(others[:TYPED_ROWS], others[TYPED_ROWS:])
    features = {name: kind for name, kind in types.items() if name in seen}
    return pa.schema([pa.field(name, kind) for name, kind in {**features, **typed}.items()])


class TextRows:
    """The rows of one text file.

    Parameters
    ----------
    system : FileSystem
    path : str
        Read as gzip when it ends in ``.gz``.
    kind : {"csv", "json"}
    schema : Schema
        The columns that are read.
    specs : mapping of str to FeatureSpec
        What is known of columns, by name.
    is_all : bool
        Whether the first lines have no member that is not read; only then are new ones looked for.

    Attributes
    ----------
    new_members : dict of str to None
        Members of JSON lines read so far that are not read, as they are not in the first lines; of a few names.
    """

    def __init__(
        self,
        system: pafs.FileSystem,
        path: str,
        kind: str,
        schema: pa.Schema,
        specs: Mapping[str, FeatureSpec],
        *,
        is_all: bool = False,
    ) -> None:
        self._system, self._path, self._kind, self._schema = system, path, kind, schema
        self._specs = {name: spec for name, spec in specs.items() if name in schema.names}
        self._header: list[str] = []
        self._is_all = is_all
        self.new_members: dict[str, None] = {}

    def blocks(self) -> Iterator[tuple[pa.RecordBatch, list[Unread]]]:
        """Yield the rows of each block of whole lines, and the lines that are none by index in the block.

        Values of no use are null; the columns `UNREADABLE` and `CONTENT` then say what was there.
        """
        is_csv = self._kind == "csv"
        blocks = read_blocks(self._system, self._path, BLOCK_BYTES, is_csv=is_csv)
        for number, (block, is_whole) in enumerate(blocks):
            lines = block
            if number == 0 and is_csv:
                lines = skip_blank_lines(block)
                self._header = parse_header(lines, self._schema.names)
                lines = lines[find_first_end(lines) :]
            tables: list[pa.Table] = []
            unread: list[Unread] = []
            if is_whole:
                self._parse(lines, tables, unread)
            elif lines:
                unread.append((0, "a quote is not closed", _show(lines)))
            table = pa.concat_tables([self._schema.empty_table(), *tables], promote_options="default").combine_chunks()
            batches = table.to_batches()
            yield batches[0] if batches else pa.RecordBatch.from_pylist([], self._schema), unread

    def _parse(self, lines: bytes, tables: list[pa.Table], unread: list[Unread]) -> None:
        """Parse lines, those that are no rows apart."""
        if not self._holds_rows(lines):
            return
        try:
            tables.append(self._read(lines))
        except pa.ArrowException as exc:
            if self._kind == "json":
                tables.append(self._read_objects(lines, 0, unread))
            else:
                self._halve(lines, find_record_ends(lines), exc, tables, unread)

    def _holds_rows(self, lines: bytes) -> bool:
        return bool(lines if self._is_single else lines.strip())

    @property
    def _is_single(self) -> bool:
        """Whether this is CSV of one column, where an empty line is a null, as over HTTP."""
        return len(self._header) == 1

    def _halve(
        self, lines: bytes, ends: NDArray[np.int64], exc: Exception, tables: list[pa.Table], unread: list[Unread]
    ) -> None:
        """Parse the halves of records that cannot be parsed at once, down to those that are no rows."""
        if len(ends) == 1:
            row = sum(table.num_rows for table in tables) + len(unread)
            unread.append((row, str(exc).splitlines()[0][:300], _show(lines)))
            return
        middle = len(ends) // 2
        at = int(ends[middle - 1])
        for half, ends_of_half in ((lines[:at], ends[:middle]), (lines[at:], ends[middle:] - at)):
            if self._holds_rows(half):
                try:
                    tables.append(self._read(half))
                except pa.ArrowException as error:
                    self._halve(half, ends_of_half, error, tables, unread)

    def _read(self, lines: bytes) -> pa.Table:
        types = {f.name: f.type for f in self._schema}
        if self._kind == "json":
            return self._read_json(lines)
        try:
            return self._read_csv(lines, types)
        except pa.ArrowException:  # perhaps one bad value
            return self._convert_texts(self._read_csv(lines, {**types, **dict.fromkeys(self._specs, pa.string())}))

    def _convert_texts(self, texts: pa.Table) -> pa.Table:
        """Return the columns of a table of texts by their types."""
        errors: dict[int, RowError] = {}
        columns = {name: texts.column(name) for name in texts.column_names}
        for name, spec in self._specs.items():
            if spec.kind == "numeric":
                columns[name] = _convert_numbers(columns[name], spec, self._schema.field(name).type, errors)
        rows = texts.take(pa.array(sorted(errors), pa.int64())).to_pylist()
        return _add_errors(pa.table(columns), errors, [orjson.dumps(row).decode() for row in rows])

    def _read_objects(self, lines: bytes, at: int, unread: list[Unread]) -> pa.Table:
        """Read JSON lines one by one; `at` is the index of the first."""
        each = [line for line in lines.splitlines() if line.strip()]
        texts = [line.decode(errors="replace") for line in each]
        parsed = [parse_object(line) for line in each]
        problems = {k: row for k, row in enumerate(parsed) if isinstance(row, str)}
        problems |= self._find_misfits({k: row for k, row in enumerate(parsed) if isinstance(row, dict)})
        unread += [(at + k, problems[k], texts[k]) for k in sorted(problems)]
        rows = [row for k, row in enumerate(parsed) if k not in problems and isinstance(row, dict)]
        texts = [text for k, text in enumerate(texts) if k not in problems]
        self._note(list_new_members(rows, self._schema.names))
        errors: dict[int, RowError] = {}
        columns = {}
        for field in self._schema:
            values, spec = [row.get(field.name) for row in rows], self._specs.get(field.name)
            values = [write_text(value) for value in values] if carries_any(field) else values
            found = pa.array(values, field.type) if spec is None else convert_values(spec, field.type, values, errors)
            columns[field.name] = found
        return _add_errors(pa.table(columns, self._schema), errors, [texts[row] for row in sorted(errors)])

    def _find_misfits(self, rows: Mapping[int, dict[str, Any]]) -> dict[int, str]:
        """Return what is wrong with members that are carried along: they have the type of the first lines."""
        found: dict[int, str] = {}
        for field in self._schema:
            if field.name not in self._specs and not carries_any(field):
                wrong = {k: row[field.name] for k, row in rows.items() if not fits(row.get(field.name), field.type)}
                found |= {k: f"{field.name} must hold {field.type}, got {show_value(v)}" for k, v in wrong.items()}
        return found

    def _read_json(self, lines: bytes) -> pa.Table:
        """Read lines at once; raises pa.ArrowException where they are to be read one by one."""
        if not is_utf8(lines):  # which Arrow does not look at
            raise pa.ArrowInvalid("a line is no UTF-8")
        if has_constants(lines):  # of which Arrow makes numbers
            raise pa.ArrowInvalid("NaN may be a missing value")
        # Members of objects that are carried along may be new: then the type is not that of the first lines.
        has_objects = any(holds_objects(f.type) for f in self._schema if f.name not in self._specs)
        unexpected = "infer" if has_objects or self._is_all else "ignore"
        table = pajson.read_json(
            pa.BufferReader(lines),
            read_options=pajson.ReadOptions(use_threads=False, block_size=len(lines) + 1),
            parse_options=pajson.ParseOptions(explicit_schema=self._schema, unexpected_field_behavior=unexpected),
        )
        self._note(list_new(table, self._schema.names))
        table = table.select(self._schema.names)
        if any(table.schema.field(f.name).type != f.type for f in self._schema):
            raise pa.ArrowInvalid("an object has other members than those of the first lines")
        if not _are_lines(lines, table.num_rows):
            raise pa.ArrowInvalid("a line is not one object")
        if any(may_be_cut(table.column(f.name)) for f in self._schema if f.name not in self._specs):
            raise pa.ArrowInvalid("numbers may have lost digits")
        return table

    def _note(self, names: Sequence[str]) -> None:
        if self._is_all:
            self.new_members |= dict.fromkeys(names[:MOST_NEW])
            self.new_members = dict.fromkeys(list(self.new_members)[:MOST_NEW])

    def _read_csv(self, lines: bytes, types: Mapping[str, pa.DataType]) -> pa.Table:
        return pacsv.read_csv(
            pa.BufferReader(lines),
            read_options=pacsv.ReadOptions(
                column_names=self._header, use_threads=False, block_size=max(len(lines), 1) + 1
            ),
            parse_options=pacsv.ParseOptions(ignore_empty_lines=not self._is_single),
            convert_options=pacsv.ConvertOptions(
                column_types=types,
                include_columns=self._schema.names,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
            ),
        )


def _are_lines(lines: bytes, n_objects: int) -> bool:
    """Whether objects that were read from JSON lines are one a line; it is counted cheaply where no line is empty."""
    n_lines = lines.count(b"\n") + (not lines.endswith(b"\n"))
    if n_objects == n_lines == lines.count(b"\n{") + lines.startswith(b"{"):
        return True
    return n_objects == sum(bool(line.strip()) for line in lines.splitlines())


def _show(lines: bytes) -> str:
    return lines.decode(errors="replace").rstrip("\r\n")


def _convert_numbers(
    texts: pa.ChunkedArray, spec: FeatureSpec, kind: pa.DataType, errors: dict[int, RowError]
) -> pa.Array | pa.ChunkedArray:
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:
        return convert_values(spec, kind, [read_cell(text) for text in texts.to_pylist()], errors)


def _add_errors(table: pa.Table, errors: Mapping[int, RowError], contents: Sequence[str]) -> pa.Table:
    """Return the table with what could not be read, and the contents of those rows, when there are such."""
    if not errors:
        return table
    column: list[str | None] = [None] * table.num_rows
    for row, content in zip(sorted(errors), contents, strict=True):
        column[row] = content
    (batch,) = table.combine_chunks().to_batches()
    batch = add_unreadable(batch, errors.values()).append_column(CONTENT, pa.array(column, pa.string()))
    return pa.Table.from_batches([batch])
