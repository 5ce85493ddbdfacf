"""What a file that should hold a model holds instead, and what there is to do about it.

Used before anything is unpacked, and in the process that unpacks: only the standard library is imported.
"""

from __future__ import annotations

from typing import Final

from serve_app.storage.contents import HEAD_BYTES, what_bytes_are

CATBOOST: Final = b"CBM1"
_EXPORTED: Final = (
    "from which CatBoost cannot read a model back: give the model as model.save_model('model.cbm') writes it, or a "
    "pickle of it"
)
_ROWS: Final = "which is no model: rows are given with --sample, beside the file of the model"
_OTHER: Final = "which is no CatBoost model: give the file that model.save_model('model.cbm') wrote, or a pickle"
_PACKED: Final = "which cannot be read here: unpack it"
_ADVICE: Final = {
    **dict.fromkeys(("onnx", "pmml", "coreml", "python", "cpp"), _EXPORTED),
    **dict.fromkeys(
        ("parquet", "parquet-encrypted", "orc", "avro", "arrow-file", "arrow-stream", "feather-1", "npy", "excel"),
        _ROWS,
    ),
    **dict.fromkeys(("hdf5", "tflite", "sqlite", "duckdb", "pdf", "html", "xml", "utf-16"), _OTHER),
    "zip": "which cannot be read as it is: unpack it, and give the file of the model in it",
    "lz4": f"{_PACKED} (`lz4 -d FILE`), or write it again with joblib.dump(..., compress=3)",
    "zstd": f"{_PACKED} (`zstd -d FILE`), or write it again with joblib.dump(..., compress=3)",
    "snappy": _PACKED,
}
"""By the key of `serve_app.storage.contents`; what is not here may be a model, a pickle, or packed by joblib."""
_SOURCES: Final = ((b"class catboost_model", "python", "Python"), (b"struct CatboostModel", "cpp", "C++"))


def explain_contents(head: bytes) -> str:
    """Return what bytes are and what to do, as the end of a sentence; nothing when they may be a model.

    Parameters
    ----------
    head : bytes
        The first bytes, up to `serve_app.storage.contents.HEAD_BYTES` of them.
    """
    for mark, key, language in _SOURCES:
        if mark in head:
            return f"is a model written out as {language} source, {_ADVICE[key]}"
    if _is_coreml(head):
        return f"is a CoreML model, {_ADVICE['coreml']}"
    found = what_bytes_are(head)
    if found is None or found.key not in _ADVICE or head.startswith(CATBOOST):
        return ""
    return f"is {found.name}, {_ADVICE[found.key]}"


def explain_unreadable(head: bytes) -> str:
    """Return what bytes are that turned out to be no pickle, as the end of a sentence."""
    found = what_bytes_are(head)
    if found is not None and found.key == "pickle":
        return "is a pickle that is damaged or cut short"
    looks = "JSON" if found is not None and found.key == "json" else "" if b"\0" in head else "text"
    return f"is neither a pickle nor a CatBoost model{f'; it looks like {looks}' if looks else ''}"


def _is_coreml(head: bytes) -> bool:
    """Whether these are a version and a description (a message whose first part is one too), as CoreML begins.

    ONNX has the name of its producer there, a text.
    """
    if not (head[:1] == b"\x08" and head[2:3] == b"\x12"):
        return False
    rest = head[3:HEAD_BYTES].lstrip(bytes(range(0x80, 0x100)))  # all but the last byte of a length
    return rest[1:2] == b"\x0a"
