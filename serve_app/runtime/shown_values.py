"""How values and texts of others are shown: short, on one line, with nothing in them that steers a terminal."""

from __future__ import annotations

import math
import os
import reprlib
import unicodedata
from typing import Any, Final

MAX_CHARACTERS: Final = 60
LIMIT: Final = 2_000
"""Characters of a text of others that are shown at most where a page or file shows them."""

_SHORT: Final = reprlib.Repr()
_SHORT.maxlevel = 2
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 4
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = MAX_CHARACTERS


def show(value: Any) -> str:
    """Return a value in 60 characters at most, however large or deeply nested it is."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 4 * MAX_CHARACTERS:
        return f"a whole number of {value.bit_length():,} bits"  # its digits may be more than Python likes to write
    text = _SHORT.repr(value)
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"


def say_os_error(exc: OSError) -> str:
    """Return an error of the system in words, without its number or a path that the caller names anyway."""
    return os.strerror(exc.errno).lower() if exc.errno else str(exc)


def is_number(value: Any) -> bool:
    """Return whether a value is a number that a float can hold; booleans are none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories of what has no glyph of its own: control, direction, surrogate, unassigned, line separators."""


def show_line(text: str, limit: int | None = None) -> str:
    """Return a text as one line: what would steer a terminal or break the line is escaped; cut to `limit`."""
    if limit is not None and len(text) > limit:
        text = f"{text[:limit]}... ({len(text)} characters)"
    return _escape(text, "")


def show_lines(text: str) -> str:
    """Return a text with its line breaks and tabs, everything else as `show_line` shows it."""
    return _escape(text, "\n\t")


def _escape(text: str, kept: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    unseen = {c: c.encode("unicode_escape").decode() for c in set(text) if unicodedata.category(c) in _UNSEEN}
    return "".join([c if c in kept else unseen.get(c, c) for c in text])
