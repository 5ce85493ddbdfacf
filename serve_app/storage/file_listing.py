"""Which files a folder holds: one rule for event logs and for the input of jobs.

Names that begin with ``.`` or ``_`` are passed over (Spark's ``_SUCCESS``, ``.crc``), but for folders like ``_day=1``.
What else is not read is named: other endings, links that lead nowhere, and folders that a job writes to.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow.fs as pafs

from serve_app.errors import InvalidDataError, NotFoundError
from serve_app.runtime.shown_values import say_os_error
from serve_app.storage.file_names import has_suffix

JOB_MARKS: Final = ("_job", "_SUMMARY.json")
"""A folder that holds one of them is the output of a job, which is no input of the next."""
MOST_NAMED: Final = 5


@dataclass
class FileListing:
    """What lies at a place.

    Attributes
    ----------
    files : list of FileInfo
        Those to read, by path.
    left_out : list of str
        What is not read, below the place, in words.
    """

    files: list[pafs.FileInfo]
    left_out: list[str] = field(default_factory=list)


def list_files(
    system: pafs.FileSystem,
    root: str,
    suffixes: tuple[str, ...],
    *,
    shown: str = "",
    what: str = "nothing",
    is_confined: bool = False,
) -> FileListing:
    """Return the files at a place, in its subfolders too; upper and lower case of endings are the same.

    Parameters
    ----------
    system : FileSystem
    root : str
        A file, or a folder, which is read even if it is the output of a job.
    suffixes : tuple of str
        Lower case.
    shown : str
        The place as it was given, for messages; `root` unless given.
    what : str
        What there is not where there is nothing, for messages.
    is_confined : bool
        Whether links may not lead out of a folder of this machine.

    Raises
    ------
    NotFoundError, InvalidDataError
        Nothing is there, nothing with such an ending, it cannot be read, or a link leads out.
    """
    shown = shown or root
    try:
        if isinstance(system, pafs.LocalFileSystem):
            is_file, is_folder = Path(root).is_file(), Path(root).is_dir()
        else:
            kind = system.get_file_info(root).type
            is_file, is_folder = kind == pafs.FileType.File, kind == pafs.FileType.Directory
        if not (is_file or is_folder) and isinstance(system, pafs.LocalFileSystem) and Path(root).exists():
            raise InvalidDataError(f"{shown} is a device, pipe or socket: give a file, or a folder of files")
        if not (is_file or is_folder):
            raise NotFoundError(f"there is {what} at {shown}")
        if is_file and not has_suffix(root, suffixes):
            raise InvalidDataError(f"{shown} must end in one of {', '.join(suffixes)}")
        if is_file:
            return FileListing([system.get_file_info(root)])
        if isinstance(system, pafs.LocalFileSystem):
            found = _walk(system, root, suffixes, is_confined=is_confined)
        else:
            found = _select(system, root, suffixes)
    except OSError as exc:
        raise InvalidDataError(f"{shown} cannot be read: {say_os_error(exc)}") from exc
    if not found.files:
        there = f"; it holds {_name_some(found.left_out)}" if found.left_out else ""
        raise InvalidDataError(f"{shown} holds no file that ends in one of {', '.join(suffixes)}{there}")
    return FileListing(sorted(found.files, key=lambda info: info.path), sorted(found.left_out))


def describe_left_out(left_out: Iterable[str]) -> str:
    """Return what is not read, in a line; empty for nothing."""
    names = list(left_out)
    if not names:
        return ""
    verb = "1 file or folder is" if len(names) == 1 else f"{len(names):,} files or folders are"
    return f"{verb} not read: {_name_some(names)}"


def _name_some(names: list[str]) -> str:
    more = "" if len(names) <= MOST_NAMED else f" and {len(names) - MOST_NAMED:,} more"
    return ", ".join(names[:MOST_NAMED]) + more


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _walk(system: pafs.FileSystem, root: str, suffixes: tuple[str, ...], *, is_confined: bool) -> FileListing:
    """List a folder of this machine; each real file once, whatever links lead to it.

    Real folders come before links to folders, so that a loop, or a second way to a file, adds nothing.
    """
    home = Path(root).resolve()
    folders, links = deque([Path(root)]), deque[Path]()
    entered: set[Path] = set()
    files: dict[Path, str] = {}
    left_out: list[str] = []
    while folders or links:
        is_link = not folders
        folder = links.popleft() if is_link else folders.popleft()
        real = folder.resolve()
        if real in entered:
            continue
        entered.add(real)
        entries = sorted(os.scandir(folder), key=lambda e: (e.is_symlink(), e.name))
        if real != home and any(entry.name in JOB_MARKS for entry in entries):
            left_out.append(_name_output(os.path.relpath(folder, root)))
            continue
        for entry in entries:
            if _is_hidden(entry.name):
                continue
            path = Path(entry.path)
            if not (entry.is_dir() or (entry.is_file() and has_suffix(entry.name, suffixes))):
                left_out.append(os.path.relpath(path, root))
                continue
            _check_entry(entry, root, home, is_confined=is_confined)
            if entry.is_dir():
                (links if is_link or entry.is_symlink() else folders).append(path)
            else:
                files.setdefault(path.resolve(), entry.path)
    named = [os.fsencode(name).decode(errors="replace") for name in left_out]
    return FileListing(system.get_file_info(list(files.values())), named)


def _check_entry(entry: os.DirEntry[str], root: str, home: Path, *, is_confined: bool) -> None:
    if is_confined and entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(home):
        raise InvalidDataError(
            f"{entry.path} is a link to a place outside {root}, which jobs asked for over HTTP do not read: put the "
            "file itself there, or use `scorecat score`"
        )
    if not entry.name.isprintable() and any("\ud800" <= c <= "\udfff" for c in entry.name):
        shown = os.fsencode(entry.path).decode(errors="replace")
        raise InvalidDataError(f"the name of {shown} is no UTF-8: rename it")


def _select(system: pafs.FileSystem, root: str, suffixes: tuple[str, ...]) -> FileListing:
    """List a place in an object store."""
    infos = system.get_file_info(pafs.FileSelector(root, recursive=True))
    below = {info.path: info.path[len(root) :].strip("/").split("/") for info in infos}
    marked = [tuple(parts[:k]) for parts in below.values() for k, part in enumerate(parts) if k and part in JOB_MARKS]
    outputs = {parts for parts in marked if not any(map(_is_hidden, parts))}
    found = FileListing([], [_name_output("/".join(parts)) for parts in outputs])
    for info in infos:
        parts = below[info.path]
        is_output = any(tuple(parts[:k]) in outputs for k in range(1, len(parts)))
        if not info.is_file or is_output or any(map(_is_hidden, parts)):
            continue
        if has_suffix(info.path, suffixes):
            found.files.append(info)
        else:
            found.left_out.append("/".join(parts))
    return found


def _name_output(folder: str) -> str:
    return f"{folder} (a job's output)"
