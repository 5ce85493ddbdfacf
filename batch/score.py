"""Score a large table with the deployments that answer online: ``python -m batch.score INPUT OUTPUT``.

Runs as a Ray job (``ray job submit -- python -m batch.score …``), or by itself beside the cluster that
``scorecat up`` started. ``scorecat score`` submits it and follows it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from batch.jobs.asked import DEFAULT_LIMIT, Asked, RunOptions, read_run, write_run
from batch.jobs.prepare import JobPlan, Wanted, begin_again, begin_plan, check_unchanged, draft_plan, take_up
from batch.options import (
    ExplainOption,
    InputArgument,
    KeepOption,
    MappingOption,
    MaxRejectedOption,
    ModelOption,
    OutputArgument,
    PartitionOption,
    PatienceOption,
    PoolOption,
    PoolReplicasOption,
    ResumeOption,
    WorkersOption,
    read_asked,
)
from batch.record import IN_JOB, STOPPED, DriverRecord, StoppedError, find_submission_id, recorded
from batch.transforms.progress import Progress
from batch.transforms.summary import RejectLimit
from batch.view import describe_rejected, describe_resume, describe_summary, make_absolute, name_program, open_bar
from serve_app.cluster.environment import cluster_environment
from serve_app.cluster.running import read_spec
from serve_app.errors import NotReadyError, ScorecatError
from serve_app.jobs.adapters.output_folder import OutputFolder
from serve_app.jobs.adapters.record_folders import JobFolders
from serve_app.jobs.core.commits import UnitTally
from serve_app.jobs.core.record import JobOrder, resume_command
from serve_app.jobs.service.control import name_job
from serve_app.models.core.manifest import Manifest
from serve_app.models.service.registry import CHAMPION, name_mover
from serve_app.settings import Settings, load_settings
from serve_app.storage.file_listing import describe_left_out
from serve_app.terminal.console import JsonOption, err, out
from serve_app.terminal.exits import error_fields, exit_code
from serve_app.wiring import find_default, open_settings_registry

if TYPE_CHECKING:
    from batch.jobs.run import Job

LINE_S: Final = 5.0
"""Where no terminal is, progress is a line this often."""


def score(
    input: InputArgument,  # noqa: A002 - the name people read in --help
    output: OutputArgument,
    model: ModelOption = None,
    mapping: MappingOption = None,
    keep: KeepOption = None,
    partition_by: PartitionOption = None,
    explain: ExplainOption = None,
    max_rejected: MaxRejectedOption = None,
    workers: WorkersOption = None,
    patience_s: PatienceOption = None,
    pool: PoolOption = None,
    pool_replicas: PoolReplicasOption = None,
    resume: ResumeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score every row of INPUT with the running service's deployments, into OUTPUT."""
    asked = read_asked(input, model, mapping, keep, partition_by, explain)
    options = RunOptions(max_rejected, workers, patience_s, pool, pool_replicas)
    run_job(asked, output, options, resume_command(input, output, name_program()), resume=resume, as_json=as_json)


def run_job(
    asked: Asked, output: str, said: RunOptions, go_on: str, *, resume: bool, as_json: bool, go_on_elsewhere: str = ""
) -> None:
    """Run a job, say what it does and how it ended, and leave with its exit code.

    `go_on` is the command that resumes it, as it is typed here; `go_on_elsewhere` goes into the job's record where that
    is not ``scorecat score``.
    """
    folder = OutputFolder(make_absolute(output))
    options = said.after(read_run(folder)) if resume else said
    limit = RejectLimit.parse(options.max_rejected or DEFAULT_LIMIT)
    settings, started_s = load_settings(), time.monotonic()
    order = _order(asked, folder, settings, go_on_elsewhere)
    with connected(), recorded(JobFolders(settings.job_dir), order, _say) as record:
        from batch import driver  # noqa: PLC0415 - imports Ray, see `connected`

        check = driver.check_can_begin if options.is_shared else None
        plan, manifest, tally = _plan(asked, folder, check, resume=resume, is_confined=record.is_from_http)
        write_run(options, folder)
        if plan.not_read:
            _say(describe_left_out(plan.not_read))
        record.note_version(plan.model, plan.version, tally.counts)
        err.print(f"{plan.model} v{plan.version}: {len(tally.open_units)} of {len(plan.units)} units to score")
        app, spare_cpus = driver.choose_app(plan, record, options, _say)
        with _shown(record) as show:
            job = driver.build_job(plan, tally, manifest, folder, limit, options, show, app, spare_cpus)
            summary = _run(job, record, go_on)
        summary["seconds"] = round(time.monotonic() - started_s, 1)
        _finish(summary, folder, go_on, as_json)


def _order(asked: Asked, folder: OutputFolder, settings: Settings, go_on: str) -> JobOrder:
    now_s = time.time()
    job_id = find_submission_id(os.environ) or name_job(now_s)
    who = settings.user or name_mover()
    model = asked.model or ""
    return JobOrder(job_id, now_s, "command", who, asked.input, folder.location, model=model, go_on=go_on)


