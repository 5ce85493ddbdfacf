"""Large arrays pass between the processes of one machine through files in shared memory.

Moving two megabytes through a gRPC call takes about 5 ms of CPU on each side, mostly copies; a file
in memory takes one copy, and a matrix that only the next replica reads never visits the Gateway.

`pack` returns what it was given when it is small, when there is no folder for shared arrays (a cluster of
several machines sets none), or when the memory is full: the call then carries the value itself.
Who asked for a call owns its shared arrays: it makes the file for the answer too (`reserve`), and removes both when
the request is done or given up, so a call can be tried again, and one that answers too late writes nowhere.
What a killed process left behind is swept by `sweep`, and by `scorecat down`.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from serve_app.cluster.environment import SHARED_ARRAYS
from serve_app.errors import ReplicaLostError

MIN_BYTES: Final = 128 * 1024
"""Below, a call that carries the bytes is cheaper than a file."""
MAX_AGE_S: Final = 180.0
"""No request lives longer than a third of that."""
_ALIGNMENT: Final = 64
"""Arrow's and NumPy's preferred alignment, bytes."""


@dataclass(frozen=True, slots=True)
class SharedArray:
    """A value whose buffers are in a file.

    Attributes
    ----------
    path : str
    head : bytes
        The value pickled without its buffers (pickle protocol 5).
    sizes : tuple of int
        Size of each buffer in bytes; each starts at a multiple of 64.
    """

    path: str
    head: bytes
    sizes: tuple[int, ...]

    def open(self) -> Any:
        """Return the value; its arrays are read-only views of the shared memory.

        Raises
        ------
        ReplicaLostError
            The file is gone: its owner has given up on the request.
        """
        try:
            with Path(self.path).open("rb") as file:
                mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as exc:
            raise ReplicaLostError("the rows of this call are gone; it was given up or took too long", 1.0) from exc
        views, at = [], 0
        for size in self.sizes:
            views.append(mapped[at : at + size])
            at += _padded(size)
        return pickle.loads(self.head, buffers=views)  # noqa: S301 - written by a replica of our own


def reserve() -> str | None:
    """Return the path of a new empty file for a shared array, None when there can be none."""
    folder = os.environ.get(SHARED_ARRAYS)
    if not folder:
        return None
    path = f"{folder}/{uuid.uuid4().hex}"
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError:
        return None
    return path


def remove(path: str | None) -> None:
    """Remove a shared array's file; views that are open stay valid."""
    if path is not None:
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108 - a Path costs more than the call


def pack(value: Any, path: str | None) -> Any:
    """Return `value` as a `SharedArray` in the reserved file `path` when its buffers are large, else as it is."""
    if path is None:
        return value
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    if sum(view.nbytes for view in views) < MIN_BYTES:
        return value
    try:
        _write(path, views)
    except OSError:  # the memory is full, or the caller has given up and removed the file
        return value
    return SharedArray(path, head, tuple(view.nbytes for view in views))


def unpack(value: Any) -> Any:
    """Return what `pack` was given."""
    return value.open() if isinstance(value, SharedArray) else value


def sweep() -> int:
    """Remove shared arrays that no living request can own; return how many there were."""
    folder = os.environ.get(SHARED_ARRAYS)
    oldest_at, n_removed = time.time() - MAX_AGE_S, 0
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder or "/nonexistent"):
            with contextlib.suppress(OSError):
                if entry.stat().st_mtime < oldest_at:
                    os.unlink(entry.path)  # noqa: PTH108 - as above
                    n_removed += 1
    return n_removed


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """A record batch as one buffer: pickling its columns one by one costs ten times as much.

    Attributes
    ----------
    schema : Buffer or None
        Serialized Arrow schema; None when `body` has it.
    body : Buffer
        The batch as an IPC message, a slice brings only its own rows; or as an IPC stream, for a batch with
        dictionaries, which a message does not bring.
    """

    schema: pa.Buffer | None
    body: pa.Buffer

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> PackedBatch:
        """Pack a batch."""
        if not any(pa.types.is_dictionary(kind) for kind in batch.schema.types):
            return cls(batch.schema.serialize(), batch.serialize())
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return cls(None, sink.getvalue())

    def unpack(self) -> pa.RecordBatch:
        """Return the batch, without a copy."""
        if self.schema is None:
            return pa.ipc.open_stream(self.body).read_next_batch()
        return pa.ipc.read_record_batch(self.body, pa.ipc.read_schema(self.schema))


def _padded(size: int) -> int:
    return -size % _ALIGNMENT + size


def _write(path: str, views: list[memoryview]) -> None:
    pieces: list[memoryview | bytes] = []
    for view in views:
        pieces += [view, bytes(_padded(view.nbytes) - view.nbytes)]
    with open(path, "r+b", buffering=0) as file:  # noqa: PTH123 - as above; never creates the file
        expected = sum(len(piece) for piece in pieces)
        if os.writev(file.fileno(), pieces) != expected:
            raise OSError("the shared memory is full")
