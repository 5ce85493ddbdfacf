"""The command line: ``scorecat``."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from serve_app import __version__
from serve_app.cli import status, up
from serve_app.cli.history import features, features_clean
from serve_app.cli.jobs import backtest, jobs, score
from serve_app.cli.models import aliases, models, models_import
from serve_app.cli.rollouts import rollout, shadow
from serve_app.cli.traffic import events, predict, replay
from serve_app.cli.training import data, train
from serve_app.cli.unforeseen import explain
from serve_app.terminal.console import err, out
from serve_app.terminal.exits import exit_code, report_error

app = typer.Typer(
    name="scorecat",
    help="A distributed scoring cluster for CatBoost models on tabular data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(value: bool) -> None:
    if value:
        out.print(f"scorecat {__version__}")
        raise typer.Exit


@app.callback()
def scorecat(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """A distributed scoring cluster for CatBoost models on tabular data."""


app.command("up")(up.up)
app.command("down")(up.down)
app.command("status")(status.status)
app.command("predict")(predict.predict)
app.command("replay")(replay.replay_log)
app.command("score")(score.score)
app.command("backtest")(backtest.backtest)
app.command("evaluate")(backtest.evaluate)
app.command("train")(train.train)
app.add_typer(data.app, name="data")
app.add_typer(events.app, name="events")
features.app.command("clean")(features_clean.clean)
app.add_typer(features.app, name="features")
models.app.add_typer(aliases.app)
models.app.command("import")(models_import.import_model)
models.app.command("export")(models_import.export_model)
app.add_typer(models.app, name="models")
app.add_typer(jobs.app, name="jobs")
app.add_typer(rollout.app, name="rollout")
app.add_typer(shadow.app, name="shadow")


@functools.cache
def build_command() -> Any:
    """Return the whole command; building it takes 40 ms, which a process that runs many need not spend again."""
    return typer.main.get_command(app)


def main() -> None:
    """Run a command; exit codes: 0 done, 1 failed, 2 wrong use or wrong input, 130 interrupted.

    Nothing else ends it: an error that nobody foresaw becomes a message, see `unforeseen`.
    """
    _open_streams()
    try:
        try:
            with _ended_gently():
                build_command()(standalone_mode=True)
        finally:
            sys.stdout.flush()  # a full disk is told here, not by the interpreter when all is over
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        _forget_output()
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - told in words, and kept whole in a log
        told = explain(error)
        try:
            report_error(told)
            sys.stdout.flush()
        except OSError:
            _forget_output()
        sys.exit(exit_code(told))


def _open_streams() -> None:
    """Give the process streams that take any text: a stream may be closed, or have an encoding of a few letters."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open to the end
        elif isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _forget_output() -> None:
    """Send what is still to be written nowhere: the interpreter writes it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
            continue
        with contextlib.suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())


@contextlib.contextmanager
def _ended_gently() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does, so that nothing half done stays behind."""

    def interrupt(number: int, _: Any) -> None:
        raise KeyboardInterrupt(f"signal {number}")

    # What is ignored (by nohup, say) stays ignored.
    chosen = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    for number in chosen:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in chosen:
            signal.signal(number, signal.SIG_DFL)
