"""``scorecat features``: proof that live features are those of training."""

from __future__ import annotations

import functools
import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from serve_app.cli.open_log import hash_lines, open_log
from serve_app.cli.traffic.replay import check_present
from serve_app.client.clients import AsyncClient
from serve_app.client.logs.wire import DirectTransport
from serve_app.cluster.running import read_url
from serve_app.errors import InvariantError, NotFoundError, NotReadyError, ScorecatError
from serve_app.events.adapters.log_files import EventLog
from serve_app.events.adapters.spill import EventSpill
from serve_app.events.service.partitions import LogSummary, read_partitions, split_users
from serve_app.models.adapters.package_dir import load_package
from serve_app.models.catboost.scorer import CatBoostScorer
from serve_app.models.service.ports import Package
from serve_app.settings import Settings, load_settings
from serve_app.skew.report import SkewReport
from serve_app.skew.verify import shift_of
from serve_app.skew.verify_log import PartVerifier
from serve_app.storage.progress_file import ProgressFile
from serve_app.terminal.console import JsonOption, Lines, err, out, print_json
from serve_app.terminal.interrupts import run_gently
from serve_app.wiring import open_settings_registry

TIMEOUT_S: Final = 60.0
RETRIES: Final = 12
MEMORY_EVENTS: Final = 50_000
PART_EVENTS: Final = 5_000
"""A log is compared in parts of some users with so many events; an interrupted run goes on with the next part."""
SHOWN: Final = 20


@dataclass(slots=True)
class VerifyRun:
    """One log through one service, over as many starts as it takes.

    Attributes
    ----------
    record : ProgressFile
    url : str
        The service.
    prefixes : list of str
        Begin the ids that were sent, one for each start; they are what there is to clean.
    n_parts : int
        Parts that are done.
    report : SkewReport
        Of these parts.
    is_complete : bool
    """

    record: ProgressFile
    url: str = ""
    prefixes: list[str] = field(default_factory=list)
    n_parts: int = 0
    report: SkewReport = field(default_factory=SkewReport)
    is_complete: bool = False

    def save(self) -> None:
        """Write the record."""
        self.record.write(
            {
                "url": self.url,
                "prefixes": self.prefixes,
                "parts": self.n_parts,
                "part_events": PART_EVENTS,
                "report": self.report.to_json(),
                "complete": self.is_complete,
            }
        )


