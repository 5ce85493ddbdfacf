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
from typing import Any

import typer

from batch.jobs.prepare import JobPlan, begin_again, begin_plan, check_unchanged, plan_job
from batch.options import takes_spec
from batch.record import IN_JOB, STOPPED, StoppedError, find_submission_id, recorded
from batch.transforms.summary import RejectLimit
from batch.view import describe_resume, describe_summary, explain_summary, open_progress
from serve_app.cluster.environment import cluster_environment
from serve_app.cluster.running import read_spec
from serve_app.errors import NotReadyError, ScorecatError
from serve_app.jobs.adapters.output_folder import RUN_OPTIONS, OutputFolder
from serve_app.jobs.adapters.record_folders import JobFolders
from serve_app.jobs.core.commits import UnitTally
from serve_app.jobs.core.record import JobOrder
from serve_app.jobs.core.spec import DEFAULT_LIMIT, RUN, JobSpec
from serve_app.jobs.service.control import name_job
from serve_app.models.core.manifest import Manifest
from serve_app.models.service.registry import name_mover
from serve_app.settings import load_settings
from serve_app.storage.file_listing import describe_left_out
from serve_app.terminal.console import err, out
from serve_app.terminal.exits import exit_code, report_error
from serve_app.wiring import find_default, open_settings_registry


@takes_spec
def score(spec: JobSpec, _mapping: Path | None, go_on: str, as_json: bool) -> None:
    """Score every row of INPUT with the running service's deployments, into OUTPUT."""
    run_job(spec, go_on, as_json=as_json)


def run_job(asked: JobSpec, go_on: str, *, as_json: bool, go_on_elsewhere: str = "") -> None:
    """Run a job, say what it does and how it ended, and leave with its exit code.

    `go_on` is the command that resumes it, as it is typed here; `go_on_elsewhere` goes into the job's record where that
    is not ``scorecat score``.
    """
    settings, began_at_s = load_settings(), time.time()
    job_id, who = find_submission_id(os.environ) or name_job(began_at_s), settings.user or name_mover()
    order = JobOrder(job_id, began_at_s, "command", who, asked, go_on=go_on_elsewhere)
    with connected(), recorded(JobFolders(settings.job_dir), order, _say) as record:
        from batch.jobs import apps, run  # noqa: PLC0415 - import Ray, see `connected`

        folder = OutputFolder(asked.output)
        spec = asked.after(folder.read_json(RUN_OPTIONS) or {}) if asked.resume else asked
        limit = RejectLimit.parse(spec.max_rejected or DEFAULT_LIMIT)
        plan, manifest, tally = _plan(spec, folder, apps.check_can_begin, is_confined=record.is_from_http)
        folder.write_json(RUN_OPTIONS, {name: getattr(spec, name) for name in RUN})
        if plan.not_read:
            _say(describe_left_out(plan.not_read))
        record.note_version(plan.model, plan.version, tally.counts)
        err.print(f"{plan.model} v{plan.version}: {len(tally.open_units)} of {len(plan.units)} units to score")
        with _told(go_on), open_progress() as show:
            app, spare_cpus = apps.choose_app(plan, spec, record, _say)
            job = run.Job(plan, tally, manifest, folder, app, limit, spec, record, show, _say, spare_cpus)
            summary = job.run()
        _finish(summary, folder, go_on, as_json)


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
    spec: JobSpec, folder: OutputFolder, check: Callable[[str, int], None], *, is_confined: bool
) -> tuple[JobPlan, Manifest, UnitTally]:
    registry = open_settings_registry()
    model = spec.model or find_default(load_settings(), registry)
    plan, manifest = plan_job(spec, model, folder, registry, is_confined=is_confined)
    if spec.resume:
        tally = begin_again(folder, plan)
        check_unchanged(plan, tally)
        return plan, manifest, tally
    if spec.is_shared:
        check(plan.model, plan.version)
    begin_plan(plan, folder)
    return plan, manifest, UnitTally(plan.units)


@contextlib.contextmanager
def _told(go_on: str) -> Iterator[None]:
    """Say how a job that is planned goes on, whatever ends it."""
    try:
        yield
    except StoppedError as exc:
        err.print(f"stopped: {describe_resume(go_on)}", markup=False, soft_wrap=True)
        raise typer.Exit(STOPPED) from exc
    except Exception:
        err.print(describe_resume(go_on), markup=False, soft_wrap=True)
        raise


def _finish(summary: dict[str, Any], folder: OutputFolder, go_on: str, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(summary) + "\n")  # one line, among those of Ray
    else:
        out.print(describe_summary(summary, folder.location), markup=False)
    for line in explain_summary(summary, go_on):
        err.print(line, markup=False, soft_wrap=True)
    if not summary["is_complete"]:
        raise typer.Exit(1)


def _stop(number: int, _: Any) -> None:
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise StoppedError(f"signal {number}")


def main() -> None:
    """Run a batch job; exit codes as those of ``scorecat``."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(score)
    try:
        app()
    except ScorecatError as error:
        report_error(error)
        sys.exit(exit_code(error))
    except StoppedError:
        err.print("stopped before anything was scored")
        sys.exit(STOPPED)


if __name__ == "__main__":
    main()
