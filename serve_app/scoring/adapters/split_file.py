"""The split record as a JSON file that is replaced atomically."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serve_app.errors import InvariantError
from serve_app.storage.disk_reserve import DiskReserve
from serve_app.storage.json_file import replace_json


class SplitFile:
    """A `serve_app.models.service.ports.SplitSource` on a file; reading costs one `stat` when nothing changed.

    Parameters
    ----------
    path : Path
    reserve : DiskReserve or None
        Given up when the disk is full.
    """

    def __init__(self, path: Path, reserve: DiskReserve | None = None) -> None:
        self._path = path
        self._reserve = reserve
        self._seen: tuple[int, int, int] = (-1, -1, -1)
        self._record: Mapping[str, Any] | None = None

    def read(self) -> Mapping[str, Any] | None:
        """Return the record, or None when there is no file.

        Raises
        ------
        InvariantError
            The file cannot be read, or is not a split record.
        """
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise InvariantError(f"{self._path} cannot be read: {exc.strerror}") from exc
        seen = (stat.st_ctime_ns, stat.st_ino, stat.st_size)
        if seen != self._seen:
            try:
                record = json.loads(self._path.read_bytes())
                self._record = {**record, "model": str(record["model"]), "stable": int(record["stable"])}
            except Exception as exc:  # whatever is wrong with it (no JSON, too deep, no number), it is damaged
                raise InvariantError(f"{self._path} is not a split record: {str(exc)[:200]}") from exc
            self._seen = seen
        return self._record

    def write(self, record: Mapping[str, Any]) -> None:
        """Replace the record; a reader sees the old or the new one.

        Raises
        ------
        OSError
            It cannot be written, and the one before is still there.
        """
        try:
            self._replace(record)
        except OSError as exc:
            if self._reserve is None or exc.errno != errno.ENOSPC or not self._reserve.release():
                raise
            self._replace(record)

    def _replace(self, record: Mapping[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        replace_json(self._path, record, is_durable=True)
