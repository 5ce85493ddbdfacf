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
_BINARY: Final = rb"(?=[\x00-\x08\x0e-\x1f\x7f-\xff]|\Z)"
"""What follows is no text: the header of a CSV may begin with ``FEA1``, or ``PARENT``."""
_KINDS: Final = tuple(
    (re.compile(pattern, re.DOTALL), Content(key, name))
    for pattern, key, name in (
        (rb"\Z", "empty", "empty"),
        (rb"ARROW1" + _BINARY, "arrow-file", "an Arrow IPC file (Feather)"),
        (rb"FEA1" + _BINARY, "feather-1", "a Feather file of version 1"),
        (rb"PAR1" + _BINARY, "parquet", "a Parquet file"),
        (rb"PARE" + _BINARY, "parquet-encrypted", "an encrypted Parquet file"),
        (rb"ORC.{0,2}[\x00-\x08\x0e-\x1f]", "orc", "an ORC file"),
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
        (rb".{8}DUCK.\x00{7}", "duckdb", "a DuckDB database"),
        (rb"\x93NUMPY", "npy", "a NumPy array (.npy)"),
        (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "excel", "an old Office file, of Excel perhaps"),
        (rb"CBM1.{0,3}\x00", "catboost", "a CatBoost model (.cbm)"),
        (rb".{3}\x00TFL3", "tflite", "a TensorFlow Lite model"),
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
        (rb"[^\x00-\x08\x0e-\x1f\x7f]*\Z", "text", "text, CSV perhaps"),
    )
)


def what_bytes_are(data: bytes) -> Content | None:
    """Return what the bytes are, None where it cannot be told (most is).

    Parameters
    ----------
    data : bytes
        The whole, or its first `HEAD_BYTES`.
    """
    head = data[:HEAD_BYTES]
    return next((content for pattern, content in _KINDS if pattern.match(head)), None)
