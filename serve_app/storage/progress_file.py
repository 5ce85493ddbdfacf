"""A small JSON record of how far a command has come, replaced atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serve_app.errors import InvariantError, NotReadyError
from serve_app.storage.json_file import replace_json


class ProgressFile:
    """One record in one file; it is there after the first `write`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Any] | None:
        """Return the record, or None when there is none.

        Raises
        ------
        InvariantError
            The file holds something else.
        """
        try:
            record = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise InvariantError(f"{self.path} is no record of progress: remove it to begin again")
        return record

    def write(self, record: Mapping[str, Any]) -> None:
        """Replace the record; whoever reads sees the old or the new one.

        Raises
        ------
        NotReadyError
            It cannot be written now.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_json(self.path, record)
        except OSError as exc:
            raise NotReadyError(f"the progress cannot be written to {self.path}: {exc.strerror}") from exc
