"""What duckdb writes: Parquet of both versions with every compression."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

PARQUET = "application/vnd.apache.parquet"
COMPRESSIONS = ("uncompressed", "snappy", "gzip", "zstd", "brotli", "lz4", "lz4_raw")


@pytest.fixture
def copy(rows):
    """Write the rows, with further columns, as duckdb does."""

    def copy(path, options, more="*"):
        table = pa.Table.from_pylist([{**row, "row": k} for k, row in enumerate(rows)])
        with duckdb.connect() as connection:
            connection.register("rows", table)
            connection.execute(f"COPY (SELECT {more} FROM rows ORDER BY row) TO '{path}' ({options})")

    return copy


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_its_parquet_is_scored(send, copy, expected, tmp_path, version, compression):
    options = f"FORMAT parquet, PARQUET_VERSION {version}, COMPRESSION {compression}"
    copy(tmp_path / "rows.parquet", options, "* EXCLUDE row")
    assert send((tmp_path / "rows.parquet").read_bytes(), PARQUET).json()["predictions"] == expected
