"""What bytes are, told by how they begin: for messages about files and bodies of another kind than was meant."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

HEAD_BYTES: Final = 4096
"""As many of the first bytes as are looked at."""


class Content(NamedTuple):
    """A kind of content: a short `key` for code, and its `name` with an article, for messages."""

    key: str
    name: str


_TEXT: Final = rb"(?:\xef\xbb\xbf)?\s*"
_KINDS: Final = tuple(
    (re.compile(pattern, re.DOTALL), Content(key, name))
    for pattern, key, name in (
        (rb"\Z", "empty", "empty"),
        (rb"ARROW1", "arrow-file", "an Arrow IPC file (Feather)"),
        (rb"FEA1", "feather-1", "a Feather file of version 1"),
        (rb"PAR1", "parquet", "a Parquet file"),
        (rb"PARE", "parquet-encrypted", "an encrypted Parquet file"),
        (rb"ORC", "orc", "an ORC file"),
        (rb"Obj\x01", "avro", "an Avro file"),
        (rb"\x1f\x8b", "gzip", "compressed with gzip"),
        (rb"x[\x01\x9c\xda]", "zlib", "compressed with zlib"),
        (rb"\x28\xb5\x2f\xfd", "zstd", "compressed with zstd"),
        (rb"\x04\x22\x4d\x18|\x02\x21\x4c\x18", "lz4", "compressed with lz4"),
        (rb"BZh\d", "bzip2", "compressed with bzip2"),
        (rb"\xfd7zXZ\x00", "xz", "compressed with xz"),
        (rb"\xff\x06\x00\x00sNaPpY", "snappy", "compressed with snappy"),
        (rb"PK(?:\x03\x04|\x05\x06)", "zip", "a zip archive"),
        (rb"\x89HDF\r\n\x1a\n", "hdf5", "an HDF5 file"),
        (rb"SQLite format 3\x00", "sqlite", "an SQLite database"),
        (rb".{8}DUCK", "duckdb", "a DuckDB database"),
        (rb"\x93NUMPY", "npy", "a NumPy array (.npy)"),
        (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "excel", "an old Office file, of Excel perhaps"),
        (rb"CBM1", "catboost", "a CatBoost model (.cbm)"),
        (rb".{4}TFL3", "tflite", "a TensorFlow Lite model"),
        # From protocol 2 on a pickle says its protocol; those before begin with a global, a dict or a list.
        (rb"\x80[\x02-\x05]|c(?:copy_?reg|__builtin__|builtins|catboost[\w.]*)\n|\([dl]p0\n", "pickle", "a pickle"),
        # A ``ModelProto``: field 1, the version of the format, and then another of its fields.
        (rb"\x08[\x01-\x1f][\x12\x1a\x22\x28\x32\x3a\x42]", "onnx", "an ONNX model"),
        (rb"%PDF-", "pdf", "a PDF"),
        (rb"\xff\xff\xff\xff", "arrow-stream", "an Arrow IPC stream"),
        (rb"\xff\xfe|\xfe\xff", "utf-16", "text in UTF-16"),
        (_TEXT + rb"<[?!A-Za-z].*<PMML", "pmml", "a PMML model"),
        (_TEXT + rb"(?i:<!doctype html|<html)", "html", "a web page"),
        (_TEXT + rb"<[?!A-Za-z]", "xml", "XML"),
        (_TEXT + rb"[{\[]\s*(?:[\"{}\[\]\d-]|null|true|false)", "json", "JSON"),
    )
)


def what_bytes_are(data: bytes) -> Content | None:
    """Return what the bytes are, None where it cannot be told (CSV, most text, anything else).

    Parameters
    ----------
    data : bytes
        The whole, or its first `HEAD_BYTES`.
    """
    head = data[:HEAD_BYTES]
    return next((content for pattern, content in _KINDS if pattern.match(head)), None)
