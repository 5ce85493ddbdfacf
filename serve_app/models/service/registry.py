"""Where packages live: what every registry does alike with names and aliases, and what is for each to say."""

from __future__ import annotations

import getpass
import random
import re
import socket
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from serve_app.errors import BadRequestError, ConflictError, InvariantError, NotFoundError
from serve_app.models.core.alias_log import AliasLog, AliasMove, parse_alias_log, parse_moves
from serve_app.models.core.manifest import Manifest
from serve_app.storage.conditional_files import ConditionalFiles, StoredFile

CHAMPION: Final = "champion"
"""The alias of the version that is served."""
ATTEMPTS: Final = 60
"""Tries of a move that expects nothing; each failed one means that somebody else's move succeeded."""
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class Aliases:
    """The aliases of one model as read at one moment.

    Attributes
    ----------
    versions : mapping of str to int
        Version by alias.
    token : str
        Changes with every move; hand it back to move on condition that nothing moved since.
    """

    versions: Mapping[str, int]
    token: str


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """What a publish that did not come to its end left behind; it is never listed as a version.

    Attributes
    ----------
    what : str
        ``version 4``, or the name of a staging folder.
    begun_at : str
        ISO 8601 time in UTC; empty when nothing tells.
    by : str
        Who began it; empty when nothing tells.
    """

    what: str
    begun_at: str
    by: str


