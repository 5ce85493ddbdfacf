"""What a person sees of a job; the command that submits it and the job itself show the same."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

from batch.transforms.summary import measure_rate, measure_span_s
from serve_app.errors import BadRequestError
from serve_app.jobs.core.commits import NOT_REACHED
from serve_app.jobs.core.progress import Progress
from serve_app.settings import PREFIX
from serve_app.terminal.console import Lines, err

PROGRAM: Final = "scorecat"
MOST_REASONS: Final = 5
WIDE: Final = 110
"""Columns of a terminal that has room for a bar beside the numbers."""


def make_absolute(location: str) -> str:
    """Return a place that means the same in another process; raises BadRequestError for an empty one."""
    if not location:
        raise BadRequestError("name a file or folder")
    return location if "://" in location else str(Path(location).absolute())


@contextmanager
def open_progress() -> Iterator[Callable[[Progress], None]]:
    """Give a function that shows how far a job is: in a bar on a terminal, in a line now and then elsewhere."""
    decoration = (TextColumn("scoring"), BarColumn()) if err.width >= WIDE else ()
    columns = (*decoration, TaskProgressColumn(), TextColumn("{task.fields[text]}"))
    lines = Lines()
    with Bar(*columns, console=err, transient=True, disable=not err.is_terminal, auto_refresh=False) as bar:
        task = bar.add_task("", total=1.0, text="starting")

        def show(done: Progress) -> None:
            bar.update(task, completed=done.share, text=done.describe(with_share=False), refresh=True)
            lines.show(done.describe)

        yield show


def describe_summary(summary: Mapping[str, Any], output: str) -> str:
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
        times += f", of these {measure_span_s(summary):.1f} s scoring, {rate:,.0f} rows/s"
    return f"{rows} · {times} · {output}"


def explain_units(summary: Mapping[str, Any]) -> list[str]:
    """Return the files that were set aside, and the units that were given up, in a line each."""
    given_up = [one for one in summary.get("missing", ()) if one["reason"] != NOT_REACHED]
    return [
        *(f"set aside: {one['path']}: {one['reason']}" for one in summary.get("set_aside", ())),
        *(f"unit {one['unit']} ({one['path']}) was given up: {one['reason']}" for one in given_up),
    ]


def explain_summary(summary: Mapping[str, Any], go_on: str) -> list[str]:
    """Return what is to be said of a job that came to its end, beside `describe_summary`, in lines."""
    reasons = [f"{reason} ({n_rows:,})" for reason, n_rows in summary.get("rejected_by_reason", {}).items()]
    more = f" · {len(reasons) - MOST_REASONS} more" if len(reasons) > MOST_REASONS else ""
    lines = [f"rejected: {' · '.join(reasons[:MOST_REASONS])}{more}"] if reasons else []
    if members := summary.get("members_not_read"):
        lines.append(f"members that the first lines of their files lack are not read: {', '.join(members)}")
    if not summary["is_complete"]:
        lines += [f"set aside: {one['path']}: {one['reason']}" for one in summary["set_aside"]]
        lines += [f"missing: unit {one['unit']} of {one['path']}: {one['reason']}" for one in summary["missing"]]
        lines.append(f"not complete; mend the input or wait, then: {go_on}")
    return lines


def name_program() -> str:
    """Return how a shell calls ``scorecat`` as this process was called, whatever its PATH, for the same service."""
    typed = sys.argv[0] if Path(sys.argv[0]).name == PROGRAM else str(Path(sys.executable).with_name(PROGRAM))
    found = shutil.which(PROGRAM)
    is_on_path = found is not None and Path(found).resolve() == Path(typed).resolve()
    name = PROGRAM if is_on_path or not Path(typed).exists() else shlex.quote(typed)
    home = os.environ.get(f"{PREFIX}HOME")
    return f"{PREFIX}HOME={shlex.quote(home)} {name}" if home else name


def describe_resume(command: str) -> str:
    """Return how a job that ended early goes on, by a command."""
    return f"what is scored stays; go on with: {command}"


def explain_absence(model: str, version: int, apps: Iterable[str]) -> str:
    """Return why a job cannot begin with a version's own replicas, and the two ways out; nothing when it can.

    Parameters
    ----------
    model, version : str, int
        What is to score.
    apps : iterable of str
        Names of the Serve applications that can answer.
    """
    prefix = f"{model}-v"
    numbers = (app.removeprefix(prefix) for app in apps if app.startswith(prefix))
    there = sorted(int(number) for number in numbers if number.isdecimal())
    if version in there:
        return ""
    named = f"deployed of it: {', '.join(f'version {v}' for v in there)}" if there else "no version of it is"
    ways = [f"score with --model {model}@{there[-1]}"] if there else []
    ways.append("let the job bring its own replicas with --pool dedicated")
    return f"{model} version {version} is not deployed ({named}), nothing was scored: {', or '.join(ways)}"
