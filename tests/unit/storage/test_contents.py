from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import zipfile
import zlib
from collections.abc import Callable

import catboost
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather, orc

from serve_app.storage.contents import HEAD_BYTES, what_bytes_are

TABLE = pa.table({"a": [1, 2], "b": ["x", None]})


def written(write: Callable[[io.BytesIO], object]) -> bytes:
    sink = io.BytesIO()
    write(sink)
    return sink.getvalue()


def stream(new: Callable[..., pa.RecordBatchFileWriter]) -> bytes:
    sink = pa.BufferOutputStream()
    with new(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return sink.getvalue().to_pybytes()


def zipped() -> bytes:
    def write(sink: io.BytesIO) -> None:
        with zipfile.ZipFile(sink, "w") as archive:
            archive.writestr("model.cbm", b"x")

    return written(write)


def exported(tmp_path, form: str) -> bytes:
    model = catboost.CatBoostClassifier(iterations=2, depth=2, verbose=False, allow_writing_files=False)
    model.fit(np.arange(20).reshape(10, 2), [0, 1] * 5)
    path = tmp_path / f"model.{form}"
    model.save_model(str(path), format=form)
    return path.read_bytes()


PLAIN = b"price,hour\n1,2\n" * 50


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (b"", "empty"),
        (stream(pa.ipc.new_file), "arrow-file"),
        (stream(pa.ipc.new_stream), "arrow-stream"),
        (written(lambda s: feather.write_feather(TABLE, s, version=1)), "feather-1"),
        (written(lambda s: feather.write_feather(TABLE, s, version=2)), "arrow-file"),
        (written(lambda s: pq.write_table(TABLE, s)), "parquet"),
        (written(lambda s: orc.write_table(TABLE, s)), "orc"),
        (gzip.compress(PLAIN, mtime=0), "gzip"),
        (zlib.compress(PLAIN), "zlib"),
        (zlib.compress(PLAIN, 9), "zlib"),
        (bz2.compress(PLAIN), "bzip2"),
        (lzma.compress(PLAIN), "xz"),
        (pa.compress(PLAIN, "zstd", asbytes=True), "zstd"),
        (pa.compress(PLAIN, "lz4", asbytes=True), "lz4"),
        (zipped(), "zip"),
        (written(lambda s: np.save(s, np.arange(3))), "npy"),
        *[(pickle.dumps({"a": 1}, protocol), "pickle") for protocol in (0, 2, 3, 4, 5)],
        (b"SQLite format 3\x00" + bytes(80), "sqlite"),
        (b"\x00" * 8 + b"DUCK\x40" + bytes(80), "duckdb"),
        (b"\x89HDF\r\n\x1a\n" + bytes(80), "hdf5"),
        (b'<?xml version="1.0"?>\n<PMML version="4.3">', "pmml"),
        (b"<!DOCTYPE html><html>", "html"),
        (b"<note/>", "xml"),
        (b'{"a": 1}', "json"),
        (b'\xef\xbb\xbf [{"a": 1}]', "json"),
        ("price,hour".encode("utf-16"), "utf-16"),
    ],
)
def test_bytes_are_named_by_how_they_begin(data, key):
    found = what_bytes_are(data)
    assert found is not None
    assert found.key == key
    assert what_bytes_are(data[:HEAD_BYTES]) == found


@pytest.mark.parametrize(("form", "key"), [("cbm", "catboost"), ("onnx", "onnx"), ("pmml", "pmml"), ("json", "json")])
def test_the_forms_a_model_can_be_exported_in_are_told_apart(tmp_path, form, key):
    found = what_bytes_are(exported(tmp_path, form))
    assert found is not None
    assert found.key == key


TEXTS = ["price,hour", "category\nbrand", "c\nx", "(x)", "x,y", "< 5,b\n1,2", "größe,\t1", "FEA1,FEA2", "PARENT,x",
         "ORCHARD", "CBM1,CBM2", "12345678DUCK,x", "1234TFL3,x", "BZhang", "PKW,x", "ARROW1,x"]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_text_however_it_begins(text):
    found = what_bytes_are(text.encode())
    assert found is not None
    assert found.key == "text"


@pytest.mark.parametrize("data", [b"\x00\x01\x02", b"hello\x00", b"\x07" * 5000])
def test_what_cannot_be_told_is_not_named(data):
    assert what_bytes_are(data) is None
