"""``scorecat replay``: an event log through the running service."""

from __future__ import annotations

import asyncio
from typing import Annotated

import httpx
import typer
from rich.table import Table

from serve_app.cli.open_log import open_log
from serve_app.cli.options import LogArgument, UrlOption
from serve_app.client.clients import AsyncClient
from serve_app.client.logs.log_rows import encode_log
from serve_app.client.logs.replay import SCORE_BINS, ReplayReport, read_ahead, replay
from serve_app.client.logs.wire import DirectTransport
from serve_app.cluster.running import read_url
from serve_app.errors import BadRequestError, NotReadyError
from serve_app.settings import load_settings
from serve_app.terminal.console import JsonOption, err, out, print_json
from serve_app.terminal.interrupts import run_gently
from serve_app.terminal.progress import open_progress

TIMEOUT_S = 30.0
RETRIES = 8
"""A lost replica takes up to 10 s to come back: rows wait for it."""
PROBE_TIMEOUT_S = 2.0
REFRESH_S = 0.25
BAR_COLUMNS = 40


def replay_log(
    events: LogArgument,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Rows a second, however slow the service is; default: all it takes.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=4096, help="Rows under way at once, at most.")] = 32,
    limit: Annotated[int | None, typer.Option(min=1, help="Send only the first rows.")] = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send the view and cart rows of an event log, and print throughput, latency and scores.

    Exit code 1 when a row got no answer; rows that the service rejects (price 0) are counted apart.
    """
    log = open_log(events)
    url = url or read_url(load_settings())
    check_present(url)
    report = ReplayReport()

    async def send() -> None:
        transport = DirectTransport() if url.startswith("http://") else None
        async with AsyncClient(url, TIMEOUT_S, RETRIES, max_connections=concurrency, transport=transport) as client:
            chunks = read_ahead(encode_log(log.batches()))
            shown = asyncio.create_task(_show(report, limit))
            try:
                await replay(client, chunks, report, concurrency=concurrency, rate=rate, limit=limit)
            finally:
                shown.cancel()
                await asyncio.wait([shown])

    interrupted = False
    try:
        run_gently(send())
    except KeyboardInterrupt:
        interrupted = True
    _print(report, as_json=as_json)
    if report.is_hopeless and report.last_failure is not None:
        hint = ": start it with `scorecat up`" if isinstance(report.last_failure, NotReadyError) else ""
        err.print(f"error: gave up, no row was answered: {report.last_failure}{hint}", style="red", markup=False)
    if interrupted:
        err.print("interrupted")
        raise typer.Exit(130)
    if report.n_failed:
        raise typer.Exit(1)


def check_present(url: str) -> None:
    """Raise NotReadyError when nothing listens there: rows wait for a service that comes back, not for none."""
    try:
        httpx.get(f"{url}/livez", timeout=PROBE_TIMEOUT_S)
    except httpx.ConnectError as exc:
        raise NotReadyError(
            f"nothing answers on {url}: start it with `scorecat up`, or name a service by --url"
        ) from exc
    except httpx.InvalidURL as exc:
        raise BadRequestError(f"{url!r} is no URL of a service: write http://HOST:PORT") from exc
    except httpx.HTTPError:
        pass  # slow or odd, but there


async def _show(report: ReplayReport, limit: int | None) -> None:
    with open_progress("{task.fields[speed]}", auto_refresh=False) as progress:
        task = progress.add_task("rows", total=limit, speed="")
        while True:
            n_done = report.n_answered + report.n_rejected + report.n_failed
            progress.update(task, completed=n_done, speed=f"{report.rows_per_s:,.0f} rows/s", refresh=True)
            await asyncio.sleep(REFRESH_S)


def _print(report: ReplayReport, *, as_json: bool) -> None:
    facts = report.to_json()
    if as_json:
        print_json(facts)
        return
    counts = ("sent", "answered", "rejected", "failed", "retried")
    out.print(" · ".join(f"{name} {facts[name]:,}" for name in counts), markup=False)
    for what in ("rejections", "failures"):
        for name, n in facts[what].items():
            out.print(f"  {what.removesuffix('s')} {name or '(all)'}: {n:,}", markup=False)
    out.print(f"{facts['seconds']:,.1f} s · {facts['rows_per_s']:,.0f} rows/s", markup=False)
    if report.latencies.n:
        out.print(
            "latency ms · " + " · ".join(f"{name} {ms:,.1f}" for name, ms in facts["latency_ms"].items()), markup=False
        )
    if report.n_answered:
        table = Table("score", "rows", "", box=None)
        table.columns[1].justify = "right"
        most = max(report.scores)
        for (low, high), n in zip(SCORE_BINS, report.scores, strict=True):
            table.add_row(f"{low:.2f}-{high:.2f}", f"{n:,}", "█" * -(-n * BAR_COLUMNS // most))
        out.print(table)
