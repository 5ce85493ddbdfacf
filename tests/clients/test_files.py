"""Files of polars and duckdb, scored by ``scorecat score``: as the same rows sent as plain JSON."""

from __future__ import annotations

import duckdb
import polars as pl
import pytest

DUCKDB = ("uncompressed", "snappy", "gzip", "zstd", "brotli", "lz4", "lz4_raw")
POLARS = ("uncompressed", "snappy", "gzip", "brotli", "lz4", "zstd")


@pytest.fixture
def numbered(rows):
    """The rows with their numbers, which are carried along."""
    return pl.DataFrame(rows).with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))


def copy(frame, path, options):
    with duckdb.connect() as connection:
        connection.register("rows", frame.to_arrow())
        connection.execute(f"COPY (SELECT * FROM rows ORDER BY row) TO '{path}' ({options})")


def check(scores, expected, n_files):
    """Compare every row of every file with its answer."""
    assert sorted(scores["row"].to_pylist()) == sorted(list(range(len(expected))) * n_files)
    for row, probability in zip(scores["row"].to_pylist(), scores["probability"].to_pylist(), strict=True):
        assert probability == expected[row]


def test_parquet_of_every_version_and_compression_in_one_folder(score, numbered, expected, tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    for compression in POLARS:
        numbered.write_parquet(folder / f"polars-{compression}.parquet", compression=compression)
    for compression in DUCKDB:
        for version in ("v1", "v2"):
            options = f"FORMAT parquet, PARQUET_VERSION {version}, COMPRESSION {compression}"
            copy(numbered, folder / f"duckdb-{version}-{compression}.parquet", options)
    check(score(folder), expected, len(POLARS) + 2 * len(DUCKDB))


def test_json_lines(score, numbered, expected, tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    numbered.write_ndjson(folder / "polars.jsonl")
    copy(numbered, folder / "duckdb.jsonl", "FORMAT json")
    copy(numbered, folder / "duckdb.jsonl.gz", "FORMAT json, COMPRESSION gzip")
    check(score(folder), expected, 3)
