"""How commands talk: progress to stderr, results to stdout, one JSON object with ``--json``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import orjson
import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from serve_app.runtime.shown_values import show_line, show_lines
from serve_app.terminal.columns import GAP, align, fold, measure, name_cells

_WELL: Final = ("healthy", "running", "serving", "succeeded", "ready", "pass", "no harm")
_WAIT: Final = (
    *("starting", "updating", "upscaling", "downscaling", "queued", "pending", "deploying", "progressing"),
    *("promoting", "paused", "incomplete", "inconclusive", "not started", "not measured"),
)
_ILL: Final = ("unhealthy", "deploy_failed", "failed", "died", "not ready", "rolled back", "fail", "error")


def choose_style(state: str) -> str:
    """Return the style of a state by the words it begins with; none for what is neither well nor ill."""
    said = state.lower()
    for style, words in (("red", _ILL), ("yellow", _WAIT), ("green", _WELL)):
        if said.startswith(words):
            return style
    return ""


class PlainConsole(Console):
    """A console on which the texts of others, from files or over the network, are nothing but text.

    A terminal gets lines of its width, broken between words and nowhere else; a file or pipe gets them as they are,
    so that they can be searched and cut.
    """

    def print(self, *objects: Any, soft_wrap: bool | None = None, **options: Any) -> None:
        """Print; with `soft_wrap` no line is broken, which is for commands that are to be pasted."""
        if soft_wrap is None and self.is_terminal:
            super().print(*objects, soft_wrap=False, **options)
        else:
            super().print(*objects, soft_wrap=True, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as rich text, its control characters escaped."""
        return super().render_str(show_lines(text), **options)


err = PlainConsole(stderr=True, highlight=False)
out = PlainConsole(highlight=False)

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
        from rich.markdown import Markdown  # noqa: PLC0415 - heavy, and for few commands

        out.print(Markdown(page))
    else:
        out.print(page, markup=False)


def print_json(value: dict[str, Any]) -> None:
    """Write one JSON object and a newline to stdout."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode() + "\n")


def print_result(value: dict[str, Any], show: Callable[[dict[str, Any]], None], *, as_json: bool) -> None:
    """Print what a command found: as JSON, or as `show` does for a reader."""
    if as_json:
        print_json(value)
    else:
        show(value)


def print_aligned(
    rows: Sequence[Sequence[str]], indent: str = "  ", *, state: int | None = None, n_below: int = 0
) -> None:
    """Print columns two blanks apart, the first row being their names.

    A terminal that is too narrow gets cells of several lines, broken between words; elsewhere lines are never
    wrapped, so that they can be searched and cut.

    Parameters
    ----------
    rows : sequence of rows of str
    indent : str
        Begins each line.
    state : int, optional
        Column whose cells are coloured by health.
    n_below : int
        Last columns that a terminal that is too narrow gets below the others, with their names.
    """
    rows = [[show_line(text) for text in row] for row in rows]
    width = out.width - len(indent)
    if not out.is_terminal or measure(rows) <= width:
        lines, below = [[row] for row in align(rows)], [""] * len(rows)
    else:
        kept = len(rows[0]) - n_below
        lines = fold([row[:kept] for row in rows], width)
        below = ["", *(name_cells(rows[0][kept:], row[kept:], width - len(indent) - GAP) for row in rows[1:])]
    for row, folded, more in zip(rows, lines, below, strict=True):
        style = "" if state is None or row is rows[0] else choose_style(row[state])
        for cells in folded:
            line = Text(indent)
            for k, cell in enumerate(cells):
                line.append(cell, style if k == state else "").append(" " * GAP)
            line.rstrip()
            out.print(line, soft_wrap=True)
        if more:
            out.print(Padding(Text(more), (0, 0, 0, len(indent) + GAP)), style="dim")
