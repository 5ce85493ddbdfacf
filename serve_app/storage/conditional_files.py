"""Small files that are replaced only when nobody else replaced them first, and their local form."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from serve_app.errors import BadRequestError, ConflictError, InvariantError
from serve_app.storage.json_file import replace_bytes


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as read at one moment.

    Attributes
    ----------
    data : bytes
    token : str
        What the store knows this content by; it differs after every change.
    """

    data: bytes
    token: str


class ConditionalFiles(Protocol):
    """Where the registry keeps what changes. Paths are relative, with ``/``."""

    where: str
    """The root as a person writes it: a path, or ``s3://bucket/prefix``."""

    def load(self, path: str) -> StoredFile | None:
        """Return a file, or None when there is none."""
        ...

    def replace(self, path: str, data: bytes, seen: StoredFile | None) -> None:
        """Write a file in one step, provided it is still what was `seen`; None: provided there is none.

        Raises
        ------
        ConflictError
            It is not; nothing was written.
        """
        ...


class DirectoryFiles:
    """`ConditionalFiles` in a local directory: a file lock, and an atomic rename of a finished file.

    The lock is one file in the first folder of a path, so it is one lock for each model.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.where = str(root)

    def load(self, path: str) -> StoredFile | None:
        """Return a file, or None when there is none."""
        try:
            data = (self._root / path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise InvariantError(f"{self._root / path} cannot be read: {exc.strerror}") from exc
        return StoredFile(data, hashlib.sha256(data).hexdigest())

    def replace(self, path: str, data: bytes, seen: StoredFile | None) -> None:
        """Write a file, see `ConditionalFiles.replace`."""
        target = self._root / path
        try:
            with _locked(self._root / path.partition("/")[0] / "aliases.lock"):
                if self.load(path) != seen:
                    raise ConflictError(f"{target} was changed by somebody else meanwhile")
                target.parent.mkdir(exist_ok=True)
                replace_bytes(target, data, is_durable=True)
        except OSError as exc:
            raise BadRequestError(f"cannot write {target}: {exc.strerror or exc}; nothing was changed") from exc


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
