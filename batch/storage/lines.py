"""Text in blocks of whole records, and the first line of CSV: there a line break inside quotes ends none."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator
from typing import Final

import numpy as np
import pyarrow.fs as pafs
from numpy.typing import NDArray

from serve_app.errors import InvalidDataError
from serve_app.storage.csv_headers import explain_separator

MAX_RECORD_BYTES: Final = 64 << 20
"""A longer record is a quote that was never closed, or no table: the rest of the file is not held in memory for it."""
_BOM: Final = b"\xef\xbb\xbf"
_QUOTE, _COMMA, _LF, _CR = b'",\n\r'
_QUOTED: Final = re.compile(rb'(?<![^,\r\n])"(?:[^"]++|"")*+("?)')
"""A quoted value, as Arrow reads them: it begins with its field; two quotes in it are one of its characters."""


def read_blocks(system: pafs.FileSystem, path: str, n_bytes: int, *, is_csv: bool) -> Iterator[tuple[bytes, bool]]:
    """Yield the file in blocks that end with a record, and whether the block is whole.

    It is not when it is the file's last record and a quote is open at its end.

    Raises
    ------
    InvalidDataError
        A record is longer than `MAX_RECORD_BYTES`.
    """
    rest, at = b"", 0
    with system.open_input_stream(path, compression="gzip" if path.lower().endswith(".gz") else None) as stream:
        is_first = True
        while data := stream.read(n_bytes):
            data = rest + (data.removeprefix(_BOM) if is_first else data)
            is_first = False
            end = _find_last_end(data, is_csv=is_csv)
            rest = data[end:]
            if end:
                yield data[:end], True
            at += end
            if len(rest) > MAX_RECORD_BYTES:
                what = "a quote that is not closed" if is_csv and _find_quotes(rest).size % 2 else "no line break"
                raise InvalidDataError(f"cannot be read from byte {at:,} on: {what} within {MAX_RECORD_BYTES:,} bytes")
    if rest:
        yield rest, not is_csv or _find_quotes(rest).size % 2 == 0


def find_record_ends(lines: bytes) -> NDArray[np.int64]:
    """Return where each record of CSV ends, after its line break; the last is the end of the lines."""
    breaks = np.flatnonzero(np.frombuffer(lines, np.uint8) == _LF)
    ends = breaks[np.searchsorted(_find_quotes(lines), breaks) % 2 == 0] + 1
    return ends if ends.size and ends[-1] == len(lines) else np.append(ends, len(lines))


def find_first_end(lines: bytes) -> int:
    """Return where the first record of CSV ends."""
    at = lines.find(b"\n")
    if at >= 0 and b'"' in lines[:at]:
        return int(find_record_ends(lines)[0])
    return at + 1 or len(lines)


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


def _find_last_end(data: bytes, *, is_csv: bool) -> int:
    end = data.rfind(b"\n")
    if is_csv and end >= 0:
        quotes = _find_quotes(data)
        while end >= 0 and (n_before := int(np.searchsorted(quotes, end))) % 2:
            end = data.rfind(b"\n", 0, int(quotes[n_before - 1]))
    return end + 1


def _find_quotes(data: bytes) -> NDArray[np.int64]:
    """Return the places of quotes that open and close values, in turn, in data that begins with a record.

    Those in a value come in pairs and keep the turn. Those within a field that began without one are characters: where
    such are, the values are looked up one by one, at a tenth of the speed.
    """
    if b'"' not in data:
        return np.empty(0, np.int64)
    view = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(view == _QUOTE)
    opening = quotes[::2]
    before = view[opening - 1]
    is_fine = (before == _COMMA) | (before == _LF) | (before == _CR) | (before == _QUOTE)
    is_fine[0] |= opening[0] == 0
    if is_fine.all():
        return quotes
    first = int(np.argmin(is_fine))
    found = quotes[: 2 * first].tolist()
    for value in _QUOTED.finditer(data, int(opening[first])):
        found.append(value.start())
        if value[1]:
            found.append(value.end() - 1)
    return np.array(found, dtype=np.int64)
