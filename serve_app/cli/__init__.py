"""The command line: ``scorecat``."""

from __future__ import annotations

import os
import sys

import typer

from serve_app.cli import aliases, data, models, models_import, predict, replay, rollout, score, service, train
from serve_app.cli.console import err
from serve_app.cli.exits import exit_code, report_error
from serve_app.core.errors import ScorecatError

app = typer.Typer(
    name="scorecat",
    help="A distributed scoring cluster for CatBoost models on tabular data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("up")(service.up)
app.command("down")(service.down)
app.command("status")(service.status)
app.command("predict")(predict.predict)
app.command("replay")(replay.replay_log)
app.command("score")(score.score)
app.command("train")(train.train)
app.add_typer(data.app, name="data")
models.app.add_typer(aliases.app)
models.app.command("import")(models_import.import_model)
models.app.command("export")(models_import.export_model)
app.add_typer(models.app, name="models")
app.add_typer(rollout.app, name="rollout")


def main() -> None:
    """Run a command; exit codes: 0 done, 1 failed, 2 wrong use or wrong input, 130 interrupted."""
    try:
        app(standalone_mode=True)
    except ScorecatError as error:
        report_error(error)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)

