"""``scorecat rollout simulate``: what a plan does, before it is used."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import TimeRemainingColumn
from rich.table import Table

from serve_app.rollouts.adapters.plan_file import load_plan
from serve_app.rollouts.core.plan import DEFAULT_PLAN, Plan, dump_plan
from serve_app.rollouts.service.simulate import Assumptions, Summary, simulate_plan, summarise_runs
from serve_app.terminal.console import JsonOption, out, print_json
from serve_app.terminal.progress import open_progress


def simulate(
    plan_file: Annotated[
        Path | None, typer.Argument(metavar="[PLAN.yaml]", help="Plan to run; the default plan when left out.")
    ] = None,
    stable_error: Annotated[
        float, typer.Option(min=0, max=1, help="Stable version's share of failed requests.")
    ] = 0.01,
    canary_error: Annotated[float, typer.Option(min=0, max=1, help="Canary's share of failed requests.")] = 0.05,
    rate: Annotated[float, typer.Option(help="Requests per second of both together.")] = 50.0,
    latency_ratio: Annotated[float, typer.Option(help="Canary's latency divided by the stable version's.")] = 1.0,
    score_shift: Annotated[float, typer.Option(help="Added to the log-odds of the canary's scores.")] = 0.0,
    requests_per_user: Annotated[
        float, typer.Option(help="Mean requests of a user, which all fail or all do not (at least 1).")
    ] = 1.0,
    runs: Annotated[int, typer.Option(min=1, max=1_000_000, help="Simulated rollouts.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal runs.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 is one for each CPU.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Run a plan many times against assumed rates, and count false rollbacks and detections."""
    plan = load_plan(plan_file) if plan_file else DEFAULT_PLAN
    assumed = Assumptions(stable_error, canary_error, rate, latency_ratio, score_shift, requests_per_user)
    with open_progress("", TimeRemainingColumn()) as progress:
        task = progress.add_task("rollouts", total=runs)
        found = simulate_plan(
            plan,
            assumed,
            runs,
            seed,
            n_workers=min(workers or os.cpu_count() or 1, 1 + runs // 50),
            report=lambda n: progress.update(task, completed=n),
        )
    summary = summarise_runs(found)
    if as_json:
        print_json({"plan": dump_plan(plan), "assumed": asdict(assumed), "seed": seed, **asdict(summary)})
        return
    _print(plan, assumed, summary)


def _print(plan: Plan, assumed: Assumptions, summary: Summary) -> None:
    kind = "false rollbacks" if assumed.is_equal else "rolled back"
    names = {"promoted": "promoted", "rolled_back": kind, "paused": "paused for a person", "unfinished": "not finished"}
    out.print(
        f"{summary.n_runs:,} rollouts at {assumed.rate:g} requests/s; errors: stable {assumed.stable_error:.2%}, "
        f"canary {assumed.canary_error:.2%}; steps {', '.join(f'{step:g}' for step in plan.steps)} %",
        markup=False,
    )
    table = Table("end", "share", "95 % interval", box=None)
    for end, (share, low, high) in summary.shares.items():
        if share or end in ("promoted", "rolled_back"):
            table.add_row(names[end], f"{share:.1%}", f"{low:.1%} - {high:.1%}")
    out.print(table)
    medians = (
        ("canary requests until rollback", summary.canary_requests, ""),
        ("time until rollback", summary.seconds_to_rollback, " s"),
        ("time until promotion", summary.seconds_to_promotion, " s"),
    )
    for name, found, unit in medians:
        if found is not None:
            median, low, high = found
            out.print(f"{name}, median: {median:,.0f}{unit} ({low:,.0f} - {high:,.0f})", markup=False)
    if summary.causes:
        causes = ", ".join(f"{name} {count:,}" for name, count in sorted(summary.causes.items()))
        out.print(f"rolled back because of: {causes}", markup=False)
    out.print(f"bound on false rollbacks of this plan: {plan.false_rollback_share:.1%}", markup=False)
