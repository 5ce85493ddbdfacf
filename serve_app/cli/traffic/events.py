"""``scorecat events``: shop history in bulk."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from serve_app.cli.open_log import hash_lines, open_log
from serve_app.cli.options import LogArgument, UrlOption
from serve_app.cli.traffic.replay import check_present
from serve_app.client.clients import Client
from serve_app.client.events import STATUSES
from serve_app.client.logs.event_load import EventLoad, EventLoadReport
from serve_app.client.logs.log_events import split_log
from serve_app.cluster.running import read_url
from serve_app.errors import ScorecatError
from serve_app.events.adapters.log_files import EventLog
from serve_app.events.core.event_rows import drop_unsendable
from serve_app.settings import load_settings
from serve_app.storage.json_file import ProgressFile
from serve_app.terminal.console import JsonOption, Lines, err, out, print_json

TIMEOUT_S: Final = 60.0
RETRIES: Final = 12
"""A lost replica takes up to 10 s to come back: events wait for it."""


def load(
    file: LogArgument,
    url: UrlOption = None,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Events a second, at most.")] = None,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Send what an earlier load sent, too; known events count once.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Send every event of a log to the service; the same command goes on where an earlier one stopped.

    Exit code 1 when an event was refused (past retention, say) or contradicts one that is stored; lines that
    are no events (price 0, say) are counted apart.
    """
    settings = load_settings()
    log = open_log(file)
    url = url or read_url(settings)
    check_present(url)
    report = EventLoadReport()
    folder = settings.home / "loads"
    try:
        with Client(url, TIMEOUT_S, RETRIES) as client:
            _send(client, url, log, folder, report, rate=rate, from_start=from_start)
    except KeyboardInterrupt:
        _print(report, as_json=as_json)
        err.print("interrupted: the same command goes on where this one stopped")
        raise typer.Exit(130) from None
    except ScorecatError:
        if report.n_events:
            err.print(f"{report.n_events:,} lines were sent; the same command goes on from there", markup=False)
        raise
    _print(report, as_json=as_json)
    if not report.is_whole:
        raise typer.Exit(1)


def _send(
    client: Client,
    url: str,
    log: EventLog,
    folder: Path,
    report: EventLoadReport,
    *,
    rate: float | None,
    from_start: bool,
) -> None:
    with _open_progress() as progress:
        task = progress.add_task("", name="", total=None, speed="")
        lines = Lines()
        run = EventLoad(client, report, rate, time.monotonic, time.sleep)
        for file in log.files:
            progress.update(task, name=f"reading {file.name}")
            digest = hash_lines(log, file)
            # What one service knows another does not: each has records of its own.
            key = hashlib.sha256(f"{url}\n{digest}".encode()).hexdigest()[:32]
            record = ProgressFile(folder / f"{key}.json")
            n_lines = 0 if from_start else int((record.read() or {}).get("lines", 0))
            report.n_skipped += n_lines

            def note(n: int, file: Path = file, record: ProgressFile = record) -> None:
                nonlocal n_lines
                n_lines += n
                record.write({"file": str(file.absolute()), "url": url, "lines": n_lines})
                speed = f"{report.n_events / report.seconds:,.0f} events/s" if report.seconds else ""
                progress.update(task, name=file.name, completed=n_lines, speed=speed)
                lines.show(lambda: f"{file.name}: {n_lines:,} lines, {speed}")

            run.send(file.name, split_log(log.batches_of(file), digest, drop_unsendable, n_lines), note)


def _open_progress() -> Progress:
    columns = (
        TextColumn("{task.fields[name]}"),
        TextColumn("{task.completed:,} lines"),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=err, transient=True)


def _print(report: EventLoadReport, *, as_json: bool) -> None:
    facts: dict[str, Any] = report.to_json()
    if as_json:
        print_json(facts)
        return
    out.print(" · ".join(f"{status} {facts[status]:,}" for status in STATUSES), markup=False)
    for reason in facts["reasons"]:
        where = ", ".join(reason["lines"])
        out.print(f"  {reason['status']} {reason['events']:,}: {reason['detail']} (first: {where})", markup=False)
    if facts["skipped"]:
        out.print(f"{facts['skipped']:,} lines were sent before: --from-start sends them again", markup=False)
    out.print(f"{facts['seconds']:,.1f} s · {facts['events_per_s']:,.0f} events/s", markup=False)
