"""What a command says of an error that nothing below it put into words."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from serve_app.errors import BadRequestError, InvariantError, NotReadyError, ScorecatError
from serve_app.settings import load_settings

LOG: Final = "commands.log"
LOG_BYTES: Final = 1_000_000
"""A log that is longer is begun anew."""

_REFUSED: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""What the system says when files cannot be written, which no mistake of ours causes."""

_WRONG_PATH: Final = {
    errno.ENOENT: "is not there: is it spelt right, and is its folder there?",
    errno.ENOTDIR: "cannot be reached: a part of the path is a file, not a folder",
    errno.EISDIR: "is a folder: name a file in it",
    errno.EEXIST: "is there already: move it away, or choose another name",
    errno.ENOTEMPTY: "is a folder that is not empty: move it away, or choose another name",
    errno.ELOOP: "is a link that leads back to itself: remove it, or name the file that it should lead to",
    errno.ENAMETOOLONG: "is too long: a name may have 255 bytes and a path 4,096; choose a shorter one",
    errno.ENXIO: "is a socket or a device: name a file",
    errno.ENODEV: "is a device: name a file",
    errno.ESPIPE: "is a pipe or a device, which is read only once, from its beginning: name a file",
    errno.EINVAL: "is nothing that can be used as a file here: name an ordinary file",
    errno.EACCES: "may not be read or written by this user: change its rights, or use a place of yours",
    errno.EPERM: "may not be read or written by this user: change its rights, or use a place of yours",
}
_EXHAUSTED: Final = {
    errno.EMFILE: "too many files are open in one process: raise the limit (`ulimit -n 65536`) and try again",
    errno.ENFILE: "too many files are open on this machine: end what holds them, and try again",
    errno.ENOMEM: "the memory does not suffice: free some, and try again",
    errno.EAGAIN: "the system is at a limit (of processes, say): free some, and try again",
    errno.EIO: "the disk fails to read or to write: the system's log (`dmesg`) says more",
}


def explain(error: Exception) -> ScorecatError:
    """Return the error in words; one whose cause is not known is kept whole in a log, which the words name."""
    if isinstance(error, ScorecatError):
        return error
    if isinstance(error, MemoryError):
        return NotReadyError("the memory does not suffice: free some, or give a smaller input")
    if isinstance(error, OSError) and (known := _explain_refusal(error)) is not None:
        return known
    if isinstance(error, UnicodeEncodeError):
        return BadRequestError(
            "a name or text that was given holds bytes that are no UTF-8: rename the file, or write it in plain letters"
        )
    return InvariantError(
        "scorecat met an error that it has no words for, and stopped; what was done before stays. Check that the "
        f"files and addresses you named are what the command's --help asks for. {_keep(error)}"
    )


def _explain_refusal(error: OSError) -> ScorecatError | None:
    """Return what the system refused, or None when the number says too little."""
    number = error.errno or 0
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else ""
    if number in _REFUSED:
        then = ". Nothing was registered or changed" if where else ": free space there; what was done before stays"
        return InvariantError(f"cannot write {where}".rstrip() + f": {os.strerror(number)}{then}")
    if number in _EXHAUSTED:
        return NotReadyError(f"{where}: {_EXHAUSTED[number]}".removeprefix(": "))
    if number in _WRONG_PATH and where:
        return BadRequestError(f"{where} {_WRONG_PATH[number]}")
    return None


def _keep(error: Exception) -> str:
    """Write the traceback to the log and return where it is."""
    told = "".join(traceback.format_exception(error))
    entry = f"{datetime.now(UTC).isoformat(timespec='seconds')} scorecat {_name_command()}\n{told}\n"
    for find in (_open_log, _open_own):
        try:
            path = find()
            is_full = path.exists() and path.stat().st_size > LOG_BYTES
            with path.open("w" if is_full else "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(entry)
        except (OSError, ScorecatError):
            continue
        return f"What happened is kept in {path}: send that with your report"
    return "What happened could not be kept: neither the state folder nor the folder for temporary files can be written"


def _open_log() -> Path:
    path = load_settings().log_dir / LOG
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _open_own() -> Path:
    number, name = tempfile.mkstemp(prefix="scorecat-", suffix=".log")
    os.close(number)
    return Path(name)


def _name_command() -> str:
    """Return the words before the first option or path: arguments may hold what belongs in no log, ids of users say."""
    words = []
    for word in sys.argv[1:3]:
        if not word.isalpha():
            break
        words.append(word)
    return " ".join(words)
