"""Bars that commands show while they work, gone when they are done."""

from __future__ import annotations

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

from serve_app.terminal.console import err


def open_progress(field: str = "", *more: ProgressColumn, auto_refresh: bool = True) -> Progress:
    """Return a bar of a task's description and counts, what a field of it says when one is named, and the time."""
    said = [TextColumn(field)] if field else []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *said, TimeElapsedColumn(), *more)
    return Progress(*columns, console=err, transient=True, auto_refresh=auto_refresh)
