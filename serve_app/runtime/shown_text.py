"""Text of others, fit to be shown: nothing in it can move a cursor, colour a line or pretend to be one."""

from __future__ import annotations

import unicodedata
from typing import Final

LIMIT: Final = 2_000
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
