"""The process that reads a pickle: bytes in on stdin, plain content out on stdout, no rights between.

Run by `model_file` as ``python -I -m serve_app.models.untrusted.pickle_child LIMITS``. It gives
up the right to open files, to reach the network and to start processes before the first byte is read,
and never imports a class that the pickle names.

Output: 8 bytes, length of a JSON object (big endian); the object; the model's bytes.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import sys
import zlib
from typing import Any, BinaryIO, Final

from serve_app.models.untrusted.model_contents import CATBOOST, explain_contents, explain_unreadable
from serve_app.models.untrusted.pickle_content import read_content
from serve_app.models.untrusted.pickle_vm import NO_PICKLE, MalformedError, RefusedError, load_inert
from serve_app.models.untrusted.sandbox import Limits, enter
from serve_app.storage.contents import HEAD_BYTES

CHUNK_BYTES: Final = 1 << 20


class _Zlib(io.RawIOBase):
    """A zlib stream, unpacked as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._unpack = zlib.decompressobj()
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._unpack.eof:
            self._rest = self._rest or self._file.read(CHUNK_BYTES)
            data = self._unpack.decompress(self._rest, len(buffer))
            self._rest = self._unpack.unconsumed_tail
            if data:
                buffer[: len(data)] = data
                return len(data)
            if not self._rest and not self._unpack.eof and not self._file.peek(1):  # type: ignore[attr-defined]
                raise EOFError
        return 0


class _Counted:
    """A `Source` that stops after a number of bytes, whatever a small file unpacks to."""

    def __init__(self, file: Any, max_bytes: int) -> None:
        self._file = file
        self._n_left = max_bytes

    def read(self, n: int) -> bytes:
        parts = []
        while n > 0 and (part := self._file.read(min(n, CHUNK_BYTES))):
            self._spend(len(part))
            parts.append(part)
            n -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readline(self) -> bytes:
        line: bytes = self._file.readline(CHUNK_BYTES)
        self._spend(len(line))
        return line

    def _spend(self, n: int) -> None:
        self._n_left -= n
        if self._n_left < 0:
            raise RefusedError(
                "more bytes than allowed: the file unpacks to more than the memory limit leaves room for"
            )


def open_source(file: io.BufferedReader) -> tuple[Any, str]:
    """Return a reader of unpacked bytes and the name of the compression that joblib, or somebody, used."""
    head = file.peek(6)[:6]
    if head.startswith(b"ZF"):
        raise MalformedError("it is a file of joblib older than 0.10: write it again with a newer one")
    if head.startswith(b"\x78"):
        return io.BufferedReader(_Zlib(file), CHUNK_BYTES), "zlib"
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file), "gzip"
    if head.startswith(b"BZ"):
        return bz2.BZ2File(file), "bz2"
    if head.startswith((b"\xfd7zXZ", b"\x5d\x00")):
        return lzma.LZMAFile(file), "lzma"
    return file, "none"


def read(file: io.BufferedReader, limits: Limits) -> tuple[dict[str, Any], bytes]:
    """Read a pickle, or what is packed; return an object fit for JSON and the model's bytes, or an ``error`` and none.

    A bare model that was packed is returned as it is, with its kind as ``bare``.
    """
    head = b""
    try:
        unpacked, compression = open_source(file)
        head = unpacked.peek(HEAD_BYTES)[:HEAD_BYTES]
        source = _Counted(unpacked, limits.memory_bytes // 2)
        if compression != "none" and (document := _read_packed(head)):
            model = source.read(limits.memory_bytes) if "bare" in document else b""
            return {"compression": compression, **document}, model
        model, document = read_content(load_inert(source))
    except RefusedError as exc:
        return {"error": {"kind": "refused", "detail": _show(exc)}}, b""
    except MemoryError:
        return {"error": {"kind": "memory", "detail": ""}}, b""
    except (MalformedError, EOFError, OSError, zlib.error, lzma.LZMAError, RecursionError) as exc:
        if str(exc) == NO_PICKLE:
            return {"error": {"kind": "contents", "detail": explain_unreadable(head)}}, b""
        return {"error": {"kind": "malformed", "detail": _show(exc) or "the file is cut short"}}, b""
    return {**document, "compression": compression}, model


def _read_packed(head: bytes) -> dict[str, Any]:
    """Return what begins so where it is no pickle: a bare model, or an error."""
    if head.startswith(CATBOOST):
        return {"bare": "cbm"}
    if head.lstrip()[:1] == b"{":
        return {"bare": "json"}
    reason = explain_contents(head)
    return {"error": {"kind": "contents", "detail": f"holds something that {reason}"}} if reason else {}


def _show(exc: BaseException) -> str:
    """Return an error's text without what cannot be printed: it may quote the file."""
    return str(exc).encode("utf-8", "backslashreplace").decode()


def main() -> None:
    """Read stdin under limits, write the content to stdout."""
    limits = Limits(**json.loads(sys.argv[1]))
    for encoding in ("utf-8", "latin-1", "ascii", "utf-32-le", "utf-32-be", "raw-unicode-escape"):
        "x".encode(encoding).decode(encoding)  # codecs are files too: loaded while files can be opened
    protections = enter(limits, strict=True)
    with io.FileIO(0, closefd=False) as file:
        document, model = read(io.BufferedReader(file, CHUNK_BYTES), limits)
    header = json.dumps({**document, "protections": protections}).encode()
    out = sys.stdout.buffer
    out.write(struct.pack(">Q", len(header)) + header)
    out.write(model)
    out.flush()


if __name__ == "__main__":
    main()
