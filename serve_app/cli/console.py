"""How commands talk: progress to stderr, results to stdout, one JSON object with ``--json``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import orjson
import typer
from rich.console import Console
from rich.text import Text

from serve_app.core.plain_text import show_line, show_lines


class PlainConsole(Console):
    """A console on which the texts of others, from files or over the network, are nothing but text."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as rich text, its control characters escaped."""
        return super().render_str(show_lines(text), **options)


err = PlainConsole(stderr=True, highlight=False, soft_wrap=True)
out = PlainConsole(highlight=False, soft_wrap=True)

LINE_S: Final = 10.0
"""Where no terminal is, progress is a line this often."""


class Lines:
    """Progress for where no terminal shows a bar."""

    def __init__(self) -> None:
        self._last_s = time.monotonic()

    def show(self, describe: Callable[[], str]) -> None:
        """Write what `describe` returns to stderr, when the last line is long ago."""
        now_s = time.monotonic()
        if not err.is_terminal and now_s - self._last_s >= LINE_S:
            self._last_s = now_s
            err.print(describe(), markup=False)


JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


def print_page(page: str) -> None:
    """Print Markdown for a reader at a terminal, and as it is elsewhere: nothing is cut to a width there."""
    if out.is_terminal:
        from rich.markdown import Markdown

        out.print(Markdown(page))
    else:
        out.print(page, markup=False)


def print_json(value: dict[str, Any]) -> None:
    """Write one JSON object and a newline to stdout."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode() + "\n")


def print_aligned(rows: Sequence[Sequence[str]], indent: str = "  ") -> None:
    """Print columns two blanks apart; lines are never wrapped, so that they can be searched and cut."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        out.print(show_line(f"{indent}{line}".rstrip()), markup=False)
