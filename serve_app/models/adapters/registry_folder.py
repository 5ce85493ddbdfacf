"""The registry on a local directory: ``<root>/<name>/versions/<n>/`` and ``<root>/<name>/aliases.json``.

A version appears by one rename of a finished copy, so it is whole or not there. Aliases move under
a lock on ``aliases.lock`` and an atomic rename: a reader sees the old or the new file, never half.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from serve_app.errors import BadRequestError, NotFoundError
from serve_app.models.adapters.package_dir import check_files, check_package, load_manifest
from serve_app.models.core.manifest import Manifest
from serve_app.models.service.registry import (
    Registry,
    UnfinishedUpload,
    check_name,
    is_name,
    is_number,
    unknown_version,
)
from serve_app.storage.conditional_files import DirectoryFiles

_STAGING: Final = ".staging-"


class DirectoryRegistry(Registry):
    """A registry on a local directory.

    Parameters
    ----------
    root : Path
        Created on the first publish.
    by : str, optional
        Who moves aliases, for their history; default the OS user and host.
    """

    def __init__(self, root: Path, by: str | None = None) -> None:
        super().__init__(DirectoryFiles(root), by)
        self.root = root

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        return [name for name in self._list(self.root) if is_name(name) and self.versions(name)]

    def versions(self, name: str) -> list[int]:
        """Return the versions of a model, ascending."""
        return sorted(int(entry) for entry in self._list(self._versions_dir(name)) if is_number(entry))

    def publish(self, name: str, directory: Path) -> int:
        """Copy a finished package in as the next version and return its number.

        Raises
        ------
        PackageError
            The package is torn; nothing was published.
        BadRequestError
            The root cannot be written to.
        """
        check_files(directory, load_manifest(directory))
        versions = self._versions_dir(name)
        staging = versions / f"{_STAGING}{uuid.uuid4().hex}"
        try:
            versions.mkdir(parents=True, exist_ok=True)
            shutil.copytree(directory, staging)
            return self._claim_number(name, staging, versions)
        except OSError as exc:
            reason = exc.args[0][0][2] if isinstance(exc, shutil.Error) else exc.strerror or exc
            reason = re.sub(r"^\[Errno \d+\] ([^:]+): .*", r"\1", str(reason))  # the paths are our own, and long
            raise BadRequestError(f"cannot publish into {self.root}: {reason}") from exc
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _claim_number(self, name: str, staging: Path, versions: Path) -> int:
        while True:
            version = max(self.versions(name), default=0) + 1
            try:
                # rename onto an existing non-empty directory fails: whoever is second takes the next number
                staging.rename(versions / str(version))
            except OSError:
                if not (versions / str(version)).exists():
                    raise
            else:
                return version

    def manifest(self, name: str, version: int) -> Manifest:
        """Return the manifest of a version."""
        return load_manifest(self.locate(name, version))

    def check(self, name: str, version: int) -> Manifest:
        """Return the manifest of a version after checking every file of it."""
        return check_package(self.locate(name, version))

    def locate(self, name: str, version: int) -> Path:
        """Return the directory of a version; raises NotFoundError."""
        path = self._versions_dir(name) / str(version)
        if not path.is_dir():
            raise unknown_version(self.where, name, version, self.versions(name))
        return path

    @contextlib.contextmanager
    def open_stored(self, name: str, version: int) -> Iterator[Path]:
        """Give the directory of a version."""
        yield self.locate(name, version)

    def resolve(self, name: str, wanted: str) -> int:
        """Return the version a number or alias stands for; raises NotFoundError."""
        if not self.root.is_dir():
            raise NotFoundError(
                f"there is no registry at {self.root}: publish a model into it (`scorecat train EVENTS`), "
                "or set SCORECAT_REGISTRY to where it is"
            )
        return super().resolve(name, wanted)

    def unfinished(self) -> dict[str, list[UnfinishedUpload]]:
        """Return the staging folders that publishers left behind, or still work in, by model."""
        found = {name: [u for _, _, u in self._stagings(name)] for name in self._list(self.root) if is_name(name)}
        return {name: uploads for name, uploads in found.items() if uploads}

    def clean(self, name: str, older_than_s: float) -> list[UnfinishedUpload]:
        """Remove the staging folders that nothing was written to for that long, and return them."""
        removed = []
        for path, changed_s, upload in self._stagings(name):
            if time.time() - changed_s >= older_than_s:
                try:
                    shutil.rmtree(path)
                except OSError as exc:
                    raise BadRequestError(f"cannot remove {path}: {exc.strerror}") from exc
                removed.append(upload)
        return removed

    def _stagings(self, name: str) -> Iterator[tuple[Path, float, UnfinishedUpload]]:
        folder = self._versions_dir(name)
        for entry in self._list(folder):
            if entry.startswith(_STAGING):
                with contextlib.suppress(FileNotFoundError):  # its publisher came to the end meanwhile
                    changed_s = (folder / entry).stat().st_ctime
                    at = datetime.fromtimestamp(changed_s, UTC).isoformat(timespec="seconds")
                    yield folder / entry, changed_s, UnfinishedUpload(entry, at, "")

    def _versions_dir(self, name: str) -> Path:
        return self.root / check_name(name) / "versions"

    def _list(self, folder: Path) -> list[str]:
        try:
            return sorted(path.name for path in folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as exc:
            raise BadRequestError(f"the registry {self.root} cannot be read: {folder}: {exc.strerror}") from exc
