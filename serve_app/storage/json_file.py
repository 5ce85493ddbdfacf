"""A JSON file that is replaced whole: a reader sees the old or the new one."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def replace_json(path: Path, value: Mapping[str, Any], *, is_durable: bool = False) -> None:
    """Write a JSON object in place of the one before; its folder must be there.

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
        with staged.open("w", encoding="utf-8") as file:
            json.dump(dict(value), file)
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
