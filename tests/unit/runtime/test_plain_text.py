"""Texts of others on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.table import Table

from serve_app.runtime.shown_values import show_line, show_lines
from serve_app.terminal.console import PlainConsole

pytestmark = pytest.mark.unit

EVIL = "a\x1b[31mb\x07c\x9b2J\u202ed\re\x00"


def test_nothing_of_a_text_is_a_command():
    assert show_line(EVIL + "\nerror: none") == (r"a\x1b[31mb\x07c\x9b2J\u202ed\re\x00\nerror: none")
    assert show_lines("a\n\tb\x1b") == "a\n\tb\\x1b"
    assert show_lines("Größe 中文 🙂") == "Größe 中文 🙂"


def test_a_line_is_cut_and_says_so():
    assert show_line("x" * 3000, 10) == "xxxxxxxxxx... (3000 characters)"


def test_what_is_printed_and_what_tables_hold_is_text_alone():
    sink = io.StringIO()
    console = PlainConsole(file=sink, force_terminal=True, soft_wrap=True, highlight=False)
    console.print(f"error: {EVIL}", style="red", markup=False)
    table = Table("name")
    table.add_row(EVIL)
    console.print(table)
    shown = sink.getvalue()
    for command in ("\x1b[31mb", "\x07", "\x9b", "\u202e", "\x00"):
        assert command not in shown
    assert r"a\x1b[31mb" in shown
