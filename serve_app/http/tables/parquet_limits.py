"""Read the texts of a Parquet file that cannot be read as codes, without letting a few of them fill the memory.

A page of ``DELTA_BYTE_ARRAY`` says how much of the text before each text begins with, so that a few kilobytes may
hold one long text a hundred thousand times, and a file's own figures may say anything. So the headers of the pages
are read first, by which Arrow reads too: a text is no longer than its page and the text before it together, and no
more rows are read at once than may be that long.

References
----------
Apache Parquet, ``parquet.thrift`` (``PageHeader``) and "Encodings"; Apache Thrift, "Thrift Compact protocol".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from serve_app.errors import MalformedBodyError, PayloadTooLargeError
from serve_app.features.core.typed_columns import MAX_ROWS, MAX_TEXT_BYTES, check_strings

MAX_TABLE_BYTES: Final = 256 * 1024 * 1024
"""Largest table, decoded."""
READ_BYTES: Final = 64 * 1024 * 1024
"""What texts that are read at once may hold, if each is as long as it may be; Arrow takes twice as much."""
MAX_PAGES: Final = 100_000
"""Pages of one column: one a row, which no writer makes."""
_FLAT: Final = frozenset({0, 6})
"""``PLAIN`` and ``DELTA_LENGTH_BYTE_ARRAY``: texts that stand there as they are."""
_PAGE_SIZE, _PACKED_SIZE = 2, 3
_ENCODINGS: Final = ((5, 2), (7, 2), (8, 4))
"""Header of a data page, of a dictionary, of a data page of version 2, and its field that is the encoding."""
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_MAX_DEPTH: Final = 8


class _Page(NamedTuple):
    n_bytes: int
    is_flat: bool


def read_texts(body: bytes, file: pq.ParquetFile, names: list[str]) -> dict[str, pa.ChunkedArray]:
    """Return those of the columns `names` that are stored as texts.

    Raises
    ------
    InvalidDataError
        A text is too long.
    PayloadTooLargeError
        The pages are larger than a table may be.
    MalformedBodyError
        A page's header cannot be read.
    """
    columns = [file.schema.column(at) for at in range(len(file.schema))]
    found: dict[str, pa.ChunkedArray] = {}
    for at, column in enumerate(columns):
        if column.path in names and column.physical_type == "BYTE_ARRAY":
            read = [text for group in range(file.num_row_groups) for text in _read_group(body, file, group, at)]
            found[column.path] = pa.chunked_array(read, file.schema_arrow.field(column.path).type)
    return found


def _read_group(body: bytes, file: pq.ParquetFile, group: int, at: int) -> Iterator[pa.Array]:
    name = file.schema.column(at).path
    chosen = {"row_groups": [group], "columns": [name], "use_threads": False}
    # Of a damaged description Arrow says so where it reads by it; asked for it first, it ends the process.
    next(file.iter_batches(1, **chosen), None)
    n_rows = _count_rows(body, file.metadata.row_group(group).column(at))
    for batch in file.iter_batches(n_rows, **chosen):
        check_strings(name, batch.column(0))
        yield batch.column(0)


def _count_rows(body: bytes, chunk: pq.ColumnChunkMetaData) -> int:
    """Return how many rows of a column may be read at once."""
    pages = list(_read_pages(body, chunk))
    n_bytes = sum(page.n_bytes for page in pages)
    if n_bytes > MAX_TABLE_BYTES:
        raise PayloadTooLargeError(f"the table may have {MAX_TABLE_BYTES} bytes decoded, not {n_bytes}")
    if all(page.is_flat for page in pages):
        return MAX_ROWS
    longest = max(page.n_bytes for page in pages) + MAX_TEXT_BYTES  # all texts before have been found short
    return max(1, READ_BYTES // int(longest))


def _read_pages(body: bytes, chunk: pq.ColumnChunkMetaData) -> Iterator[_Page]:
    starts = [chunk.data_page_offset, chunk.dictionary_page_offset or 0]
    at = min(start for start in starts if start > 0)
    end = at + chunk.total_compressed_size
    for _ in range(MAX_PAGES):
        if at >= end:
            return
        try:
            header, at = _read_struct(body, at, 0)
            kinds = {header[kind].get(field) for kind, field in _ENCODINGS if kind in header}
            yield _Page(header[_PAGE_SIZE], kinds <= _FLAT)
            at += header[_PACKED_SIZE]
        except (IndexError, KeyError, AttributeError, TypeError) as exc:
            raise MalformedBodyError("the body is not a whole Parquet file: the header of a page is damaged") from exc
    raise PayloadTooLargeError(f"a column of a Parquet file may have {MAX_PAGES} pages")


def _read_struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Return the fields of a struct that are whole numbers or structs, and where it ends."""
    if depth > _MAX_DEPTH:
        raise IndexError
    found: dict[int, Any] = {}
    field = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            field += head >> 4
        else:
            field, at = _read_number(data, at)
        found[field], at = _read_value(data, at, head & 15, depth)
    return found, at + 1


def _read_value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in {_TRUE, _FALSE}:
        return None, at
    if kind == _BYTE:
        return None, at + 1
    if kind == _DOUBLE:
        return None, at + 8
    if kind == _BINARY:
        size, at = _read_varint(data, at)
        return None, at + size
    if kind == _STRUCT:
        return _read_struct(data, at, depth + 1)
    if kind in {_LIST, _SET}:
        raise IndexError  # a page's header has none
    return _read_number(data, at)


def _read_number(data: bytes, at: int) -> tuple[int, int]:
    value, at = _read_varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:  # noqa: PLR2004 - the highest bit says that more follow
            return value, at
        shift += 7
        if shift > 63:  # noqa: PLR2004 - more than 64 bits
            raise IndexError
