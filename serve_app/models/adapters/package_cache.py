"""Versions of a remote registry that were fetched to this machine, each whole or not there."""

from __future__ import annotations

import hashlib
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

from serve_app.errors import BadRequestError, PackageError
from serve_app.models.adapters.package_dir import check_files, load_manifest

_STAGING: Final = ".staging-"
_STALE_S: Final = 3600.0
"""Age at which a staging folder is what a killed process left behind."""


class PackageCache:
    """A folder of fetched packages: ``<folder>/<digest of the store>/<name>/<version>/``.

    A version never changes, so one that is here needs no network. Processes may share the folder.

    Parameters
    ----------
    folder : Path
        Created when first needed.
    identity : str
        What tells the store from any other.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._root = folder / hashlib.sha256(identity.encode()).hexdigest()[:16]

    def find(self, name: str, version: int) -> Path | None:
        """Return a version that is here and whole, proved by every file's SHA-256."""
        path = self._root / name / str(version)
        try:
            check_files(path, load_manifest(path))
        except (PackageError, OSError):
            return None
        return path

    def fill(self, name: str, version: int, fetch: Callable[[Path], None]) -> Path:
        """Return the directory of a version that `fetch` writes, whole, to the folder it is given.

        Raises
        ------
        BadRequestError
            The folder cannot be written to.
        """
        path = self._root / name / str(version)
        staging = path.with_name(f"{_STAGING}{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._sweep(path.parent)
            staging.mkdir()
            fetch(staging)
            self._place(staging, path)
        except OSError as exc:
            raise BadRequestError(f"cannot keep a package in {self._root}: {exc.strerror or exc}") from exc
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return path

    def forget(self, name: str, version: int) -> None:
        """Remove a version, if it is here."""
        path = self._root / name / str(version)
        gone = path.with_name(f"{_STAGING}{uuid.uuid4().hex}")
        try:
            path.rename(gone)
        except FileNotFoundError:
            return
        except OSError as exc:
            raise BadRequestError(f"cannot remove {path}: {exc.strerror}") from exc
        shutil.rmtree(gone, ignore_errors=True)

    def _place(self, staging: Path, path: Path) -> None:
        while True:
            try:
                staging.rename(path)  # onto an existing folder that is not empty, this fails
            except OSError:
                if self.find(path.parent.name, int(path.name)) is not None:
                    return  # another process fetched the same meanwhile
                if not path.exists():
                    raise
                self.forget(path.parent.name, int(path.name))
            else:
                return

    @staticmethod
    def _sweep(folder: Path) -> None:
        for left in folder.glob(f"{_STAGING}*"):
            if time.time() - left.stat().st_ctime > _STALE_S:
                shutil.rmtree(left, ignore_errors=True)
