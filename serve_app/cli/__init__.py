"""The command line: ``scorecat``."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import sys
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from serve_app.cli import (
    aliases,
    backtest,
    data,
    events,
    features,
    features_clean,
    jobs,
    models,
    models_import,
    predict,
    replay,
    rollout,
    score,
    service,
    shadow,
    status,
    train,
)
from serve_app.cli.console import err, out
from serve_app.cli.exits import exit_code, report_error
from serve_app.core.errors import BadRequestError, ScorecatError

app = typer.Typer(
    name="scorecat",
    help="A distributed scoring cluster for CatBoost models on tabular data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        out.print(f"scorecat {version('scorecat')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Score with CatBoost models on tabular data."""


app.command("up")(service.up)
app.command("down")(service.down)
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
    """Run a command; exit codes: 0 done, 1 failed, 2 wrong use or wrong input, 130 interrupted."""
    try:
        with _ended_gently():
            build_command()(standalone_mode=True)
    except ScorecatError as error:
        report_error(error)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        where = f" {error.filename}" if error.filename else ""
        report_error(BadRequestError(f"cannot write{where}: {error.strerror}. Nothing was registered or changed"))
        sys.exit(1)


_REFUSED: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)
"""What the system says when files cannot be written, which no mistake of ours causes."""


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
