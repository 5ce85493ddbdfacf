"""The command line: ``scorecat``."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from serve_app import __version__
from serve_app.cli.lazy_command import add_commands
from serve_app.cli.unforeseen import explain
from serve_app.terminal.console import err, out
from serve_app.terminal.exits import exit_code, report_error

GROUPS: Final[Mapping[str, str]] = {
    "data": "Generate an event log, or describe one.",
    "events": "Shop history: back-fill a log.",
    "features": "Live features beside those of training.",
    "models": "List, read, prove and name the models of the registry.",
    "jobs": "See batch jobs, and end one.",
    "rollout": "Ship a version step by step, and take it back.",
    "shadow": "Send copies of requests to a version that answers nobody.",
}
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "up": ("up:up",
        "Start the service in the background and return when it answers."),
    "down": ("down:down",
        "Stop everything that `up` started; the registry and all state stay."),
    "status": ("status:status",
        "Say what runs: versions with their shares, replicas, health; exit code 1 when the service cannot score."),
    "predict": ("traffic.predict:predict",
        "Score one row, by the route of the model that is served."),
    "replay": ("traffic.replay:replay_log",
        "Send the view and cart rows of an event log, and print throughput, latency and scores."),
    "score": ("jobs.score:score",
        "Score a large table with the running service's deployments, as a job that can be resumed."),
    "backtest": ("jobs.backtest:backtest",
        "Score every view and cart of EVENTS as of its moment, with the running service's deployments."),
    "evaluate": ("jobs.backtest:evaluate",
        "Report how good the scores in SCORES were, by what EVENTS says happened next."),
    "train": ("training.train:train",
        "Train the purchase model on an event log, measure it on later rows, register it."),
    "data generate": ("training.data:generate",
        "Write an invented event log that looks like the published one, in its nine columns."),
    "data describe": ("training.data:describe",
        "Print the figures of an event log beside the published figures, with the difference."),
    "events load": ("traffic.events:load",
        "Send every event of a log to the service; the same command goes on where an earlier one stopped."),
    "features verify": ("history.features:verify",
        "Replay a log through the live service and compare every feature and score, value for value."),
    "features clean": ("history.features:clean",
        "Remove the histories that `features verify` made of a log; needs the service's state, not the service."),
    "models list": ("models.models:list_models",
        "List all models, versions and aliases, and uploads that did not come to their end."),
    "models show": ("models.package:show",
        "Print a model's page: quality with intervals, bands, importance, features, lineage."),
    "models verify": ("models.package:verify",
        "Check every file's SHA-256 as it is stored now, and reproduce the golden rows."),
    "models import": ("models.models_import:import_model",
        "Import a model that was made elsewhere: nothing in the file is run, the package is checked and registered."),
    "models export": ("models.package:export_model",
        "Write a model for code without scorecat: a deployed_model.pkl, or CatBoost's own file."),
    "models alias": ("models.aliases:alias",
        "Point an alias at a version, or delete it. Exit code 1 when somebody else moved it meanwhile."),
    "models history": ("models.aliases:history",
        "Print every move of a model's aliases, oldest first: when, what, who, why."),
    "models clean": ("models.aliases:clean",
        "Remove what publishes that were cut short left behind. Versions and their numbers stay."),
    "jobs list": ("jobs.jobs:list_jobs",
        "List jobs, newest first: those of `scorecat score`, of `ray job submit`, and those asked for over HTTP."),
    "jobs show": ("jobs.jobs:show",
        "Show a job: state, progress, how it ended, the command that goes on with it, and where its results are."),
    "jobs cancel": ("jobs.jobs:cancel",
        "End a job; what is scored stays, and `scorecat score INPUT OUTPUT --resume` goes on as it was begun."),
    "rollout simulate": ("rollouts.simulate:simulate",
        "Run a plan many times against assumed rates, and count false rollbacks and detections."),
    "rollout start": ("rollouts.rollout:start",
        "Start a canary (or, with --share-of, an A/B test) of a version."),
    "rollout status": ("rollouts.rollout:status",
        "Show a rollout: shares, verdicts with their evidence, counts, and what can be done."),
    "rollout pause": ("rollouts.rollout:pause",
        "Keep the shares as they are until `resume`; a failure still rolls back."),
    "rollout resume": ("rollouts.rollout:resume",
        "Go on after a pause; the step is measured anew."),
    "rollout promote": ("rollouts.rollout:promote",
        "Give the canary everything now, whatever the measurements say."),
    "rollout abort": ("rollouts.rollout:abort",
        "Take everything back at once; also ends A/B tests and shadows, and takes back what has just succeeded."),
    "rollout history": ("rollouts.rollout:history",
        "Print every change of a rollout, oldest first: when, who, why, on what evidence."),
    "shadow start": ("rollouts.rollout:start_shadow",
        "Deploy a version and send it copies; `scorecat rollout status` shows how its scores differ."),
    "shadow stop": ("rollouts.rollout:stop_shadow",
        "End the shadow that runs."),
}  # fmt: skip
"""Module and function, and the first sentence of the help, by the words that call a command, in the order of lists."""


class Commands(TyperGroup):
    """All commands, each to be imported when it is asked for."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        add_commands(self, COMMANDS, GROUPS)


app = typer.Typer(
    name="scorecat",
    cls=Commands,
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


@functools.cache
def build_command() -> Any:
    """Return the whole command, which a process that runs many builds once."""
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
