"""Text of others, fit to be shown: nothing in it can move a cursor, colour a line or pretend to be one."""

from __future__ import annotations

from typing import Final

LIMIT: Final = 2_000
_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))} | {
    ord("\n"): "\\n",
    ord("\t"): "\\t",
    ord("\r"): "\\r",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
    **{code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}
_KEPT: Final = {code: text for code, text in _ESCAPES.items() if code not in {ord("\n"), ord("\t")}}


def show_line(text: str, limit: int = LIMIT) -> str:
    """Return a text as one line: control characters and what turns the direction of writing escaped, cut to `limit`."""
    cut = text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"
    return cut.translate(_ESCAPES)


def show_lines(text: str) -> str:
    """Return a text with its line breaks, everything else as `show_line` shows it, uncut."""
    return text.translate(_KEPT)
