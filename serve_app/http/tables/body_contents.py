"""A body that is of another kind than its Content-Type says is named, with what to send."""

from __future__ import annotations

from typing import Final

from serve_app.errors import MalformedBodyError
from serve_app.storage.contents import HEAD_BYTES, what_bytes_are

_STREAM: Final = "write it as a stream (polars: write_ipc_stream; pyarrow: pyarrow.ipc.new_stream)"
_PLAIN: Final = "send it uncompressed, or say so in Content-Encoding"
_ADVICE: Final = {
    "empty": "send rows",
    "arrow-file": f"{_STREAM}, and send it as application/vnd.apache.arrow.stream",
    "feather-1": f"{_STREAM}, and send it as application/vnd.apache.arrow.stream",
    "arrow-stream": "send it as application/vnd.apache.arrow.stream",
    "parquet": "send it as application/vnd.apache.parquet",
    "json": "send it as application/json",
    "text": "send CSV as text/csv",
    "utf-16": "send text as UTF-8",
    **dict.fromkeys(("gzip", "zlib"), _PLAIN),
    **dict.fromkeys(("zstd", "lz4", "bzip2", "xz", "snappy", "zip"), "send it uncompressed"),
}
_OTHERS: Final = "send JSON, CSV, an Arrow IPC stream or Parquet, with its Content-Type"


def check_content(body: bytes, begins: bytes, wanted: str) -> None:
    """Refuse a body that does not begin as it must, when it is known what it is instead.

    Parameters
    ----------
    body : bytes
    begins : bytes
        How a body of this kind begins.
    wanted : str
        What it should be, with an article.

    Raises
    ------
    MalformedBodyError
        The body is something else.
    """
    if not body.startswith(begins):
        _name_content(body, wanted, ())


def check_text(body: bytes, wanted: str) -> None:
    """Refuse a body that is no plain text, when it is known what it is instead; raises MalformedBodyError."""
    _name_content(body, wanted, ("text", "empty"))


def _name_content(body: bytes, wanted: str, allowed: tuple[str, ...]) -> None:
    found = what_bytes_are(body[:HEAD_BYTES])
    if found is not None and found.key not in allowed:
        raise MalformedBodyError(f"the body is {found.name}, not {wanted}: {_ADVICE.get(found.key, _OTHERS)}")
