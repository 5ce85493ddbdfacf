"""The registry on an object store: ``<root>/<name>/versions/<n>/``, ``claims/<n>.json``, ``aliases.json``.

A store has no rename of a folder, so a publisher first claims a number with a conditional write, and
writes the manifest last, conditionally too: a version is what has a manifest. An empty manifest is
the tombstone of a number whose upload was given up; it is written on the same condition, so of the
publisher and who cleans up after it one wins. A claimed number is never given again.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from serve_app.errors import ConflictError, NotFoundError, PackageError
from serve_app.models.adapters.package_cache import PackageCache
from serve_app.models.adapters.package_dir import MANIFEST, check_files, check_package, load_manifest
from serve_app.models.core.manifest import Manifest, parse_manifest
from serve_app.models.service.registry import (
    Registry,
    UnfinishedUpload,
    check_name,
    is_name,
    is_number,
    name_mover,
    unknown_version,
)
from serve_app.storage.conditional_files import StoredFile
from serve_app.storage.object_store import FileStatus, ObjectStore


class StoreRegistry(Registry):
    """A registry on an object store.

    Parameters
    ----------
    store : ObjectStore
    cache : Path
        Local folder that versions are fetched to.
    by : str, optional
        Who publishes and moves aliases; default the OS user and host.
    """

    def __init__(self, store: ObjectStore, cache: Path, by: str | None = None) -> None:
        super().__init__(store, by)
        self._store = store
        self._cache = PackageCache(cache, store.identity)

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        return sorted(name for name, uploads in self._models().items() if uploads.versions)

    def versions(self, name: str) -> list[int]:
        """Return the versions of a model, ascending."""
        return self._uploads(name).versions

    def publish(self, name: str, directory: Path) -> int:
        """Copy a finished package in as the next version and return its number.

        Raises
        ------
        PackageError
            The package is torn; nothing was published.
        ConflictError
            The upload was given up by `clean` before it came to its end.
        """
        manifest = load_manifest(directory)
        check_files(directory, manifest)
        version = self._claim_number(name)
        self._cache.forget(name, version)  # a registry that was here before may have used this number
        folder = f"{name}/versions/{version}"
        for file in manifest.files:
            self._store.upload(directory / file, f"{folder}/{file}")
        try:
            self._store.replace(f"{folder}/{MANIFEST}", (directory / MANIFEST).read_bytes(), None)
        except ConflictError as exc:
            raise ConflictError(
                f"{name} version {version} was cleaned up as unfinished meanwhile: publish again"
            ) from exc
        return version

    def _claim_number(self, name: str) -> int:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        claim = {"id": uuid.uuid4().hex, "at": at, "by": self._by or name_mover()}
        data = json.dumps(claim).encode()
        version = max(self._uploads(name).changed_at, default=0)
        while True:
            version += 1
            with contextlib.suppress(ConflictError):  # somebody else has this number: take the next one
                self._store.replace(f"{name}/claims/{version}.json", data, None)
                return version

    def manifest(self, name: str, version: int) -> Manifest:
        """Return the manifest of a version."""
        cached = self._cache.find(check_name(name), version)
        return load_manifest(cached) if cached is not None else parse_manifest(self._load_manifest(name, version).data)

    def check(self, name: str, version: int) -> Manifest:
        """Return the manifest of a version after checking every file of it."""
        return check_package(self.locate(name, version))

    def locate(self, name: str, version: int) -> Path:
        """Return a local directory with a version, fetching it when it is not here yet."""
        cached = self._cache.find(check_name(name), version)
        if cached is not None:
            return cached
        return self._cache.fill(name, version, lambda target: self._fetch(name, version, target))

    @contextlib.contextmanager
    def open_stored(self, name: str, version: int) -> Iterator[Path]:
        """Fetch a version again, for as long as the context lasts."""
        with tempfile.TemporaryDirectory(prefix="scorecat-package-") as folder:
            self._fetch(name, version, Path(folder))
            yield Path(folder)

    def _fetch(self, name: str, version: int, target: Path) -> None:
        """Write a version's files to an empty folder and prove them."""
        folder = f"{name}/versions/{version}"
        where = f"{self.where}/{folder}"
        manifest = self._load_manifest(name, version)
        listed = {MANIFEST, *parse_manifest(manifest.data).files}
        stored = {path.removeprefix(f"{folder}/") for path in self._store.list_files(folder)}
        if extra := sorted(stored - listed):
            raise PackageError(f"{where} has files that its manifest does not list: {', '.join(extra)}")
        (target / MANIFEST).write_bytes(manifest.data)
        for file in sorted(stored - {MANIFEST}):
            with contextlib.suppress(NotFoundError):  # gone since it was listed: the check below says so
                self._store.download(f"{folder}/{file}", target / file)
        try:
            check_files(target, load_manifest(target))
        except PackageError as exc:
            raise PackageError(str(exc).replace(str(target), where)) from exc

    def _load_manifest(self, name: str, version: int) -> StoredFile:
        stored = self._store.load(f"{check_name(name)}/versions/{version}/{MANIFEST}")
        if stored is None or not stored.data:
            raise unknown_version(self.where, name, version, self.versions(name))
        return stored

    def resolve(self, name: str, wanted: str) -> int:
        """Return the version a number or alias stands for; raises NotFoundError."""
        if is_number(wanted) and self._cache.find(check_name(name), int(wanted)) is not None:
            return int(wanted)
        return super().resolve(name, wanted)

    def unfinished(self) -> dict[str, list[UnfinishedUpload]]:
        """Return the uploads without a manifest, cut short or still going on, by model."""
        return {
            name: [self._describe(name, version, uploads.changed_at[version]) for version in uploads.unfinished]
            for name, uploads in sorted(self._models().items())
            if uploads.unfinished
        }

    def clean(self, name: str, older_than_s: float) -> list[UnfinishedUpload]:
        """Give up the uploads that nothing was added to for that long, and return them; their numbers stay taken."""
        uploads = self._uploads(name)
        removed = []
        for version in uploads.unfinished:
            changed_at = uploads.changed_at[version]
            if (datetime.now(UTC) - changed_at).total_seconds() < older_than_s:
                continue
            upload = self._describe(name, version, changed_at)
            with contextlib.suppress(ConflictError):  # it came to its end meanwhile
                self._store.replace(f"{name}/versions/{version}/{MANIFEST}", b"", None)
                removed.append(upload)
        for path in self._uploads(name).rubble:
            self._store.delete(path)
        return removed

    def _describe(self, name: str, version: int, changed_at: datetime) -> UnfinishedUpload:
        claim = self._store.load(f"{name}/claims/{version}.json")
        try:
            value = json.loads(claim.data if claim is not None else b"")
            at, by = datetime.fromisoformat(value["at"]).isoformat(), str(value["by"])
        except (ValueError, KeyError, TypeError):
            at, by = changed_at.isoformat(timespec="seconds"), ""
        return UnfinishedUpload(f"version {version}", at, by)

    def _models(self) -> dict[str, _Uploads]:
        files: dict[str, dict[str, FileStatus]] = {}
        for path, status in self._store.list_files().items():
            files.setdefault(path.partition("/")[0], {})[path] = status
        return {name: _Uploads(found) for name, found in files.items() if is_name(name)}

    def _uploads(self, name: str) -> _Uploads:
        return _Uploads(self._store.list_files(check_name(name)))


class _Uploads:
    """What a model's files say of its versions.

    Attributes
    ----------
    versions, unfinished : list of int
        Numbers with a manifest, and numbers in use without one.
    changed_at : dict of int to datetime
        When the last file of each number in use was written.
    rubble : list of str
        Files of uploads that were given up.
    """

    def __init__(self, files: dict[str, FileStatus]) -> None:
        self.changed_at: dict[int, datetime] = {}
        manifests: dict[int, int] = {}
        parts: list[tuple[int, str]] = []
        for path, status in files.items():
            match path.split("/"):
                case [_, "versions", number, file]:
                    pass
                case [_, "claims", claim]:
                    number, file = claim.removesuffix(".json"), ""
                case _:
                    continue
            if not is_number(number):
                continue
            version = int(number)
            self.changed_at[version] = max(status.changed_at, self.changed_at.get(version, status.changed_at))
            if file == MANIFEST:
                manifests[version] = status.size_bytes
            elif file:
                parts.append((version, path))
        self.versions = sorted(version for version, size_bytes in manifests.items() if size_bytes)
        self.unfinished = sorted(self.changed_at.keys() - manifests.keys())
        self.rubble = [path for version, path in parts if manifests.get(version) == 0]
