"""The output of a job: parts that appear whole, and the records of what is in them.

::

    <output>/part-000012-0000.parquet      scored rows of a chunk of unit 12
    <output>/_rejected/part-…              its rejected rows
    <output>/_job/plan.json                what was asked, the units
    <output>/_job/run.json                 how the last run was asked for
    <output>/_job/commits/000012-0000.json written after the parts: the chunk is done
    <output>/_SUMMARY.json                 written last
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.fs as pafs
from pydantic import TypeAdapter

from serve_app.errors import BadRequestError, ConflictError, InvariantError
from serve_app.jobs.core.commits import Commit, UnitTally
from serve_app.jobs.core.record import Committed
from serve_app.jobs.core.units import Unit
from serve_app.runtime.shown_values import say_os_error
from serve_app.storage.locations import open_location

PLAN: Final = "_job/plan.json"
RUN_OPTIONS: Final = "_job/run.json"
SUMMARY: Final = "_SUMMARY.json"
COMMITS: Final = "_job/commits"
STAGING: Final = "_job/staging"
LOCK: Final = "_job/lock"
REJECTED: Final = "_rejected"
COMMIT: Final = TypeAdapter(Commit)
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


_CLAIMED: Final[dict[str, IO[str]]] = {}
"""Open locks by folder; a lock goes with its process, however that ends."""


class OutputFolder:
    """Where a job writes.

    Parameters
    ----------
    location : str
        A local path, or ``s3://…``, ``gs://…``. Local files appear by a rename, objects when their
        upload is complete.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._system, self.root = open_location(location)
        self._is_local = isinstance(self._system, pafs.LocalFileSystem)

    def prepare(self) -> None:
        """Make the folders; raises BadRequestError when that is not possible."""
        with _explained(self.location):
            if self._is_local:
                for name in (COMMITS, STAGING):
                    self._system.create_dir(f"{self.root}/{name}", recursive=True)

    def is_empty(self) -> bool:
        """Whether there is nothing at the location yet."""
        with _explained(self.location):
            selector = pafs.FileSelector(self.root, allow_not_found=True)
            info = self._system.get_file_info(self.root)
            if info.type == pafs.FileType.File:
                raise BadRequestError(f"{self.location} is a file; the output is a folder")
            return not self._system.get_file_info(selector)

    def claim(self) -> None:
        """Keep other processes of this machine from writing here while this one lives; a bucket cannot be claimed.

        Raises
        ------
        ConflictError
            A job writes here now.
        """
        if not self._is_local or self.root in _CLAIMED:
            return
        with _explained(self.location):
            path = Path(self.root) / LOCK
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                file.close()
                raise ConflictError(
                    f"a job writes into {self.location} now (`scorecat jobs list` shows it): wait for it, or end it "
                    "with `scorecat jobs cancel`"
                ) from exc
        _CLAIMED[self.root] = file

    def clean_staging(self) -> None:
        """Remove what workers that were killed left half written."""
        if self._is_local:
            with contextlib.suppress(OSError):
                self._system.delete_dir_contents(f"{self.root}/{STAGING}", missing_dir_ok=True)

    def read_json(self, name: str, parse: Callable[[bytes], Any] = json.loads) -> Any:
        """Return the content of a record, None when there is none; `parse` raises ValueError for what is none."""
        with _explained(self.location):
            try:
                with self._system.open_input_stream(f"{self.root}/{name}") as stream:
                    return parse(stream.read())
            except FileNotFoundError:
                return None
            except ValueError as exc:
                raise InvariantError(f"{self.location}/{name} is damaged: {exc}") from exc

    def write_json(self, name: str, value: Any) -> None:
        """Write a record; it appears whole or not at all."""
        with self.create(name) as sink:
            sink.write(json.dumps(value, indent=1, ensure_ascii=False).encode())

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        with _explained(self.location), contextlib.suppress(FileNotFoundError):
            self._system.delete_file(f"{self.root}/{name}")

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[Any]:
        """Give a sink whose content becomes the file `name` when the block ends without error."""
        if not {"", ".", ".."}.isdisjoint(name.split("/")):
            raise InvariantError(f"{name!r} is no file below the output")
        final = f"{self.root}/{name}"
        with _explained(self.location):
            if not self._is_local:
                with self._create_remote(final) as sink:
                    yield sink
                return
            staged = f"{self.root}/{STAGING}/{uuid.uuid4().hex}"
            try:
                with pa.OSFile(staged, "wb") as sink:
                    yield sink
                _sync(staged)
                Path(final).parent.mkdir(parents=True, exist_ok=True)
                Path(staged).replace(final)
            except BaseException:
                Path(staged).unlink(missing_ok=True)
                raise

    @contextlib.contextmanager
    def _create_remote(self, final: str) -> Iterator[Any]:
        # A stream to an object store completes the object even when it is closed by an error.
        with tempfile.TemporaryDirectory() as folder:
            staged = f"{folder}/part"
            with pa.OSFile(staged, "wb") as sink:
                yield sink
            pafs.copy_files(staged, final, pafs.LocalFileSystem(), self._system)

    def commit(self, commit: Commit) -> None:
        """Record that a chunk is in the output; its files must be there already."""
        self.write_json(f"{COMMITS}/{commit.unit:06d}-{commit.chunk:04d}.json", dataclasses.asdict(commit))

    def commits(self, units: Collection[int] | None = None) -> list[Commit]:
        """Return the commits of some units or of all, by unit and chunk."""
        selector = pafs.FileSelector(f"{self.root}/{COMMITS}", allow_not_found=True)
        with _explained(self.location):
            there = self._system.get_file_info(selector)
        names = sorted(i.base_name for i in there if i.base_name.endswith(".json"))
        wanted = None if units is None else {f"{unit:06d}" for unit in units}
        names = [name for name in names if wanted is None or name.partition("-")[0] in wanted]
        found = [self.read_json(f"{COMMITS}/{name}", COMMIT.validate_json) for name in names]
        return [commit for commit in found if commit is not None]


def count_committed(location: str) -> Committed | None:
    """Return what is committed of the job that writes to a place; None where no job was planned.

    Whatever its driver said last, it is what ``--resume`` goes on from.

    Raises
    ------
    BadRequestError, InvariantError
        The place cannot be read, or a record there is damaged.
    """
    output = OutputFolder(location)
    plan = output.read_json(PLAN)
    if plan is None:
        return None
    tally = UnitTally([Unit(**unit) for unit in plan["units"]])
    tally.add(output.commits())
    return Committed(tally.counts, tally.share)


def is_full(exc: BaseException) -> bool:
    """Whether an error means that there is no space left."""
    return isinstance(exc, OSError) and (exc.errno in _FULL or "No space left" in str(exc))


@contextlib.contextmanager
def _explained(location: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as exc:
        raise BadRequestError(f"{location} cannot be written: permission denied") from exc
    except OSError as exc:
        if is_full(exc):
            raise BadRequestError(f"{location}: no space left. Free some, then continue with --resume") from exc
        raise BadRequestError(f"{location} cannot be written or read: {say_os_error(exc)}") from exc


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
