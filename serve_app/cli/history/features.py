"""``scorecat features``: proof that live features are those of training, and what it leaves removed."""

from __future__ import annotations

import hashlib
import secrets
import time
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer
from rich.table import Table

from serve_app.cli.open_log import hash_lines, open_log
from serve_app.cli.options import LogArgument, UrlOption
from serve_app.cli.traffic.replay import check_present
from serve_app.client.clients import AsyncClient
from serve_app.client.logs.wire import DirectTransport
from serve_app.cluster.running import read_url
from serve_app.errors import BadRequestError, NotFoundError, NotReadyError, ScorecatError
from serve_app.events.adapters.log_files import EventLog
from serve_app.events.service.partitions import LogSummary
from serve_app.history.adapters.open_store import open_live_history
from serve_app.settings import Settings, load_settings
from serve_app.skew.verify import rename, shift_of
from serve_app.skew.verify_log import PartVerifier
from serve_app.skew.verify_run import VerifyRun, load_run, open_packages
from serve_app.storage.json_file import ProgressFile
from serve_app.terminal.console import JsonOption, Lines, err, out, print_json
from serve_app.terminal.interrupts import run_gently
from serve_app.terminal.progress import open_progress
from serve_app.wiring import open_settings_registry

TIMEOUT_S: Final = 60.0
RETRIES: Final = 12
SHOWN: Final = 20


def verify(
    events: LogArgument,
    url: UrlOption = None,
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


def clean(
    events: Annotated[Path, typer.Argument(help="The log that was verified.")],
    as_json: JsonOption = False,
) -> None:
    """Remove the histories that `features verify` made of a log; needs the service's state, not the service.

    A user takes about 8 ms: what is removed is removed from the disk, too.
    """
    settings = load_settings()
    run = open_run(settings, events)
    if not run.prefixes:
        raise NotFoundError(f"no verification of {events} is known in {settings.home}")
    if settings.state_config is None:
        raise BadRequestError("history is off here: set SCORECAT_STATE as the service has it")
    users: set[str] = set()
    for batch in EventLog(events).batches():
        users.update(str(user) for user in batch.column("user_id").unique().to_pylist() if user is not None)
    history = open_live_history(settings.state_config)
    n_sessions = n_events = 0
    with open_progress() as progress:
        task = progress.add_task("users", total=len(users) * len(run.prefixes))
        for prefix in run.prefixes:
            for user in sorted(users):
                erased = history.erase(rename(prefix, user))
                n_sessions, n_events = n_sessions + erased.sessions, n_events + erased.events
                progress.advance(task)
    run.record.path.unlink(missing_ok=True)
    if as_json:
        print_json({"sessions": n_sessions, "events": n_events, "prefixes": run.prefixes})
    else:
        out.print(f"removed {n_sessions:,} sessions and the ids of {n_events:,} events", markup=False)


def open_run(settings: Settings, events: Path) -> VerifyRun:
    """Return the run of a log as it was left, or a new one."""
    log = open_log(events)
    digests = "\n".join(hash_lines(log, file) for file in log.files)
    key = hashlib.sha256(digests.encode()).hexdigest()[:32]
    return load_run(ProgressFile(settings.home / "verify" / f"{key}.json"))


def _compare(settings: Settings, events: Path, url: str, run: VerifyRun, summary: LogSummary, concurrency: int) -> None:
    model, version = _read_served(url)
    load = open_packages(open_settings_registry(settings), model)
    load(version)  # a registry that does not hold what is served is named before anything is sent
    prefix = f"verify-{secrets.token_hex(6)}-"
    run.prefixes.append(prefix)
    run.save()
    now_s, lines, n_done = int(time.time()), Lines(), 0
    with open_progress("different {task.fields[different]:,}") as progress:
        task = progress.add_task("reading the log", total=None, different=run.report.n_differences)

        def advance(n: int) -> None:
            nonlocal n_done
            n_done += n
            n_different = run.report.n_differences
            progress.update(task, description="events", total=summary.n_events, advance=n, different=n_different)
            lines.show(lambda: f"{n_done:,} of {summary.n_events:,} events, {n_different:,} different")

        def send(verifier: PartVerifier) -> None:
            run_gently(_send_part(verifier, url, concurrency, prefix, shift_of(summary.last_s, now_s)))

        run.compare(EventLog(events), summary, load, version, send, advance)


async def _send_part(verifier: PartVerifier, url: str, concurrency: int, prefix: str, shift_s: int) -> None:
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
