"""What is wrong with a CSV log, in the words and the line numbers of whoever opens it in an editor.

Logs are read by Arrow, which tells neither; these functions read the file once more, and only when that failed.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TextIO

from serve_app.errors import InvalidDataError
from serve_app.features.core.row_keys import PUBLISHED_COLUMNS
from serve_app.storage.csv_headers import explain_separator

NULLS: Final = ("", "NULL", "null")
"""What stands for nothing in a CSV log."""
_EMPTY_GZIP: Final = 512
"""Bytes of a compressed file of nothing: 20, and the name it had."""
_SHOWN: Final = 200


def is_gzip(file: Path) -> bool:
    """Return whether a file is compressed, by its name."""
    return file.name.lower().endswith(".gz")


def is_empty(file: Path) -> bool:
    """Return whether a file has no bytes, compressed or not: jobs leave such parts for what had no lines."""
    size = file.stat().st_size
    if not is_gzip(file) or not 0 < size <= _EMPTY_GZIP:
        return not size
    try:
        with gzip.open(file) as stream:
            return not stream.read(1)
    except (EOFError, OSError, zlib.error):
        return False


def read_header(file: Path) -> list[str]:
    """Return the names in the first line; raises InvalidDataError when it is no text, or there is none."""
    try:
        with _open(file, "strict") as stream:
            header = next(csv.reader(stream), [])
    except (UnicodeDecodeError, csv.Error) as exc:
        raise InvalidDataError(f"{file} is not a CSV file in UTF-8: save it as one") from exc
    if not header:
        raise InvalidDataError(f"{file} is empty" if not file.stat().st_size else f"{file} begins with an empty line")
    return header


def explain_header(header: Sequence[str], missing: Sequence[str]) -> str:
    """Return what the names of a file are that lacks columns of a log, and what to do."""
    line = ",".join(header)
    shown = f"it begins with {line[:_SHOWN]!r}{' and so on' if len(line) > _SHOWN else ''}"
    if line.lower().startswith("sep="):
        return f"{shown}, which only spreadsheets read: delete that line"
    if separator := explain_separator(line):
        return f"{shown}: {separator}"
    if set(missing) <= {name.strip().lower() for name in header}:
        return f"{shown}: write the names in lower case and without blanks around them"
    return f"{shown}; an event log has the columns {','.join(PUBLISHED_COLUMNS)}"


def find_fault(file: Path) -> str:
    """Return which line Arrow cannot have read, and why; empty when nothing is found."""
    width, price = 0, -1
    fault = ""
    try:
        for line, record in _records(file):
            if fault:  # a line with other columns, and not the last one
                return fault
            if not width:
                width, price = len(record), record.index("price") if "price" in record else -1
            elif len(record) != width:
                n = f"{len(record)} value{'s' if len(record) > 1 else ''}"
                fault = f"line {line} has {n}, the first line names {width}"
            elif any("\udc80" <= mark <= "\udcff" for value in record for mark in value):
                return f"line {line} is not UTF-8: save the file as UTF-8"
            elif price >= 0 and not _is_number(record[price]):
                return f"line {line}: price must be a number like 12.50 or empty, got {record[price][:40]!r}"
    except (csv.Error, EOFError, OSError, ValueError):
        return ""
    return f"is cut in the middle of its last line: {fault}" if fault else ""


def find_line(file: Path, row: int) -> int:
    """Return the line of the file, from 1, in which a row of the log begins, from 0; quoted line breaks count."""
    return next((line for n, (line, _) in enumerate(_records(file)) if n == row + 1), row + 2)


def _records(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield every record with the line it begins in, empty lines left out as Arrow does."""
    with _open(file, "surrogateescape") as stream:
        reader = csv.reader(stream)
        line = 1
        for record in reader:
            if record:
                yield line, record
            line = reader.line_num + 1


def _open(file: Path, errors: str) -> TextIO:
    if is_gzip(file):
        return gzip.open(file, "rt", encoding="utf-8-sig", errors=errors, newline="")
    return file.open("rt", encoding="utf-8-sig", errors=errors, newline="")


def _is_number(text: str) -> bool:
    if text in NULLS:
        return True
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # which Python reads, and Arrow does not
