"""Every encoding of a Parquet page scores as the plain one; a page that holds more than it weighs is refused."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serve_app.errors import BadRequestError, InvalidDataError, MalformedBodyError, PayloadTooLargeError
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.specs import PURCHASE_FEATURES
from serve_app.features.core.typed_columns import MAX_ROWS
from serve_app.http.tables import parquet_limits
from serve_app.http.tables.table_formats import parse_parquet
from tests.testing_kit import VOCABULARIES, random_rows
from tests.testing_kit.batch.batch_jobs import LocalJob, make_rows, read_output

pytestmark = pytest.mark.unit

ENCODER = FeatureEncoder(PURCHASE_FEATURES, VOCABULARIES)
CODECS = ["none", "snappy", "gzip", "zstd", "lz4", "brotli"]
ENCODINGS = {
    "brand": ["PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"],
    "hour": ["PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"],
    "price": ["PLAIN", "BYTE_STREAM_SPLIT"],
    "is_weekend": ["PLAIN", "RLE"],
}
CASES = [(name, encoding) for name, encodings in ENCODINGS.items() for encoding in encodings]


def typed_rows(n: int, seed: int = 5) -> pa.Table:
    """Rows of the purchase model with strings, doubles, whole numbers and booleans, nulls among them."""
    table = pa.Table.from_batches([random_rows(n, seed)])
    for name, kind in {"hour": pa.int32(), "day_of_week": pa.int64(), "is_weekend": pa.bool_()}.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, table.column(name).cast(kind))
    return table


ROWS = typed_rows(700)


def written(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def encoded(body: bytes) -> tuple[bytes, bytes, int]:
    found = ENCODER.encode(parse_parquet(body, PURCHASE_FEATURES).batch)
    return found.matrix.tobytes(), found.sources.tobytes(), len(found.errors)


EXPECTED = encoded(written(ROWS, use_dictionary=False, compression="none"))


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("name", "encoding"), CASES)
def test_every_encoding_and_codec_gives_the_same_matrix(name, encoding, codec, version):
    body = written(
        ROWS,
        use_dictionary=False,
        column_encoding={name: encoding},
        compression=codec,
        data_page_version=version,
        row_group_size=300,
        data_page_size=500,
        write_batch_size=50,
    )
    chunk = pq.read_metadata(io.BytesIO(body)).row_group(0).column(ROWS.schema.get_field_index(name))
    assert encoding in chunk.encodings
    assert encoded(body) == EXPECTED


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("limit", [1 << 20, 20], ids=["dictionary", "dictionary, then plain"])
def test_dictionaries_that_fall_back_to_plain_pages_give_the_same_matrix(codec, version, limit):
    body = written(ROWS, compression=codec, data_page_version=version, dictionary_pagesize_limit=limit)
    assert encoded(body) == EXPECTED


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
@pytest.mark.parametrize("encoding", [None, *ENCODINGS["brand"]])
def test_every_type_of_text_gives_the_same_matrix(kind, encoding):
    table = ROWS
    for name in ("brand", "category_code"):
        table = table.set_column(table.schema.get_field_index(name), name, table.column(name).cast(kind))
    options = {"column_encoding": dict.fromkeys(("brand", "category_code"), encoding)} if encoding else {}
    assert encoded(written(table, use_dictionary=encoding is None, **options)) == EXPECTED


@pytest.mark.parametrize("values", [[], [None, None], ["", None], ["apple"]], ids=str)
@pytest.mark.parametrize("encoding", ENCODINGS["brand"])
def test_few_and_empty_texts_come_through(values, encoding):
    rows = {"price": 1.0, "hour": 1, "day_of_week": 1, "is_weekend": 0}
    table = pa.table({**{k: [v] * len(values) for k, v in rows.items()}, "brand": pa.array(values, pa.string())})
    body = written(table, use_dictionary=False, column_encoding={"brand": encoding})
    assert parse_parquet(body, PURCHASE_FEATURES).batch.column("brand").to_pylist() == values


@pytest.mark.parametrize("encoding", [None, *ENCODINGS["brand"]])
def test_a_job_scores_every_encoding_alike(package, tmp_path, encoding):
    table = make_rows(300)
    columns = {"column_encoding": {"brand": encoding, "user_id": encoding}, "use_dictionary": False}
    for name, options in {"a": {}, "b": columns if encoding else {}}.items():
        (tmp_path / name).mkdir()
        pq.write_table(table, tmp_path / name / "rows.parquet", **options)
        LocalJob(package, tmp_path / name, tmp_path / f"{name}-out").run()
    plain, found = read_output(tmp_path / "a-out"), read_output(tmp_path / "b-out")
    assert np.array_equal(found.column("probability"), plain.column("probability"))
    assert found.column("user_id").to_pylist() == plain.column("user_id").to_pylist()


def bomb(texts: list[str], version: str, codec: str = "zstd", encoding: str = "DELTA_BYTE_ARRAY") -> bytes:
    ones = np.ones(len(texts))
    table = pa.table({**dict.fromkeys(("price", "hour", "day_of_week", "is_weekend"), ones), "brand": texts})
    return written(
        table,
        use_dictionary=False,
        column_encoding={"brand": encoding},
        compression=codec,
        data_page_version=version,
    )


BOMBS = {
    "one long text in every row": lambda: ["x" * 100_000] * 2_000,
    "short ones first": lambda: [*["x" * 500] * 1_900, *["x" * 100_000] * 1_000],
    "each a little longer": lambda: ["x" * (40 * k) for k in range(3_000)],
}


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("name", BOMBS)
def test_a_few_kilobytes_that_hold_one_long_text_many_times_do_not_fill_the_memory(name, version, monkeypatch):
    monkeypatch.setattr(parquet_limits, "READ_BYTES", 4 << 20)
    texts = BOMBS[name]()
    body = bomb(texts, version)
    assert len(body) < 200_000
    assert sum(map(len, texts)) > 100_000_000
    refuse_in(16 << 20, body)


def refuse_in(n_bytes: int, body: bytes) -> None:
    pool, before = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        with pytest.raises(InvalidDataError, match=r"column brand has a string of \d+ bytes; at most 512"):
            parse_parquet(body, PURCHASE_FEATURES)
    finally:
        pa.set_memory_pool(before)
    assert pool.max_memory() < n_bytes


def test_a_file_that_lies_about_the_encoding_of_its_pages_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(parquet_limits, "READ_BYTES", 4 << 20)
    texts = ["x" * 100_000] * 2_000
    table = pa.table({**dict.fromkeys(("price", "hour", "day_of_week", "is_weekend"), np.ones(2_000)), "brand": texts})
    body = written(table, use_dictionary=["brand"], compression="zstd")
    dictionaries, deltas = (
        b"\x35\x00\x06\x10",
        b"\x35\x00\x06\x0e",
    )  # PLAIN, RLE, and RLE_DICTIONARY or DELTA_BYTE_ARRAY
    assert body.count(dictionaries) == 1
    lie = body.replace(dictionaries, deltas)
    assert "DELTA_BYTE_ARRAY" in pq.read_metadata(io.BytesIO(lie)).row_group(0).column(4).encodings
    refuse_in(16 << 20, lie)
    refuse_in(16 << 20, body)


def test_pages_that_are_larger_than_a_table_may_be_are_refused_whatever_the_file_says_of_them(monkeypatch):
    monkeypatch.setattr(parquet_limits, "MAX_TABLE_BYTES", 100_000)
    body = bomb([f"{k:0400}" for k in range(2_000)], "2.0", encoding="DELTA_LENGTH_BYTE_ARRAY")
    with pytest.raises(PayloadTooLargeError, match="100000 bytes decoded"):
        parse_parquet(body, PURCHASE_FEATURES)


def test_more_pages_than_any_writer_makes_are_refused(monkeypatch):
    monkeypatch.setattr(parquet_limits, "MAX_PAGES", 2)
    body = written(
        ROWS,
        use_dictionary=False,
        column_encoding={"brand": "DELTA_BYTE_ARRAY"},
        data_page_size=100,
        write_batch_size=50,
    )
    with pytest.raises(PayloadTooLargeError, match="may have 2 pages"):
        parse_parquet(body, PURCHASE_FEATURES)


def test_a_damaged_header_of_a_page_is_said():
    """Of the first page Arrow says it, of the others whoever adds them up."""
    options = {"use_dictionary": False, "column_encoding": {"brand": "DELTA_BYTE_ARRAY"}, "compression": "none"}
    body = written(ROWS, **options, data_page_size=1_000, write_batch_size=50)
    chunk = pq.read_metadata(io.BytesIO(body)).row_group(0).column(ROWS.schema.get_field_index("brand"))
    end = chunk.data_page_offset + chunk.total_compressed_size
    last = body.rindex(b"\x15\x00\x15", chunk.data_page_offset, end)  # a data page, and its size
    assert last > chunk.data_page_offset
    for at, says in (
        (chunk.data_page_offset, "Deserializing page header failed"),
        (last, "header of a page is damaged"),
    ):
        damaged = body[:at] + b"\xff" * 8 + body[at + 8 :]
        with pytest.raises(MalformedBodyError, match=f"the body is not a whole Parquet file: (.|\n)*{says}"):
            parse_parquet(damaged, PURCHASE_FEATURES)


SMALL = bomb(["apple", "apricot", "", "samsung"] * 5, "2.0", "none")


@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@example([(4, 0)])
def test_a_damaged_file_is_scored_or_refused_in_words(changes):
    body = bytearray(SMALL)
    for at, byte in changes:
        body[at] = byte
    with contextlib.suppress(BadRequestError):
        assert parse_parquet(bytes(body), PURCHASE_FEATURES).batch.num_rows <= MAX_ROWS