def verify(
    events: Annotated[Path, typer.Argument(help="CSV (also .gz) or Parquet file of events, or a directory of them.")],
    url: Annotated[str | None, typer.Option(help="Service; default the one that `scorecat up` started here.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=1024, help="Users under way at once, at most.")] = 32,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Begin again in place of going on where an interrupt stopped.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Replay a log through the live service and compare every feature and score, value for value.

    Views and carts are scored and recorded, purchases recorded, each user's next event after the previous
    answer; all under ids that nobody else has. Exit code 1 when a value differs.
    """
    settings = load_settings()
    url = url or read_url(settings)
    check_present(url)
    run = open_run(settings, events)
    if from_start or run.is_complete or run.url != url:
        run = VerifyRun(run.record, url, run.prefixes)
    summary, started_s = LogSummary(), time.monotonic()
    is_interrupted = False
    try:
        _compare(settings, events, url, run, summary, concurrency)
    except KeyboardInterrupt:
        is_interrupted = True
    except ScorecatError:
        if run.n_parts:
            err.print(f"{run.report.n_rows:,} rows were compared; the same command goes on from there", markup=False)
        raise
    _print(run, summary, time.monotonic() - started_s, events, as_json=as_json)
    if is_interrupted:
        n_done = run.report.n_rows + run.report.n_purchases
        done = f"{n_done:,} events are compared; the same command goes on with the other users"
        err.print(f"interrupted: {done if n_done else 'the same command begins again'}", markup=False)
        raise typer.Exit(130)
    if run.report.n_differences:
        raise typer.Exit(1)


def open_run(settings: Settings, events: Path) -> VerifyRun:
    """Return the run of a log as it was left, or a new one."""
    log = open_log(events)
    digests = "\n".join(hash_lines(log, file) for file in log.files)
    key = hashlib.sha256(digests.encode()).hexdigest()[:32]
    record = ProgressFile(settings.home / "verify" / f"{key}.json")
    found = record.read()
    if found is None:
        return VerifyRun(record)
    if found.get("part_events") != PART_EVENTS:  # its parts are others
        return VerifyRun(record, prefixes=list(found["prefixes"]))
    return VerifyRun(
        record,
        found["url"],
        list(found["prefixes"]),
        int(found["parts"]),
        SkewReport.from_json(found["report"]),
        found["complete"],
    )


def _compare(settings: Settings, events: Path, url: str, run: VerifyRun, summary: LogSummary, concurrency: int) -> None:
    model, version = _read_served(url)
    load = functools.cache(_package_loader(settings, model))
    load(version)  # a registry that does not hold what is served is named before anything is sent
    prefix = f"verify-{secrets.token_hex(6)}-"
    run.prefixes.append(prefix)
    run.save()
    with EventSpill() as spill, _open_progress() as progress:
        task = progress.add_task("reading the log", total=None, different=run.report.n_differences)
        now_s, lines, n_done = int(time.time()), Lines(), 0

        def advance(n: int = 1) -> None:
            nonlocal n_done
            n_done += n
            progress.advance(task, n)
            lines.show(lambda: f"{n_done:,} of {summary.n_events:,} events, {run.report.n_differences:,} different")

        groups = read_partitions(EventLog(events), spill, summary, memory_rows=MEMORY_EVENTS)
        parts = (part for group in groups for part in split_users(group, PART_EVENTS))
        for number, part in enumerate(parts):
            progress.update(task, description="events", total=summary.n_events)
            if number < run.n_parts:
                advance(part.table.num_rows)
                continue
            verifier = PartVerifier(part, summary, load, version, advance)
            run_gently(_send_part(verifier, url, concurrency, prefix, shift_of(summary.last_s, now_s)))
            run.report.add(verifier.report)
            run.n_parts = number + 1
            run.save()
            progress.update(task, different=run.report.n_differences)
    run.is_complete = True
    run.save()


async def _send_part(verifier: Any, url: str, concurrency: int, prefix: str, shift_s: int) -> None:
    transport = DirectTransport() if url.startswith("http://") else None
    async with AsyncClient(url, TIMEOUT_S, RETRIES, max_connections=concurrency, transport=transport) as client:
        await verifier.run(client, concurrency, prefix, shift_s)


def _read_served(url: str) -> tuple[str, int]:
    try:
        answer = httpx.get(f"{url}/readyz", timeout=10.0)
        served = answer.json()
        return str(served["model"]), int(served["version"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as exc:
        raise NotReadyError(f"the service at {url} is not ready to score: see `scorecat status`") from exc


def _package_loader(settings: Settings, model: str) -> Callable[[int], Package]:
    registry = open_settings_registry(settings)

    def load(version: int) -> Package:
        try:
            directory = registry.locate(model, version)
        except NotFoundError as exc:
            raise InvariantError(
                f"the service answers with {model} version {version}, which the registry here does not hold: set "
                f"SCORECAT_REGISTRY to the service's registry"
            ) from exc
        return load_package(directory, CatBoostScorer.load)

    return load


def _open_progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("different {task.fields[different]:,}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=err, transient=True)


def _print(run: VerifyRun, summary: LogSummary, seconds: float, events: Path, *, as_json: bool) -> None:
    report = run.report
    facts: dict[str, Any] = {
        **report.to_json(),
        "complete": run.is_complete,
        "dropped": dict(summary.dropped),
        "seconds": round(seconds, 3),
        "prefixes": run.prefixes,
    }
    if as_json:
        print_json(facts)
        return
    versions = ", ".join(f"v{v}" for v in facts["versions"])
    compared = (
        f"{report.n_values:,} values of {report.n_rows:,} rows compared ({versions}), {report.n_purchases:,} purchases "
        f"between them · {report.n_differences:,} different{'' if run.is_complete else ' · not the whole log'}"
    )
    out.print(compared if report.n_rows else "nothing was compared", markup=False)
    if summary.dropped:
        reasons = " · ".join(f"{reason}: {n:,}" for reason, n in summary.dropped.items())
        out.print(f"lines that are no events, not sent: {reasons}", markup=False)
    if report.n_rejected:
        out.print(f"rows that the service rejected, as the encoder here does: {report.n_rejected:,}")
    if report.n_unavailable:
        out.print(f"answers without history, as the store took too long, asked for again: {report.n_unavailable:,}")
    if report.differences:
        table = Table("line", "feature", "against", "expected", "got", box=None)
        for d in report.differences[:SHOWN]:
            table.add_row(f"{d.position + 1:,}", d.feature, d.against, str(d.expected), str(d.got))
        out.print(table)
        if report.n_differences > SHOWN:
            out.print(f"… {report.n_differences - SHOWN:,} more; --json has the first {len(report.differences)}")
    if run.prefixes:
        err.print(
            f"{seconds:,.1f} s. The histories made for this stay under ids that begin with {run.prefixes[-1]}: "
            f"`scorecat features clean {events}` removes them",
            markup=False,
        )