def _say(text: str) -> None:
    err.print(text, markup=False)


@contextlib.contextmanager
def connected() -> Any:
    """Connect to the cluster: that of the job, or the one that `scorecat up` started here."""
    if IN_JOB in os.environ:
        address = "auto"
    else:
        spec = read_spec(load_settings())
        os.environ.update(cluster_environment(spec))  # before Ray is imported: it reads them at import
        address = spec.address
    # Ray Data keeps its actors' arguments in the object store, and Ray's core prints a line about that.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # A thread of Ray Data may outlive `ray.shutdown` by a moment. Ray would start a cluster of its own for
    # it, which nobody would stop.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    import ray  # noqa: PLC0415 - see above

    from serve_app.cluster.ray_internals import hide_worker_logs  # noqa: PLC0415

    try:
        hide_worker_logs()  # they would stand in between the results
        with _without_stderr():
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as exc:
        raise NotReadyError(f"no cluster answers at {address}: see `scorecat status` ({exc})") from exc
    for number in (signal.SIGINT, signal.SIGTERM):  # after `ray.init`, which sets its own for SIGTERM
        signal.signal(number, _stop)
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Keep what Ray's core writes past Python from the terminal: that it heeds `RAY_BACKEND_LOG_LEVEL`, say."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _plan(
    asked: Asked, folder: OutputFolder, check: Callable[[str, int], None] | None, *, resume: bool, is_confined: bool
) -> tuple[JobPlan, Manifest, UnitTally]:
    registry = open_settings_registry()
    name, _, chosen = (asked.model or find_default(load_settings(), registry)).partition("@")
    if resume:
        version = registry.resolve(name, chosen) if asked.model and chosen else None
        plan, manifest = take_up(asked, folder, version, registry.manifest)
        tally = begin_again(folder, plan)
        check_unchanged(plan, tally)
        return plan, manifest, tally
    version = registry.resolve(name, chosen or CHAMPION)
    manifest = registry.manifest(name, version)
    plan = draft_plan(Wanted.of(asked), folder, name, version, manifest, is_confined=is_confined)
    if check is not None:
        check(name, version)
    begin_plan(plan, folder)
    return plan, manifest, UnitTally(plan.units)


def _run(job: Job, record: DriverRecord, go_on: str) -> dict[str, Any]:
    try:
        summary = job.run()
    except (ScorecatError, StoppedError) as exc:
        with contextlib.suppress(ScorecatError, OSError):
            job.stop()
            record.note_summary(job.finish())
        hint = describe_resume(go_on)
        if isinstance(exc, StoppedError):
            err.print(f"stopped: {hint}", markup=False, soft_wrap=True)
            raise typer.Exit(STOPPED) from exc
        err.print(hint, markup=False, soft_wrap=True)
        raise
    record.note_summary(summary)
    return summary


def _finish(summary: dict[str, Any], folder: OutputFolder, go_on: str, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(summary) + "\n")  # one line, as errors are
    else:
        out.print(describe_summary(summary, folder.location), markup=False)
    if rejected := describe_rejected(summary):
        err.print(rejected, markup=False)
    if not summary["is_complete"]:
        for one in summary["set_aside"]:
            err.print(f"set aside: {one['path']}: {one['reason']}", markup=False)
        for one in summary["missing"]:
            err.print(f"missing: unit {one['unit']} of {one['path']}: {one['reason']}", markup=False)
        err.print(f"not complete; mend the input or wait, then: {go_on}", markup=False, soft_wrap=True)
        raise typer.Exit(1)


@contextlib.contextmanager
def _shown(record: DriverRecord) -> Any:
    """Give a function that shows progress: a bar on a terminal, lines elsewhere, and the record for others."""
    with open_bar(err) as (bar, task):
        last_s = time.monotonic()

        def show(done: Progress) -> None:
            nonlocal last_s
            now_s = time.monotonic()
            record.show(done)
            bar.update(task, completed=done.share, text=done.describe(with_share=False), refresh=True)
            if not err.is_terminal and now_s - last_s >= LINE_S:
                last_s = now_s
                err.print(str(done))

        yield show


def _stop(number: int, _: Any) -> None:
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise StoppedError(f"signal {number}")


def main(command: Callable[..., None] = score) -> None:
    """Run a command of batch jobs; exit codes as those of ``scorecat``."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    try:
        app()
    except ScorecatError as error:
        _report(error)
        sys.exit(exit_code(error))
    except StoppedError:
        err.print("stopped before anything was scored")
        sys.exit(130)


def _report(error: ScorecatError) -> None:
    if "--json" in sys.argv:  # one line, which `scorecat score` finds in the job's log
        fields = {**error_fields(error), "exit_code": exit_code(error)}
        sys.stdout.write(json.dumps({"error": fields}) + "\n")
    err.print(f"error: {error}", style="red", markup=False)


if __name__ == "__main__":
    main()
