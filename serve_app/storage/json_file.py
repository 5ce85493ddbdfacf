"""Files that are replaced whole: a reader sees the old or the new one."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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
