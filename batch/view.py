"""What a person sees of a job; the command that submits it and the job itself show the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from batch.transforms.summary import measure_rate
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
    n_now = summary["rows_this_run"]
    rows = f"read {summary['rows_read']:,} = scored {summary['rows_scored']:,} + rejected {summary['rows_rejected']:,}"
    if not n_now and summary["rows_read"]:
        what = "nothing left to do" if summary["is_complete"] else "no more rows could be scored"
        return f"{what}: {rows} · {output}"
    if n_now < summary["rows_read"]:
        rows += f", {n_now:,} of them in this run"
    times = f"{summary['seconds']:g} s"
    if rate := measure_rate(summary):
        times += f", of these {summary['scored_until'] - summary['scored_from']:.1f} s scoring, {rate:,.0f} rows/s"
    return f"{rows} · {times} · {output}"


def describe_resume(command: str) -> str:
    """Return how a job that ended early goes on, by a command."""
    return f"what is scored stays; go on with: {command}"
