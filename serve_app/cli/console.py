"""How commands talk: progress to stderr, results to stdout, one JSON object with ``--json``."""

from __future__ import annotations

import sys
import unicodedata
from typing import Annotated, Any, Final

import orjson
import typer
from rich.console import Console

err = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(highlight=False, soft_wrap=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories of what has no glyph of its own: control, direction, surrogate, unassigned, line separators."""


def clean(text: str) -> str:
    """Return a text that others wrote with what would steer a terminal escaped."""
    if text.isascii() and text.isprintable():
        return text
    unseen = {c: c.encode("unicode_escape").decode() for c in set(text) if unicodedata.category(c) in _UNSEEN}
    return "".join([unseen.get(c, c) for c in text])


def print_json(value: dict[str, Any]) -> None:
    """Write one JSON object and a newline to stdout."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode() + "\n")
