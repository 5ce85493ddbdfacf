"""The registry on a local directory: ``<root>/<name>/versions/<n>/`` and ``<root>/<name>/aliases.json``.

A version appears by one rename of a finished copy, so it is whole or not there. Aliases move under
a lock on ``aliases.lock`` and an atomic rename: a reader sees the old or the new file, never half.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from serve_app.adapters.package_dir import check_files, load_manifest
from serve_app.core.errors import BadRequestError, ConflictError, InvariantError, NotFoundError
from serve_app.service.ports import Aliases

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")


class DirectoryRegistry:
    """A `serve_app.service.ports.Registry` on a local directory.

    Parameters
    ----------
    root : Path
        Created on the first publish.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(p.name for p in self.root.iterdir() if _NAME.fullmatch(p.name) and self.versions(p.name))

    def versions(self, name: str) -> list[int]:
        """Return the versions of a model, ascending."""
        folder = self._model_dir(name) / "versions"
        if not folder.is_dir():
            return []
        return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal())

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
        versions = self._model_dir(name) / "versions"
        staging = versions / f".staging-{uuid.uuid4().hex}"
        try:
            versions.mkdir(parents=True, exist_ok=True)
            shutil.copytree(directory, staging)
            return self._claim_number(name, staging, versions)
        except OSError as exc:
            reason = exc.args[0][0][2] if isinstance(exc, shutil.Error) else exc.strerror or exc
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

    def locate(self, name: str, version: int) -> Path:
        """Return the directory of a version; raises NotFoundError."""
        path = self._model_dir(name) / "versions" / str(version)
        if not path.is_dir():
            known = ", ".join(map(str, self.versions(name))) or "none"
            raise NotFoundError(f"{name} has no version {version} in {self.root} (there: {known})")
        return path

    def resolve(self, name: str, wanted: str) -> int:
        """Return the version a number or alias stands for; raises NotFoundError."""
        if not self.versions(name):
            known = ", ".join(self.names()) or "none"
            raise NotFoundError(f"there is no model {name} in {self.root} (there: {known})")
        if wanted.isdecimal():
            self.locate(name, int(wanted))
            return int(wanted)
        aliases = self.aliases(name).versions
        if wanted not in aliases:
            known = ", ".join(aliases) or "none"
            raise NotFoundError(f"{name} has no alias {wanted!r} (there: {known})")
        return aliases[wanted]

    def aliases(self, name: str) -> Aliases:
        """Return the aliases of a model as they stand now."""
        path = self._model_dir(name) / "aliases.json"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return Aliases({}, "0")
        except OSError as exc:
            raise InvariantError(f"{path} cannot be read: {exc.strerror}") from exc
        try:
            value = json.loads(data)
            versions = {str(alias): int(version) for alias, version in value["aliases"].items()}
            token = str(int(value["revision"]))
        except (ValueError, AttributeError, TypeError, KeyError, RecursionError, OverflowError) as exc:
            raise InvariantError(
                f"{path} is damaged: {exc}. Restore it, or delete it and set the aliases with `scorecat models alias`"
            ) from exc
        return Aliases(versions, token)

    def move_alias(self, name: str, alias: str, version: int, *, expected: Aliases | None = None) -> Aliases:
        """Point an alias at a version, by compare-and-swap when `expected` is given.

        Raises
        ------
        ConflictError
            The aliases changed since `expected` was read; read again and decide again.
        """
        if not _NAME.fullmatch(alias):
            raise BadRequestError(f"{alias!r} is no alias: use lower-case letters, digits and dashes")
        self.locate(name, version)
        path = self._model_dir(name) / "aliases.json"
        with _locked(path.with_name("aliases.lock")):
            current = self.aliases(name)
            if expected is not None and expected.token != current.token:
                raise ConflictError(f"the aliases of {name} were moved by somebody else meanwhile: read them again")
            staged = path.with_name(f".aliases-{uuid.uuid4().hex}.json")
            with staged.open("w", encoding="utf-8") as file:
                aliases = {**current.versions, alias: version}
                json.dump({"revision": int(current.token) + 1, "aliases": aliases}, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            staged.replace(path)
        return self.aliases(name)

    def _model_dir(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise BadRequestError(f"{name!r} is no model name: use lower-case letters, digits and dashes")
        return self.root / name


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
