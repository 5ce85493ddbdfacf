"""The split record as a JSON file that is replaced atomically."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serve_app.core.errors import InvariantError


class SplitFile:
    """A `serve_app.service.ports.SplitSource` on a file; reading costs one `stat` when nothing changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] = (-1, -1)
        self._record: Mapping[str, Any] | None = None

    def read(self) -> Mapping[str, Any] | None:
        """Return the record, or None when none was ever written.

        Raises
        ------
        InvariantError
            The file is not a split record.
        """
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return self._record
        seen = (stat.st_mtime_ns, stat.st_ino)
        if seen != self._seen:
            try:
                record = json.loads(self._path.read_bytes())
                self._record = {**record, "model": str(record["model"]), "stable": int(record["stable"])}
            except (ValueError, KeyError, TypeError) as exc:
                raise InvariantError(f"{self._path} is not a split record: {exc}") from exc
            self._seen = seen
        return self._record

    def write(self, record: Mapping[str, Any]) -> None:
        """Replace the record; a reader sees the old or the new one."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        staged = self._path.with_name(f".{self._path.name}-{uuid.uuid4().hex}")
        with staged.open("w", encoding="utf-8") as file:
            json.dump(dict(record), file)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(self._path)
