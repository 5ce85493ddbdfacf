"""Records of batch jobs: a folder each, in which every file has one writer.

::

    <home>/jobs/<id>/order.json    what was asked: by who asks, once
    <home>/jobs/<id>/beat.json     by the driver, once a second
    <home>/jobs/<id>/ruling.json   by the control app
    <home>/jobs/<id>/output/       results of a job that names no output
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil
from pydantic import TypeAdapter

from serve_app.errors import NotFoundError
from serve_app.jobs.core.record import ENDED, JOB_ID, JobBeat, JobOrder, JobRecord, JobRuling
from serve_app.storage.json_file import replace_json

ORDER: Final = "order.json"
BEAT: Final = "beat.json"
RULING: Final = "ruling.json"
MAPPING: Final = "mapping.json"
OUTPUT: Final = "output"
_BEAT: Final = TypeAdapter(JobBeat)
_RULING: Final = TypeAdapter(JobRuling)
Part = TypeVar("Part")
_HIDDEN: Final = "_job"
"""A job's own records below its output."""


class JobFolders:
    """A `serve_app.jobs.service.ports.JobStore` on a folder of this machine.

    Parameters
    ----------
    root : Path
        Made when the first job comes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._host = socket.gethostname()
        self._over: dict[str, JobRecord] = {}

    def create(self, order: JobOrder) -> None:
        """Begin a record; does nothing when there is one."""
        if not (self.root / order.id / ORDER).exists():
            self._write(order.id, ORDER, order.to_json())

    def all(self) -> list[JobRecord]:
        """Return every record, oldest first; folders that are no record are passed over."""
        try:
            names = {path.name for path in self.root.iterdir() if JOB_ID.fullmatch(path.name)}
        except FileNotFoundError:
            return []
        self._over = {name: record for name, record in self._over.items() if name in names}
        found = [record for name in names if (record := self._load(name)) is not None]
        return sorted(found, key=lambda r: (r.order.created_at_s, r.order.id))

    def find(self, job_id: str) -> JobRecord:
        """Return a record; raises NotFoundError."""
        found = self._load(job_id) if JOB_ID.fullmatch(job_id) else None
        if found is None:
            raise NotFoundError(f"there is no job {job_id}; `scorecat jobs list` shows those whose record is kept")
        return found

    def rule(self, job_id: str, ruling: JobRuling) -> None:
        """Replace what was decided of a job."""
        self._write(job_id, RULING, dataclasses.asdict(ruling))

    def read_ruling(self, job_id: str) -> JobRuling:
        """Return what was decided of a job."""
        return self._read(job_id, RULING, _RULING.validate_python) or JobRuling()

    def write_beat(self, job_id: str, beat: JobBeat) -> None:
        """Replace what the driver says."""
        self._write(job_id, BEAT, dataclasses.asdict(beat))

    def save_mapping(self, job_id: str, mapping: Mapping[str, Any]) -> str:
        """Keep a mapping beside the record and return its path."""
        self._write(job_id, MAPPING, dict(mapping))
        return str(self.root / job_id / MAPPING)

    def remove(self, job_id: str) -> None:
        """Remove a record, and the output that belongs to it."""
        self.find(job_id)
        self._over.pop(job_id, None)
        shutil.rmtree(self.root / job_id, ignore_errors=True)

    def place_output(self, job_id: str) -> str:
        """Return where the output of a job goes that names none."""
        return str(self.root / job_id / OUTPUT)

    def results(self, job_id: str) -> dict[str, int]:
        """Return the bytes of each file of a job's own output, by its path below that."""
        folder = self.root / job_id / OUTPUT
        paths = [p for p in folder.rglob("*") if p.relative_to(folder).parts[0] != _HIDDEN and p.is_file()]
        return {p.relative_to(folder).as_posix(): p.stat().st_size for p in sorted(paths)}

    def find_result(self, job_id: str, name: str) -> Path:
        """Return where a file of a job's own output is; raises NotFoundError for everything else."""
        self.find(job_id)
        folder = (self.root / job_id / OUTPUT).resolve()
        with contextlib.suppress(ValueError, OSError):  # a name with a null byte, too long a name
            path = (folder / name).resolve()
            inside = path.relative_to(folder).parts
            if inside and inside[0] != _HIDDEN and not name.endswith("/") and path.is_file():
                return path
        raise NotFoundError(f"job {job_id} has no result {name!r}; /v1/jobs/{job_id} lists what it has")

    def _load(self, job_id: str) -> JobRecord | None:
        if job_id in self._over:
            return self._over[job_id]
        order, beat = self._read(job_id, ORDER, JobOrder.from_json), self._read(job_id, BEAT, _BEAT.validate_python)
        if order is None:
            return None
        record = JobRecord(order, beat, self.read_ruling(job_id), self._is_gone(beat))
        if beat is not None and beat.state in ENDED:
            self._over[job_id] = record  # nothing of it changes any more
        return record

    def _is_gone(self, beat: JobBeat | None) -> bool:
        if beat is None or beat.host != self._host:
            return False
        with contextlib.suppress(psutil.Error):
            return psutil.Process(beat.pid).status() == psutil.STATUS_ZOMBIE
        return True

    def _read(self, job_id: str, name: str, parse: Callable[[Any], Part]) -> Part | None:
        """Return a part of a record; None where there is none, or one that is torn or of another release."""
        try:
            return parse(json.loads((self.root / job_id / name).read_bytes()))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    def _write(self, job_id: str, name: str, value: dict[str, Any]) -> None:
        folder = self.root / job_id
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_json(folder / name, value)
