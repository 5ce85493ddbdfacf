"""Files of polars and duckdb, scored by ``scorecat score``: as the same rows sent as plain JSON."""

from __future__ import annotations

import polars as pl
import pytest
from test_duckdb import COMPRESSIONS as DUCKDB
from test_duckdb import PAGES, copy

POLARS = ("uncompressed", "snappy", "gzip", "brotli", "lz4", "zstd")


@pytest.fixture
def numbered(rows):
    """The rows with their numbers, which are carried along."""
    return pl.DataFrame(rows).with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))


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
        for name, pages in PAGES.items():
            options = f"FORMAT parquet, {pages}, COMPRESSION {compression}"
            copy(numbered.to_arrow(), folder / f"duckdb-{name}-{compression}.parquet", options)
    check(score(folder), expected, len(POLARS) + len(PAGES) * len(DUCKDB))


def test_json_lines(score, numbered, expected, tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    numbered.write_ndjson(folder / "polars.jsonl")
    copy(numbered.to_arrow(), folder / "duckdb.jsonl", "FORMAT json")
    copy(numbered.to_arrow(), folder / "duckdb.jsonl.gz", "FORMAT json, COMPRESSION gzip")
    check(score(folder), expected, 3)
