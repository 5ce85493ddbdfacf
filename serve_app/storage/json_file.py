"""Files that are replaced whole: a reader sees the old or the new one."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serve_app.errors import InvariantError, NotReadyError


def replace_json(path: Path, value: Mapping[str, Any], *, is_durable: bool = False) -> None:
    """Write a JSON object in place of the one before, see `replace_bytes`."""
    replace_bytes(path, json.dumps(dict(value)).encode(), is_durable=is_durable)


def replace_bytes(path: Path, data: bytes, *, is_durable: bool = False) -> None:
    """Write a file in place of the one before; its folder must be there.

    Parameters
    ----------
    is_durable : bool
        Whether it is on the disk when this returns.

    Raises
    ------
    OSError
        It cannot be written; the one before is still there, and nothing beside it.
    """
    staged = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with staged.open("wb") as file:
            file.write(data)
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        staged.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # on a disk that cannot be written there is nothing to remove
            staged.unlink(missing_ok=True)
        raise


class ProgressFile:
    """How far a command has come: one record in one JSON file, which is there after the first `write`."""

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
