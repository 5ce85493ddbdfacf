"""Rows of CSV and JSON lines; a line that is none is found and handed over, the others go on."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from typing import Final

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.fs as pafs
import pyarrow.json as pajson

BLOCK_BYTES: Final = 8 << 20
HEAD_BYTES: Final = 1 << 20
_BOM: Final = b"\xef\xbb\xbf"
_NULLS: Final = ["", "NULL", "null", "NaN", "nan"]

Unread = tuple[int, str, str]
"""A line that is no row: its index, why, and its text."""


def read_csv_header(system: pafs.FileSystem, path: str, types: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return the columns of a CSV file: features of the given types, everything else as text."""
    head = next(_read_blocks(system, path, HEAD_BYTES), b"")
    names = _parse_header(head)
    if not names:
        raise ValueError("the file is empty: it must begin with a line of column names")
    return pa.schema([pa.field(name, types.get(name, pa.string())) for name in names])


def read_json_schema(system: pafs.FileSystem, path: str, types: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return the members of the first megabyte of JSON lines: features of the given types, others as found."""
    head = next(_read_blocks(system, path, HEAD_BYTES), b"")
    if not head.strip():
        raise ValueError("the file is empty")
    explicit = pa.schema([pa.field(name, kind) for name, kind in types.items()])
    found: list[pa.Schema] = []
    for line in head.splitlines()[:1000]:
        try:
            found.append(_read_json(line, explicit, "infer").schema)
        except pa.ArrowException:  # a bad line is found again when it is its turn
            continue
        if len(found) >= 100:  # noqa: PLR2004 - enough to meet the members that are not always there
            break
    if not found:
        raise ValueError("its first 1,000 lines hold no JSON object with these members")
    merged = pa.unify_schemas(found, promote_options="permissive")
    seen = b"".join(head.splitlines()[:1000])
    fields = [f for f in merged if f.name not in types or f'"{f.name}"'.encode() in seen]
    return pa.schema([pa.field(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in fields])


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
    """

    def __init__(self, system: pafs.FileSystem, path: str, kind: str, schema: pa.Schema) -> None:
        self._system, self._path, self._kind, self._schema = system, path, kind, schema
        self._header: list[str] = []

    def blocks(self) -> Iterator[tuple[pa.RecordBatch, list[Unread]]]:
        """Yield the rows of each block of whole lines, and the lines that are none by index in the block."""
        for number, block in enumerate(_read_blocks(self._system, self._path, BLOCK_BYTES)):
            lines = block
            if number == 0 and self._kind == "csv":
                self._header = _parse_header(block)
                lines = block[_end_of_line(block, 0) :]
            tables: list[pa.Table] = []
            unread: list[Unread] = []
            self._parse(lines, tables, unread)
            table = pa.concat_tables([self._schema.empty_table(), *tables]).combine_chunks()
            batches = table.to_batches()
            yield batches[0] if batches else pa.RecordBatch.from_pylist([], self._schema), unread

    def _parse(self, lines: bytes, tables: list[pa.Table], unread: list[Unread]) -> None:
        """Parse lines; when that fails, halves of them, down to the lines that are no rows."""
        if not lines.strip():
            return
        try:
            if self._kind == "csv":
                tables.append(self._read_csv(lines))
            else:
                tables.append(_read_json(lines, self._schema, "ignore").select(self._schema.names))
        except pa.ArrowException as exc:
            middle = _end_of_line(lines, len(lines) // 2)
            if middle >= len(lines):
                middle = lines.rfind(b"\n", 0, len(lines) - 1) + 1
            if middle <= 0:
                row = sum(table.num_rows for table in tables) + len(unread)
                unread.append((row, str(exc).splitlines()[0][:300], lines.decode(errors="replace").rstrip("\r\n")))
                return
            self._parse(lines[:middle], tables, unread)
            self._parse(lines[middle:], tables, unread)

    def _read_csv(self, lines: bytes) -> pa.Table:
        return pacsv.read_csv(
            pa.BufferReader(lines),
            read_options=pacsv.ReadOptions(
                column_names=self._header, use_threads=False, block_size=max(len(lines), 1) + 1
            ),
            convert_options=pacsv.ConvertOptions(
                column_types={f.name: f.type for f in self._schema},
                include_columns=self._schema.names,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=_NULLS,
            ),
        )


def _read_json(lines: bytes, schema: pa.Schema, unexpected: str) -> pa.Table:
    return pajson.read_json(
        pa.BufferReader(lines),
        read_options=pajson.ReadOptions(use_threads=False, block_size=max(len(lines), 1) + 1),
        parse_options=pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected),
    )


def _read_blocks(system: pafs.FileSystem, path: str, n_bytes: int) -> Iterator[bytes]:
    """Yield the file in blocks that end with a line."""
    rest = b""
    with system.open_input_stream(path, compression="gzip" if path.endswith(".gz") else None) as stream:
        is_first = True
        while data := stream.read(n_bytes):
            data = rest + (data.removeprefix(_BOM) if is_first else data)
            is_first = False
            end = data.rfind(b"\n") + 1
            rest = data[end:]
            if end:
                yield data[:end]
    if rest:
        yield rest


def _parse_header(block: bytes) -> list[str]:
    line = block[: _end_of_line(block, 0)].decode("utf-8")
    return next(csv.reader([line.rstrip("\r\n")]), [])


def _end_of_line(data: bytes, at: int) -> int:
    """Return the place after the first line break from `at` on, or the end."""
    found = data.find(b"\n", at)
    return len(data) if found < 0 else found + 1
