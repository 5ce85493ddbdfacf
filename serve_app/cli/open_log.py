"""Open the event log that a command was given, and say what of it is not read."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from serve_app.errors import InvalidDataError
from serve_app.events.adapters.log_files import EventLog
from serve_app.models.adapters.package_dir import hash_file
from serve_app.storage.file_listing import describe_left_out
from serve_app.terminal.console import err


def open_log(path: Path) -> EventLog:
    """Return the log; files of its folder that are not read, and columns it lacks, are named on stderr."""
    log = EventLog(path)
    if log.left_out:
        err.print(describe_left_out(log.left_out), markup=False)
    with suppress(InvalidDataError):  # a log that is none is refused where it is read, after what is checked before
        if log.absent:
            err.print(f"no column {', '.join(log.absent)} in {path}: every event has none", markup=False)
    return log


def hash_lines(log: EventLog, file: Path) -> str:
    """Return a digest of what a file of a log says: its content, and the columns that its folders give."""
    digest, given = hash_file(file), log.partitions(file)
    return hashlib.sha256((digest + json.dumps(given)).encode()).hexdigest() if given else digest
