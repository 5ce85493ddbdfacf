"""What a registry needs of an object store: files through ``pyarrow.fs``, conditional writes by its own client.

``pyarrow.fs`` reads and writes S3 and GCS alike but has no conditional write, so a store's class adds
`load` and `replace` with the client of its vendor.
"""

from __future__ import annotations

import contextlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import pyarrow.fs as pafs

from serve_app.errors import BadRequestError, ConflictError, NotFoundError, NotReadyError, ScorecatError
from serve_app.storage.conditional_files import ConditionalFiles, StoredFile

CONNECT_TIMEOUT_S: Final = 2.0
READ_TIMEOUT_S: Final = 3.0
MAX_ATTEMPTS: Final = 2
"""With the timeouts above: a store that does not answer is reported within some seconds."""
_CHUNK_BYTES: Final = 1 << 20
_DENIED: Final = ("ACCESS_DENIED", "PERMISSION_DENIED", "UNAUTHENTICATED", "INVALID_ACCESS_KEY", "SIGNATURE")


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What a listing says of a file: its size, and when it was written (aware)."""

    size_bytes: int
    changed_at: datetime


class ObjectStore(ConditionalFiles, ABC):
    """A bucket and prefix that packages are kept in. Paths are relative to it, with ``/``.

    Parameters
    ----------
    where : str
        ``s3://bucket/prefix`` or ``gs://bucket/prefix``.
    """

    credentials: str
    """Variables that say who uses the store, for texts."""
    address: str
    """Variables that say where the store is, for texts."""

    def __init__(self, where: str) -> None:
        self.where = where.rstrip("/")
        self.bucket, _, self.prefix = self.where.partition("://")[2].partition("/")

    @property
    @abstractmethod
    def identity(self) -> str:
        """What tells this store from any other: where it is, and its endpoint. Needs no network."""

    @abstractmethod
    def load(self, path: str) -> StoredFile | None:
        """Return a file, or None when there is none."""

    @abstractmethod
    def _put(self, path: str, data: bytes, seen: StoredFile | None) -> None:
        """Write a file on condition; ConflictError when the store says that it does not hold."""

    @abstractmethod
    def _filesystem(self) -> pafs.FileSystem:
        """Return a filesystem that can reach the bucket; any failure to is explained."""

    def replace(self, path: str, data: bytes, seen: StoredFile | None) -> None:
        """Write a file, see `ConditionalFiles.replace`.

        A client that got no answer asks again, and then finds its own first write in the way: so a
        refusal counts only when the file is not what was to be written.
        """
        try:
            self._put(path, data, seen)
        except ConflictError:
            found = self.load(path)
            if found is None or found.data != data:
                raise
        except NotReadyError as exc:
            text = f"{exc.detail}. Whether {path} was written is not known: look before you try again"
            raise NotReadyError(text, exc.retry_after_s) from exc

    def list_files(self, folder: str = "") -> dict[str, FileStatus]:
        """Return all files in a folder, and in those inside it, by path."""
        base = self._key("")
        selector = pafs.FileSelector(self._key(folder), allow_not_found=True, recursive=True)
        filesystem = self._filesystem()
        with self._explained(folder):
            found = filesystem.get_file_info(selector)
        files = (info for info in found if info.type == pafs.FileType.File)
        return {info.path.removeprefix(f"{base}/"): FileStatus(info.size, info.mtime) for info in files}

    def download(self, path: str, target: Path) -> None:
        """Copy a file here; raises NotFoundError."""
        filesystem = self._filesystem()
        with self._explained(path), filesystem.open_input_stream(self._key(path)) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, _CHUNK_BYTES)

    def upload(self, source: Path, path: str) -> None:
        """Copy a file there."""
        filesystem = self._filesystem()
        with self._explained(path), source.open("rb") as file, filesystem.open_output_stream(self._key(path)) as target:
            shutil.copyfileobj(file, target, _CHUNK_BYTES)

    def delete(self, path: str) -> None:
        """Delete a file; one that is not there is no error."""
        filesystem = self._filesystem()
        with self._explained(path), contextlib.suppress(FileNotFoundError):
            filesystem.delete_file(self._key(path))

    def _key(self, path: str) -> str:
        return "/".join(part for part in (self.bucket, self.prefix, path) if part)

    @contextlib.contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        """Turn what ``pyarrow.fs`` raises into errors that say what to do."""
        try:
            yield
        except FileNotFoundError as exc:
            raise NotFoundError(f"{self.where}/{path} is not there") from exc
        except OSError as exc:
            if exc.errno is not None:  # of the local side: errors of a store carry no number
                raise BadRequestError(f"cannot copy {self.where}/{path}: {exc.strerror or exc}") from exc
            text = str(exc)
            if any(word in text.upper() for word in _DENIED):
                raise self.denied(text) from exc
            raise self.unreachable(text) from exc

    def unreachable(self, reason: object) -> ScorecatError:
        """Return the error for a store that does not answer."""
        return NotReadyError(
            f"{self.where} does not answer: {str(reason).strip()[:300]}. Check the network and {self.address}; "
            "versions that were fetched before are served on",
            5.0,
        )

    def denied(self, reason: object) -> ScorecatError:
        """Return the error for a store that does not let us in."""
        return BadRequestError(
            f"{self.where} refuses access: {str(reason).strip()[:300]}. "
            f"The account of {self.credentials} needs to list, read and write there"
        )

    def without_bucket(self) -> ScorecatError:
        """Return the error for a bucket that does not exist."""
        return BadRequestError(
            f"{self.where}: there is no bucket {self.bucket}. Create it, or correct SCORECAT_REGISTRY or {self.address}"
        )
