"""What pyarrow writes: every page encoding, page version, compression and kind of text."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

STREAM = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
ENCODINGS = {
    pa.string(): ("PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"),
    pa.int64(): ("PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"),
    pa.float64(): ("PLAIN", "BYTE_STREAM_SPLIT"),
    pa.bool_(): ("PLAIN", "RLE"),
}
TEXT_KINDS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.uint32(), pa.large_string()),
    pa.dictionary(pa.int32(), pa.string_view()),
]


@pytest.fixture
def table(rows):
    table = pa.Table.from_pylist(rows)
    weekend = table.column_names.index("is_weekend")
    return table.set_column(weekend, "is_weekend", table["is_weekend"].cast(pa.bool_()))


def with_texts_as(table, kind):
    for name in ("brand", "category_code"):
        column = table[name]
        if pa.types.is_dictionary(kind):
            encoded = column.combine_chunks().dictionary_encode()
            values = encoded.dictionary.cast(kind.value_type)
            column = pa.DictionaryArray.from_arrays(encoded.indices.cast(kind.index_type), values)
        else:
            column = column.cast(kind)
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def parquet(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


@pytest.mark.parametrize("pages", ["1.0", "2.0"])
@pytest.mark.parametrize(
    ("kind", "encoding"), [(k, e) for k, all_of_it in ENCODINGS.items() for e in all_of_it], ids=str
)
def test_every_encoding_is_scored(send, table, expected, kind, encoding, pages):
    columns = {field.name: encoding for field in table.schema if field.type == kind}
    assert columns
    body = parquet(table, use_dictionary=False, column_encoding=columns, data_page_version=pages)
    assert send(body, PARQUET).json()["predictions"] == expected


@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "brotli", "lz4", "zstd"])
@pytest.mark.parametrize("pages", ["1.0", "2.0"])
def test_every_compression_is_scored(send, table, expected, pages, compression, dictionary):
    body = parquet(table, compression=compression, data_page_version=pages, use_dictionary=dictionary)
    assert send(body, PARQUET).json()["predictions"] == expected


@pytest.mark.parametrize("kind", TEXT_KINDS, ids=str)
def test_every_kind_of_text_is_scored_from_a_stream(send, table, expected, kind):
    table = with_texts_as(table, kind)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert send(sink.getvalue().to_pybytes(), STREAM).json()["predictions"] == expected


@pytest.mark.parametrize("kind", TEXT_KINDS[:-1], ids=str)
def test_every_kind_of_text_is_scored_from_parquet(send, table, expected, kind):
    assert send(parquet(with_texts_as(table, kind)), PARQUET).json()["predictions"] == expected
