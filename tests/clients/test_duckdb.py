"""What duckdb writes: Parquet of both versions, with and without dictionaries, with every compression."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PARQUET = "application/vnd.apache.parquet"
COMPRESSIONS = ("uncompressed", "snappy", "gzip", "zstd", "brotli", "lz4", "lz4_raw")
PAGES = {
    "v1": "PARQUET_VERSION v1",
    "v2": "PARQUET_VERSION v2",
    "v1-plain": "PARQUET_VERSION v1, DICTIONARY_SIZE_LIMIT 1",
    "v2-delta": "PARQUET_VERSION v2, DICTIONARY_SIZE_LIMIT 1",
}


def copy(table, path, options):
    with duckdb.connect() as connection:
        connection.register("rows", table)
        connection.execute(f"COPY (SELECT * FROM rows) TO '{path}' ({options})")


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("pages", PAGES)
def test_its_parquet_is_scored(send, rows, expected, tmp_path, pages, compression):
    path = tmp_path / "rows.parquet"
    copy(pa.Table.from_pylist(rows), path, f"FORMAT parquet, {PAGES[pages]}, COMPRESSION {compression}")
    assert send(path.read_bytes(), PARQUET).json()["predictions"] == expected


def test_its_second_version_has_delta_pages(rows, tmp_path):
    copy(pa.Table.from_pylist(rows), tmp_path / "rows.parquet", f"FORMAT parquet, {PAGES['v2-delta']}")
    group = pq.read_metadata(tmp_path / "rows.parquet").row_group(0)
    encodings = {encoding for k in range(group.num_columns) for encoding in group.column(k).encodings}
    assert encodings >= {"DELTA_LENGTH_BYTE_ARRAY", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"}
