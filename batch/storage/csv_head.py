"""The first line of a CSV file: its names."""

from __future__ import annotations

import csv
from collections.abc import Collection

from batch.storage.lines import find_first_end
from serve_app.errors import InvalidDataError
from serve_app.storage.csv_headers import explain_separator


def skip_blank_lines(block: bytes) -> bytes:
    """Return CSV from its first line on that is not empty."""
    return block.lstrip(b"\r\n")


def parse_header(block: bytes, known: Collection[str]) -> list[str]:
    """Return the names in the first line of CSV; `known` are names that are right whatever marks they hold.

    Raises
    ------
    InvalidDataError
        The line is no text of such names, or another mark than a comma separates them.
    """
    first = block[: find_first_end(block)].rstrip(b"\r\n")
    try:
        line = first.decode("utf-8")
        names = next(csv.reader([line]), [])
    except (UnicodeDecodeError, csv.Error) as exc:
        why = "lines end in CR alone" if b"\r" in first else "a name is longer"
        why = "the names are no UTF-8" if isinstance(exc, UnicodeDecodeError) else why
        raise InvalidDataError(
            "cannot be read: its first line must be names of columns in UTF-8, of at most "
            f"{csv.field_size_limit():,} characters each, and lines must end in LF or CRLF; {why}"
        ) from exc
    if len(names) == 1 and names[0] not in known and (separator := explain_separator(line)):
        raise InvalidDataError(f"cannot be read: it begins with {line[:200]!r}: {separator}")
    return names
