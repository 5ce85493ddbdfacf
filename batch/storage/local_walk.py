"""Files below a folder of this machine: each real file once, whatever links lead to it."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

from serve_app.core.errors import InvalidDataError


def list_local(root: str, suffixes: tuple[str, ...], *, is_confined: bool) -> list[str]:
    """Return the files of these suffixes; names that begin with ``_`` or ``.`` are passed over.

    Real folders come before links to folders, so that a loop, or a second way to a file, adds nothing.

    Parameters
    ----------
    root : str
    suffixes : tuple of str
    is_confined : bool
        Whether nothing outside `root` may be read.

    Raises
    ------
    InvalidDataError
        A link leads out of `root` and it is confined.
    """
    home = Path(root).resolve()
    folders, links = deque([Path(root)]), deque[Path]()
    entered: set[Path] = set()
    files: dict[Path, str] = {}
    while folders or links:
        is_link = not folders
        folder = links.popleft() if is_link else folders.popleft()
        real = folder.resolve()
        if real in entered:
            continue
        entered.add(real)
        for entry in sorted(os.scandir(folder), key=lambda e: (e.is_symlink(), e.name)):
            path = Path(entry.path)
            if entry.name.startswith(("_", ".")) or not (entry.is_dir() or entry.name.endswith(suffixes)):
                continue
            if is_confined and entry.is_symlink() and not path.resolve().is_relative_to(home):
                raise InvalidDataError(
                    f"{path} is a link to a place outside {root}, which jobs asked for over HTTP do not read: put the "
                    "file itself there, or use `scorecat score`"
                )
            if entry.is_dir():
                (links if is_link or entry.is_symlink() else folders).append(path)
            elif entry.is_file():
                files.setdefault(path.resolve(), entry.path)
    return sorted(files.values())
