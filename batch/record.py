"""A job's record, from its driver's side: it says every second that it lives, and hears when it is to end."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import typer

from batch.transforms.summary import measure_rate
from serve_app.errors import ScorecatError
from serve_app.jobs.adapters.record_folders import JobFolders
from serve_app.jobs.core.progress import Progress
from serve_app.jobs.core.record import JOB_ID, JobBeat, JobOrder, JobRows, JobState, PoolWish
from serve_app.terminal.exits import error_fields, exit_code

IN_JOB: Final = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets it for the entry point of a submitted job."""
BEAT_S: Final = 1.0
STOPPED: Final = 130


class StoppedError(BaseException):
    """Somebody asked the job to end."""


def find_submission_id(environment: Mapping[str, str]) -> str | None:
    """Return the id that this process was submitted to Ray under, when it can name a record."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        found = json.loads(environment[IN_JOB])["metadata"]["job_submission_id"]
        return found if JOB_ID.fullmatch(found) else None
    return None


class DriverRecord:
    """What a driver says of its job.

    Parameters
    ----------
    folders : JobFolders
    order : JobOrder
        What was asked; kept unless there is a record of this id.
    say : callable
        Takes messages for people.
    """

    def __init__(self, folders: JobFolders, order: JobOrder, say: Callable[[str], None]) -> None:
        self.job_id = order.id
        self._folders = folders
        self._order = order
        self._say = say
        now_s = time.time()
        self._beat = JobBeat("running", socket.gethostname(), os.getpid(), now_s, now_s)
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._is_told = False
        self._trouble = ""

    @property
    def is_from_http(self) -> bool:
        """Whether the job was asked for over HTTP: its record was there before its driver."""
        with contextlib.suppress(ScorecatError, OSError):
            return self._folders.find(self.job_id).order.origin == "http"
        return self._order.origin == "http"

    def begin(self) -> None:
        """Write the first beat and go on once a second."""
        try:
            self._folders.create(self._order)
        except OSError as exc:
            self._complain(exc)
        self._write()
        threading.Thread(target=self._run, name="beats", daemon=True).start()

    def note_version(self, model: str, version: int, before: JobRows) -> None:
        """Say what scores, and what earlier runs have done."""
        self._change(model=model, version=version, rows_before=before, rows=before)

    def show(self, done: Progress) -> None:
        """Say how far it is; written with the next beat."""
        rows = JobRows(done.rows, done.rows - done.rejected, done.rejected)
        self._change(rows=rows, progress=done)

    def want_pool(self, wish: PoolWish) -> None:
        """Ask the control app for an application that lives as long as this driver."""
        self._change(pool=wish)
        self._write()

    def pool_problem(self) -> str:
        """Return why the pool cannot be had; empty while it may come."""
        return self._folders.read_ruling(self.job_id).pool_problem

    def note_summary(self, written: Mapping[str, Any]) -> dict[str, Any]:
        """Say what ``_SUMMARY.json`` holds, and return that with the seconds that the run took."""
        summary = {**written, "seconds": round(time.time() - self._order.created_at_s, 1)}
        rows = JobRows(*(summary[f"rows_{kind}"] for kind in ("read", "scored", "rejected")))
        rate = measure_rate(summary) or (self._beat.progress.rows_per_s if self._beat.progress else 0.0)
        done = Progress(rows.read, summary["rows_planned"], rows.rejected, summary["share"], rate, None)
        self._change(rows=rows, summary=summary, progress=done)
        return summary

    def end(self, state: JobState, error: Mapping[str, Any] | None = None) -> None:
        """Say how it ended; the last beat."""
        self._is_over.set()
        self._change(state=state, error=error)
        self._write()

    def _change(self, **fields: Any) -> None:
        with self._lock:
            self._beat = dataclasses.replace(self._beat, **fields)

    def _run(self) -> None:
        while not self._is_over.wait(BEAT_S):
            self._write()
            with contextlib.suppress(OSError):
                ruling = self._folders.read_ruling(self.job_id)
                if ruling.cancelled_at_s is not None and not self._is_told:
                    self._is_told = True
                    self._say(f"told to end by {ruling.cancelled_by}")
                    os.kill(os.getpid(), signal.SIGTERM)

    def _write(self) -> None:
        with self._lock:
            self._beat = dataclasses.replace(self._beat, beat_at_s=time.time())
            try:
                self._folders.write_beat(self.job_id, self._beat)
            except OSError as exc:
                self._complain(exc)

    def _complain(self, exc: OSError) -> None:
        if not self._trouble:
            self._trouble = str(exc)
            self._say(f"`scorecat jobs` will not show this job: its record cannot be written ({exc})")


@contextlib.contextmanager
def recorded(folders: JobFolders, order: JobOrder, say: Callable[[str], None]) -> Iterator[DriverRecord]:
    """Give the record of a job, and write in it how the block ended."""
    record = DriverRecord(folders, order, say)
    record.begin()
    try:
        yield record
    except (StoppedError, KeyboardInterrupt):
        record.end("cancelled")
        raise
    except typer.Exit as exc:
        record.end("cancelled" if exc.exit_code == STOPPED else "incomplete")
        raise
    except ScorecatError as exc:
        record.end("failed", {**error_fields(exc), "exit_code": exit_code(exc)})
        raise
    except BaseException as exc:
        record.end("failed", {"code": "internal", "detail": f"{type(exc).__name__}: {exc}"[:1000]})
        raise
    record.end("succeeded")
