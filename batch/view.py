"""What a person sees of a job; the command that submits it and the job itself show the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from serve_app.core.errors import BadRequestError


def make_absolute(location: str) -> str:
    """Return a place that means the same in another process; raises BadRequestError for an empty one."""
    if not location:
        raise BadRequestError("name a file or folder")
    return location if "://" in location else str(Path(location).absolute())


@contextmanager
def open_bar(console: Console) -> Iterator[tuple[Progress, TaskID]]:
    """Give a progress bar, which shows nothing where there is no terminal; ``completed`` is a share, 0-1."""
    columns = (TextColumn("scoring"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[text]}"))
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal, auto_refresh=False
    ) as bar:
        yield bar, bar.add_task("", total=1.0, text="starting")


def describe_summary(summary: dict[str, Any], output: str) -> str:
    """Return what a job did, in a line."""
    rate = summary["rows_read"] / max(summary["seconds"], 1e-9)
    return (
        f"read {summary['rows_read']:,} = scored {summary['rows_scored']:,} + rejected "
        f"{summary['rows_rejected']:,} · {summary['seconds']:g} s · {rate:,.0f} rows/s · {output}"
    )


def describe_resume(command: str) -> str:
    """Return how a job that ended early goes on, by a command."""
    return f"what is scored stays; go on with: {command}"
