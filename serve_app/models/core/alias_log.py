"""The aliases of one model and how they came to be: one value, so that both change in one write.

``aliases.json`` holds the aliases and their last moves. When the moves become many, the oldest go to
a file of their own that is never changed, and ``archives`` names it: the file that every move
rewrites stays small and no move is ever lost.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

KEPT_MOVES: Final = 500
"""Most moves in ``aliases.json``, about 100 kB."""
ARCHIVED_MOVES: Final = 250
"""Moves that go to one archive file."""


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One accepted move of an alias.

    Attributes
    ----------
    id : str
        Unique; tells two equal moves apart.
    at : str
        ISO 8601 time in UTC.
    by : str
        Who moved it, ``user@host`` or what SCORECAT_USER says.
    alias : str
    old, new : int or None
        Version before and after; None when there was no such alias, or is none any more.
    reason : str
        Free text; may be empty.
    """

    id: str
    at: str
    by: str
    alias: str
    old: int | None
    new: int | None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the move as a JSON object; `old` and `new` are called ``from`` and ``to`` there."""
        return {
            "id": self.id, "at": self.at, "by": self.by, "alias": self.alias,
            "from": self.old, "to": self.new, "reason": self.reason,
        }  # fmt: skip

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AliasMove:
        """Read what `to_json` returned; raises ValueError, TypeError or KeyError for anything else."""
        old, new = (None if value[key] is None else int(value[key]) for key in ("from", "to"))
        move_id, at, by, alias, reason = (str(value[key]) for key in ("id", "at", "by", "alias", "reason"))
        return cls(move_id, at, by, alias, old, new, reason)


@dataclass(frozen=True, slots=True)
class AliasLog:
    """The aliases of one model with their history.

    Attributes
    ----------
    revision : int
        Grows by one with every move.
    versions : mapping of str to int
        Version by alias.
    moves : tuple of AliasMove
        The last moves, oldest first.
    archives : tuple of str
        Files with the moves before these, oldest first.
    """

    revision: int = 0
    versions: Mapping[str, int] = dataclasses.field(default_factory=dict)
    moves: tuple[AliasMove, ...] = ()
    archives: tuple[str, ...] = ()

    def record(self, move: AliasMove) -> AliasLog:
        """Return the log after a move."""
        changed = {**self.versions, move.alias: move.new}
        versions = {alias: version for alias, version in changed.items() if version is not None}
        return dataclasses.replace(self, revision=self.revision + 1, versions=versions, moves=(*self.moves, move))

    def split_archive(self) -> tuple[AliasLog, str, bytes]:
        """Return the log without its oldest moves, and name and content of the file that holds them.

        Name and content follow from the moves alone, so that writers who race write the same file.
        Name and content are empty while the moves are few.
        """
        if len(self.moves) <= KEPT_MOVES:
            return self, "", b""
        data = dump_moves(self.moves[:ARCHIVED_MOVES])
        first = self.revision - len(self.moves) + 1
        name = f"{first:08d}-{hashlib.sha256(data).hexdigest()[:12]}.json"
        kept = dataclasses.replace(self, moves=self.moves[ARCHIVED_MOVES:], archives=(*self.archives, name))
        return kept, name, data

    def dump(self) -> bytes:
        """Return the log as UTF-8 JSON."""
        value = {
            "revision": self.revision,
            "aliases": dict(self.versions),
            "history": [move.to_json() for move in self.moves],
            "archives": list(self.archives),
        }
        return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def parse_alias_log(data: bytes) -> AliasLog:
    """Parse the bytes of an ``aliases.json``; one without history is read too.

    Raises
    ------
    ValueError
        It is not what `AliasLog.dump` writes.
    """
    try:
        value = json.loads(data)
        log = AliasLog(
            int(value["revision"]),
            {str(alias): int(version) for alias, version in value["aliases"].items()},
            tuple(AliasMove.from_json(move) for move in value.get("history", ())),
            tuple(str(name) for name in value.get("archives", ())),
        )
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError, OverflowError) as exc:
        raise ValueError("it is cut, or was written by something else than scorecat") from exc
    for alias, version in {move.alias: move.new for move in log.moves}.items():
        if log.versions.get(alias) != version:
            raise ValueError(f"{alias} points at {log.versions.get(alias)}, its last move was to {version}")
    return log


def dump_moves(moves: tuple[AliasMove, ...]) -> bytes:
    """Return moves as the content of an archive file."""
    return json.dumps([move.to_json() for move in moves], ensure_ascii=False).encode() + b"\n"


def parse_moves(data: bytes) -> tuple[AliasMove, ...]:
    """Parse an archive file; raises ValueError."""
    try:
        return tuple(AliasMove.from_json(move) for move in json.loads(data))
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as exc:
        raise ValueError("it is cut, or was written by something else than scorecat") from exc
