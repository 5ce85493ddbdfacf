"""The command line: ``scorecat``."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer

from serve_app.cli import data, models, predict, replay, rollout, service, train
from serve_app.cli.console import err, print_json
from serve_app.core.errors import BadRequestError, ScorecatError

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
app.command("train")(train.train)
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(rollout.app, name="rollout")


def main() -> None:
    """Run a command; exit codes: 0 done, 1 failed, 2 wrong use or wrong input, 130 interrupted."""
    try:
        app(standalone_mode=True)
    except ScorecatError as error:
        _report(error)
        sys.exit(2 if isinstance(error, BadRequestError) else 1)
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _report(error: ScorecatError) -> None:
    if "--json" in sys.argv:
        fields: dict[str, Any] = {"error": {"code": error.code, "detail": error.detail}}
        if error.errors:
            fields["error"]["errors"] = [{"pointer": e.pointer, "detail": e.detail} for e in error.errors]
        print_json(fields)
    err.print(f"error: {error}", style="red", markup=False)
