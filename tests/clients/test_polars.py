"""What polars writes: Arrow streams with string views and dictionaries of them, Parquet, CSV, JSON lines."""

from __future__ import annotations

import io
import time

import polars as pl
import pytest

STREAM = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
TEXTS = ["brand", "category_code"]


def with_texts_as(frame, kind):
    return frame.with_columns(
        pl.col(name).cast(pl.Enum(frame[name].drop_nulls().unique()) if kind == "enum" else kind) for name in TEXTS
    )


@pytest.fixture(params=[pl.String, pl.Categorical, "enum"], ids=["string", "categorical", "enum"])
def frame(rows, request):
    return with_texts_as(pl.DataFrame(rows), request.param)


def bytes_of(write, **options):
    sink = io.BytesIO()
    write(sink, **options)
    return sink.getvalue()


@pytest.mark.parametrize("options", [{}, {"compat_level": pl.CompatLevel.oldest()}], ids=["newest", "oldest"])
def test_its_arrow_stream_is_scored(send, frame, expected, options):
    assert send(bytes_of(frame.write_ipc_stream, **options), STREAM).json()["predictions"] == expected


@pytest.mark.parametrize("compression", ["uncompressed", "snappy", "gzip", "brotli", "lz4", "zstd"])
def test_its_parquet_is_scored(send, frame, expected, compression):
    assert send(bytes_of(frame.write_parquet, compression=compression), PARQUET).json()["predictions"] == expected


@pytest.mark.parametrize("kind", [pl.Int8, pl.UInt8, pl.Int16, pl.UInt32, pl.UInt64, pl.Float64, pl.Decimal(9, 2)])
def test_whole_numbers_of_every_width_are_scored(send, rows, expected, kind):
    whole = [name for name, value in rows[0].items() if isinstance(value, int)]
    body = bytes_of(pl.DataFrame(rows).with_columns(pl.col(whole).cast(kind)).write_ipc_stream)
    assert send(body, STREAM).json()["predictions"] == expected


def test_its_csv_is_scored(send, rows, expected):
    # an empty text and null look the same in it
    rows = [{**row, "brand": row["brand"] or None} for row in rows]
    answer = send(pl.DataFrame(rows).write_csv().encode(), "text/csv").json()["predictions"]
    assert [a for a, row in zip(answer, rows, strict=True) if row["brand"]] == [
        e for e, row in zip(expected, rows, strict=True) if row["brand"]
    ]


def test_it_reads_the_arrow_answer(send, frame, expected):
    answer = send(bytes_of(frame.write_ipc_stream), STREAM, Accept=STREAM)
    assert pl.read_ipc_stream(answer.content)["probability"].to_list() == expected


def test_events_of_its_arrow_stream_are_recorded(send):
    events = pl.DataFrame(
        {"event_id": f"polars-{k}", "user_id": f"u{k % 3}", "user_session": f"polars-s{k % 3}", "product_id": k,
         "event_type": "view", "price": 9.5 + k, "brand": None if k % 2 else "samsung"}
        for k in range(20)
    ).with_columns(pl.lit(int(time.time() * 1000)).cast(pl.Datetime("ms", "UTC")).alias("event_time"))  # fmt: skip
    answer = send(bytes_of(events.write_ipc_stream), STREAM, "/v1/events").json()
    assert (answer["recorded"], answer["errors"]) == (20, [])