class Registry(ABC):
    """Immutable numbered versions of models, and aliases that move by compare-and-swap and are recorded.

    Aliases are in ``<name>/aliases.json``; where versions are is for a subclass to say.

    Parameters
    ----------
    files : ConditionalFiles
    by : str, optional
        Who publishes and moves, for the history; default the OS user and host.
    """

    def __init__(self, files: ConditionalFiles, by: str | None = None) -> None:
        self._files = files
        self._by = by

    @property
    def where(self) -> str:
        """The root as a person writes it."""
        return self._files.where

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of all models, sorted."""

    @abstractmethod
    def versions(self, name: str) -> list[int]:
        """Return the versions of a model, ascending; empty when there is no such model."""

    @abstractmethod
    def publish(self, name: str, directory: Path) -> int:
        """Copy a finished package in as the next version, all or nothing, and return its number."""

    @abstractmethod
    def manifest(self, name: str, version: int) -> Manifest:
        """Return the manifest of a version without the rest of the package."""

    @abstractmethod
    def check(self, name: str, version: int) -> Manifest:
        """Return the manifest of a version after checking every file of it; raises PackageError, NotFoundError.

        Blocks while it reads, and fetches first when need be.
        """

    @abstractmethod
    def locate(self, name: str, version: int) -> Path:
        """Return a local directory with the package, fetched first when need be; raises NotFoundError.

        What was fetched once is answered without the network. Blocks while it fetches.
        """

    @abstractmethod
    def open_stored(self, name: str, version: int) -> AbstractContextManager[Path]:
        """Give a directory with the package's bytes as they are kept now, whatever was fetched before."""

    @abstractmethod
    def unfinished(self) -> dict[str, list[UnfinishedUpload]]:
        """Return what cut-short publishes left behind, by model; also of models that have no version yet."""

    @abstractmethod
    def clean(self, name: str, older_than_s: float) -> list[UnfinishedUpload]:
        """Remove what cut-short publishes begun that long ago left behind, and return it."""

    def resolve(self, name: str, wanted: str) -> int:
        """Return the version a number or alias stands for; raises NotFoundError."""
        if not self.versions(name):
            known = ", ".join(self.names()) or "none"
            raise NotFoundError(f"there is no model {name} in {self.where} (there: {known})")
        if is_number(wanted):
            self._check_version(name, int(wanted))
            return int(wanted)
        aliases = self.aliases(name).versions
        if wanted not in aliases:
            raise _unknown_alias(name, wanted, aliases)
        return aliases[wanted]

    def aliases(self, name: str) -> Aliases:
        """Return the aliases of a model as they stand now."""
        log, _ = self._load(name)
        return Aliases(log.versions, str(log.revision))

    def history(self, name: str) -> list[AliasMove]:
        """Return every move of a model's aliases, oldest first."""
        log, _ = self._load(name)
        moves: list[AliasMove] = []
        for archive in log.archives:
            path = f"{name}/history/{archive}"
            stored = self._files.load(path)
            try:
                moves.extend(parse_moves(stored.data if stored is not None else b""))
            except ValueError as exc:
                raise InvariantError(f"{self._files.where}/{path} is missing or damaged: {exc}. Restore it") from exc
        return [*moves, *log.moves]

    def move_alias(
        self, name: str, alias: str, version: int, *, expected: Aliases | None = None, reason: str = ""
    ) -> Aliases:
        """Point an alias at a version, by compare-and-swap when `expected` is given, and record it in the same write.

        Raises
        ------
        ConflictError
            The aliases changed since `expected` was read; read again and decide again.
        """
        self._check_version(name, version)
        return self._change(name, check_alias(alias), version, expected, reason)

    def remove_alias(self, name: str, alias: str, *, expected: Aliases | None = None, reason: str = "") -> Aliases:
        """Delete an alias, as `move_alias` moves one."""
        if alias == CHAMPION:
            raise BadRequestError(f"{CHAMPION} is what is served and cannot be deleted: move it to another version")
        return self._change(name, alias, None, expected, reason)

    def _check_version(self, name: str, version: int) -> None:
        versions = self.versions(name)
        if version not in versions:
            raise unknown_version(self.where, name, version, versions)

    def _change(self, name: str, alias: str, version: int | None, expected: Aliases | None, reason: str) -> Aliases:
        for _ in range(ATTEMPTS):
            log, stored = self._load(name)
            if expected is not None and expected.token != str(log.revision):
                break
            old = log.versions.get(alias)
            if version is None and old is None:
                raise _unknown_alias(name, alias, log.versions)
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            move = AliasMove(uuid.uuid4().hex, at, self._by or name_mover(), alias, old, version, reason)
            try:
                return self._write(name, log.record(move), stored)
            except ConflictError:
                if expected is not None:
                    break
                time.sleep(random.uniform(0.001, 0.05))  # noqa: S311 # spreads writers, keeps no secret
        raise ConflictError(f"the aliases of {name} were moved by somebody else meanwhile: read them again")

    def _write(self, name: str, log: AliasLog, seen: StoredFile | None) -> Aliases:
        kept, archive, data = log.split_archive()
        if archive:
            path = f"{name}/history/{archive}"
            if self._files.load(path) is None:
                self._files.replace(path, data, None)
        self._files.replace(f"{name}/aliases.json", kept.dump(), seen)
        return Aliases(kept.versions, str(kept.revision))

    def _load(self, name: str) -> tuple[AliasLog, StoredFile | None]:
        path = f"{check_name(name)}/aliases.json"
        stored = self._files.load(path)
        if stored is None:
            return AliasLog(), None
        try:
            return parse_alias_log(stored.data), stored
        except ValueError as exc:
            raise InvariantError(
                f"{self._files.where}/{path} is damaged: {exc}. "
                "Restore it, or delete it and set the aliases with `scorecat models alias`"
            ) from exc


def is_name(text: str) -> bool:
    """Return whether a text may name a model or an alias."""
    return _NAME.fullmatch(text) is not None


def is_number(text: str) -> bool:
    """Return whether a text is the number of a version as folders are named: ``2``, not ``02`` or ``٢``."""
    return _NUMBER.fullmatch(text) is not None


def check_alias(alias: str) -> str:
    """Return an alias; raises BadRequestError when it is none."""
    if not is_name(alias):
        raise BadRequestError(f"{alias[:80]!r} is no alias: use lower-case letters, digits and dashes")
    return alias


def check_name(name: str) -> str:
    """Return a model's name; raises BadRequestError when it is none."""
    if not is_name(name):
        raise BadRequestError(f"{name!r} is no model name: use lower-case letters, digits and dashes")
    return name


def _unknown_alias(name: str, alias: str, aliases: Iterable[str]) -> NotFoundError:
    return NotFoundError(f"{name} has no alias {alias!r} (there: {', '.join(aliases) or 'none'})")


def unknown_version(where: str, name: str, version: int, versions: list[int]) -> NotFoundError:
    """Return the error that names the versions that are there."""
    known = ", ".join(map(str, versions)) or "none"
    return NotFoundError(f"{name} has no version {version} in {where} (there: {known})")


def name_mover() -> str:
    """Return ``user@host`` of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
