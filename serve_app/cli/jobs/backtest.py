"""``scorecat backtest`` and ``scorecat evaluate``: how a version would have scored, and how right that was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from batch.backfill import backfill
from batch.evaluate import evaluate as measure
from batch.options import (
    ExplainOption,
    MaxRejectedOption,
    ModelOption,
    PartitionOption,
    PatienceOption,
    ResumeOption,
    WorkersOption,
    split_names,
)
from batch.record import STOPPED, StoppedError
from batch.transforms.metrics_table import lay_out
from batch.view import make_absolute, name_program
from serve_app.cli.open_log import open_log
from serve_app.cli.options import LogArgument
from serve_app.jobs.core.record import resume_command
from serve_app.jobs.core.spec import JobSpec
from serve_app.terminal.console import JsonOption, err, out, print_aligned, print_result

ROUNDS: Final = 100
BACKTEST: Final = "backtest"

OutputArgument = Annotated[str, typer.Argument(help="Local folder for the result; new, or the same with --resume.")]
KeepFeaturesOption = Annotated[bool, typer.Option("--keep-features", help="Leave the features in OUTPUT/features.")]
ScoresArgument = Annotated[str, typer.Argument(help="Output folder of a backtest, or of a job.")]
OutcomesArgument = Annotated[Path, typer.Argument(help="The event log, until after what was scored.")]
TopOption = Annotated[int, typer.Option(min=1, help="Brands and categories with the most rows to report apart.")]
RoundsOption = Annotated[int, typer.Option(min=0, help="Rounds of the bootstrap over users; 0 for no intervals.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the intervals.")]


def backtest(
    events: LogArgument,
    output: OutputArgument,
    model: ModelOption = None,
    partition_by: PartitionOption = None,
    explain: ExplainOption = None,
    max_rejected: MaxRejectedOption = None,
    workers: WorkersOption = None,
    patience_s: PatienceOption = None,
    keep_features: KeepFeaturesOption = False,
    resume: ResumeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score every view and cart of EVENTS as of its moment, with the running service's deployments."""
    spec = JobSpec(
        "", make_absolute(output), model or "", partition_by=split_names(partition_by), explain=explain,
        max_rejected=max_rejected, workers=workers, patience_s=patience_s, resume=resume,
    )  # fmt: skip
    more = " --keep-features" if keep_features else ""
    go_on = resume_command(str(events), output, name_program(), BACKTEST) + more
    elsewhere = resume_command(make_absolute(str(events)), spec.output, command=BACKTEST) + more
    try:
        backfill(
            open_log(events.absolute()), spec, go_on, elsewhere, keep_features=keep_features, as_json=as_json
        )  # fmt: skip
    except (KeyboardInterrupt, StoppedError):
        err.print(f"stopped before anything was scored; go on with: {go_on}", markup=False, soft_wrap=True)
        raise typer.Exit(STOPPED) from None


def evaluate(
    scores: ScoresArgument,
    events: OutcomesArgument,
    top: TopOption = 20,
    rounds: RoundsOption = ROUNDS,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Report how good the scores in SCORES were, by what EVENTS says happened next."""
    report = measure(scores, open_log(events.absolute()), top=top, n_rounds=rounds, seed=seed)
    print_result(report, _print, as_json=as_json)


def _print(report: Mapping[str, Any]) -> None:
    counts = report["counts"]
    out.print(
        f"{counts['scores']:,} scores · {counts['not_in_log']:,} without a row in the log · "
        f"{counts['in_open_sessions']:,} in sessions that may go on, left out"
    )
    rows, left_out = lay_out(report, out.width if out.is_terminal else None)
    print_aligned(rows, "")
    if left_out:
        out.print(f"left out for the width of this terminal: {', '.join(left_out)}; --json has everything")
