"""``scorecat data``: generate an event log, or describe one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from serve_app.cli.open_log import open_log
from serve_app.cli.options import LogArgument
from serve_app.errors import BadRequestError, ConflictError
from serve_app.events.adapters.log_writer import LogWriter
from serve_app.events.adapters.spill import EventSpill
from serve_app.events.service.describe import Description, Figure, describe_log
from serve_app.events.service.synthetic import generate_events
from serve_app.terminal.console import JsonOption, err, out, print_json
from serve_app.terminal.progress import open_progress


def generate(
    output: Annotated[Path, typer.Argument(help="File to write: .parquet, .csv or .csv.gz.")],
    events: Annotated[int, typer.Option(min=1, help="Number of events.")] = 1_000_000,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds and sizes give equal logs.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write an invented event log that looks like the published one, in its nine columns."""
    if output.exists() and not force:
        raise ConflictError(f"{output} exists: choose another name, or --force")
    start = time.perf_counter()
    try:
        with LogWriter(output) as writer, open_progress() as progress:
            task = progress.add_task("events", total=events)
            for batch in generate_events(events, seed=seed):
                writer.write(batch)
                progress.update(task, advance=batch.num_rows)
    except OSError as exc:
        raise BadRequestError(f"{output} cannot be written: {exc.strerror or exc}") from exc
    seconds = time.perf_counter() - start
    result = {
        "path": str(output),
        "n_events": writer.n_rows,
        "seed": seed,
        "n_bytes": output.stat().st_size,
        "seconds": round(seconds, 3),
        "events_per_second": round(writer.n_rows / seconds),
    }
    if as_json:
        print_json(result)
        return
    out.print(
        f"{output}: {writer.n_rows:,} events, {output.stat().st_size / 1e6:.1f} MB, {seconds:.1f} s "
        f"({writer.n_rows / seconds:,.0f} events/s)",
        markup=False,
    )


def describe(
    events: LogArgument,
    as_json: JsonOption = False,
) -> None:
    """Print the figures of an event log beside the published figures, with the difference."""
    log = open_log(events)
    with err.status("reading events"), EventSpill() as spill:
        description = describe_log(log, spill)
    if as_json:
        print_json(description.to_json())
        return
    _print(events, description)


def _print(path: Path, description: Description) -> None:
    summary = description.summary
    out.print(
        f"{path}: {summary.n_lines:,} lines, {summary.n_events:,} events, {description.n_users:,} users, "
        f"{description.n_sessions:,} sessions",
        markup=False,
    )
    for reason, count in sorted(summary.dropped.items()):
        out.print(f"  dropped {count:,}: {reason}", markup=False)
    table = Table("figure", "this log", "published", "difference", "", box=None)
    for column in table.columns[1:4]:
        column.justify = "right"
    for figure in description.figures:
        difference = "" if figure.difference is None else f"{figure.difference:+.1%}"
        mark = "" if figure.is_close else "differs"
        table.add_row(figure.name, _text(figure, figure.found), _text(figure, figure.published), difference, mark)
    out.print(table)
    n_close = sum(figure.is_close for figure in description.figures)
    out.print(
        f"{n_close} of {len(description.figures)} figures are close: shares within 10 % or one point, "
        "other values within 15 %"
    )


def _text(figure: Figure, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2%}" if figure.unit == "share" else f"{value:,.2f}"
