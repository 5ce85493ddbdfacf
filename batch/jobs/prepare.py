"""Before a job runs: look at the input, fix the version, write the plan, or take up an earlier one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
from pydantic import TypeAdapter

from batch.storage.row_files import SUFFIXES, is_json_lines, look_at_files, pack_schema, text_type, unpack_schema
from batch.transforms.columns import Columns, choose_columns, parse_mapping
from batch.transforms.kept_columns import unify_kept
from batch.transforms.partitions import check_partitions
from batch.transforms.results import ResultColumns
from serve_app.errors import BadRequestError, ConflictError, InvalidDataError, NotFoundError
from serve_app.features.core.row_keys import KEY_SPECS
from serve_app.jobs.adapters.output_folder import PLAN, SUMMARY, OutputFolder
from serve_app.jobs.core.commits import UnitTally
from serve_app.jobs.core.spec import PLANNED, JobSpec
from serve_app.jobs.core.units import UNIT_ROWS, Unit, plan_units
from serve_app.models.core.manifest import Manifest
from serve_app.models.service.registry import CHAMPION, Registry
from serve_app.storage.file_listing import list_files
from serve_app.storage.locations import open_location

FORMAT: Final = 1
_COLUMNS: Final = TypeAdapter(Columns)
WORKER_CPUS: Final = 0.25
"""CPUs Ray reserves for a worker; a share, as for replicas: most of the work is done by those."""


@dataclass(frozen=True, slots=True)
class JobPlan:
    """A job as it was planned; what ``_job/plan.json`` holds.

    Attributes
    ----------
    spec : JobSpec
        See `JobSpec.planned`.
    model, version, digest : str, int, str
        The version that scores, and `Manifest.digest` of its package.
    columns : Columns
    schema : Schema
        Types of the columns that are kept, in all files, and of the others where the input is text.
    units : list of Unit
    not_read : tuple of str
        What else lies in the input's folder, in words.
    """

    spec: JobSpec
    model: str
    version: int
    digest: str
    columns: Columns
    schema: pa.Schema
    units: list[Unit]
    not_read: tuple[str, ...] = ()

    def to_json(self, created_at: str) -> dict[str, Any]:
        """Return the plan as a JSON object."""
        return {
            "format": FORMAT,
            "created_at": created_at,
            "model": self.model,
            "version": self.version,
            "digest": self.digest,
            **self.spec.said(*PLANNED),
            "columns": dataclasses.asdict(self.columns),
            "schema": pack_schema(self.schema),
            "not_read": list(self.not_read),
            "units": [dataclasses.asdict(unit) for unit in self.units],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> JobPlan:
        """Return the plan `to_json` gave."""
        options = {name: value.get(name) for name in PLANNED if name != "input"}
        spec = JobSpec.from_json({"input": value["input"], "output": "", "options": options})
        columns = _COLUMNS.validate_python(value["columns"])
        units = [Unit(**unit) for unit in value["units"]]
        schema = unpack_schema(value["schema"])
        not_read = tuple(value.get("not_read", ()))
        return cls(spec, value["model"], value["version"], value["digest"], columns, schema, units, not_read)


def plan_job(
    asked: JobSpec, model: str, output: OutputFolder, registry: Registry, *, is_confined: bool = False
) -> tuple[JobPlan, Manifest]:
    """Return the plan of a new job, or of the one that is to be resumed; nothing is written.

    `model` is what is asked for, or scores where nothing is; for the rest, and for errors, see `draft_plan` and
    `take_up`.
    """
    name, _, chosen = model.partition("@")
    if asked.resume:
        version = registry.resolve(name, chosen) if asked.model and chosen else None
        return take_up(asked, output, version, registry.manifest)
    version = registry.resolve(name, chosen or CHAMPION)
    manifest = registry.manifest(name, version)
    return draft_plan(asked, output, name, version, manifest, is_confined=is_confined), manifest


def begin_plan(plan: JobPlan, output: OutputFolder) -> None:
    """Write a new job's plan.

    Raises
    ------
    BadRequestError
        The output cannot be written.
    ConflictError
        Another job has begun there meanwhile.
    """
    output.prepare()
    output.claim()
    if output.read_json(PLAN) is not None:
        raise ConflictError(f"{output.location} holds a job's output: continue it with --resume")
    output.write_json(PLAN, plan.to_json(datetime.now(UTC).isoformat(timespec="seconds")))


def draft_plan(
    asked: JobSpec, output: OutputFolder, model: str, version: int, manifest: Manifest, unit_rows: int = UNIT_ROWS,
    *, is_confined: bool = False,
) -> JobPlan:  # fmt: skip
    """Look at every file of the input and return the plan of a new job; nothing is written.

    `is_confined` refuses links that lead out of the input's folder.

    Raises
    ------
    ConflictError
        There is something at the output.
    InvalidDataError, NotFoundError
        The input is empty, or its columns are not those of the model.
    """
    if not output.is_empty():
        what = "a job's output: continue it with --resume" if output.read_json(PLAN) else "files already"
        raise ConflictError(f"{output.location} holds {what}, or choose another folder")
    spec = asked.planned()
    mapping = parse_mapping(spec.mapping or None, manifest.features)
    specs = (*manifest.features, *KEY_SPECS) if mapping.has_history else manifest.features
    listing = list_files(*open_location(spec.input), SUFFIXES, shown=spec.input, is_confined=is_confined)
    files = look_at_files(spec.input, listing.files, specs, dict(mapping.columns))
    readable = [(found.file.path, found.schema) for found in files if found.schema is not None]
    if not readable:
        raise InvalidDataError(f"no file of {spec.input} can be read; {files[0].file.path} {files[0].problem}")
    results = ResultColumns(manifest, version, spec.explain or 0)
    chosen = [
        choose_columns(path, schema, manifest.features, mapping, spec.keep, results.schema.names)
        for path, schema in readable
    ]
    columns, kept = chosen[0], unify_kept(readable, chosen, is_json=any(is_json_lines(path) for path, _ in readable))
    check_partitions(spec.partition_by or (), kept, readable[0][1].names, results.schema.names, manifest.class_labels)
    by_name = {spec.name: text_type(spec) for spec in specs}
    others = [pa.field(column, by_name[name]) for name, column in (*columns.features, *columns.keys)]
    schema = pa.schema([*kept, *(field for field in others if field.name not in kept.names)])
    units = plan_units([f.file for f in files], unit_rows)
    return JobPlan(spec, model, version, manifest.digest, columns, schema, units, tuple(listing.left_out))


def take_up(
    asked: JobSpec, output: OutputFolder, version: int | None, load_manifest: Callable[[str, int], Manifest]
) -> tuple[JobPlan, Manifest]:
    """Read the plan of an earlier job and check that it can go on.

    Parameters
    ----------
    asked : JobSpec
        What is said now must be what was asked then; the rest is taken from there.
    output : OutputFolder
    version : int or None
        The version that is asked for; None for that of the plan.
    load_manifest : callable
        ``load_manifest(model, version)``.

    Raises
    ------
    NotFoundError
        No job was begun there.
    ConflictError
        The request, the package or a file that is still to be read is another one.
    """
    value = output.read_json(PLAN)
    if value is None:
        raise NotFoundError(f"{output.location} holds no job that could be resumed: leave --resume out")
    if value.get("format") != FORMAT:
        raise ConflictError(f"{output.location} was planned by another release of scorecat: start a new job")
    plan = JobPlan.from_json(value)
    if asked.model and (name := asked.model.partition("@")[0]) != plan.model:
        raise ConflictError(f"{output.location} was begun with the model {plan.model}, not {name}")
    then, now = plan.spec.said(*PLANNED), asked.said(*PLANNED)
    for name, value_now in now.items():
        if then.get(name) != value_now:
            raise ConflictError(
                f"{output.location} was begun with {name.replace('_', '-')} {then.get(name)!r}, now it is "
                f"{value_now!r}: leave that out, which resumes as it was begun, or start a new job in another folder"
            )
    if version is not None and version != plan.version:
        raise ConflictError(
            f"{output.location} was begun with version {plan.version}, not {version}: its rows must not mix"
        )
    manifest = load_manifest(plan.model, plan.version)
    if manifest.digest != plan.digest:
        raise ConflictError(f"the package {plan.model} v{plan.version} is not the one that the job began with")
    return plan, manifest


def check_unchanged(plan: JobPlan, tally: UnitTally) -> None:
    """Raise ConflictError when a file that was begun or is to be read has changed since the plan."""
    system, _ = open_location(plan.spec.input)
    seen: dict[str, tuple[int, int]] = {}
    for unit in tally.open_units:
        if unit.path not in seen:
            info = system.get_file_info(unit.path)
            seen[unit.path] = (info.size or 0, info.mtime_ns or 0)
        if unit.n_groups is None and unit.number not in tally.commits:
            continue  # nothing of it is in the output: it may have been repaired
        if seen[unit.path] != (unit.n_bytes, unit.modified_ns):
            raise ConflictError(f"{unit.path} has changed since the job was planned: start a new job in another folder")


def describe(plan: JobPlan, tally: UnitTally) -> dict[str, Any]:
    """Return what ``_SUMMARY.json`` holds of the job and its rows."""
    return {
        "model": plan.model,
        "version": plan.version,
        **{name: value for name, value in plan.spec.said(*PLANNED).items() if value},
        **({"not_read": list(plan.not_read)} if plan.not_read else {}),
        **tally.to_summary(),
    }


def begin_again(output: OutputFolder, plan: JobPlan) -> UnitTally:
    """Return what is done of a plan, and clear away what was left half done.

    Raises ConflictError while another job writes there.
    """
    output.prepare()
    output.claim()
    output.clean_staging()
    output.remove(SUMMARY)
    tally = UnitTally(plan.units)
    tally.add(output.commits())
    return tally


def with_workers(wanted: int | None, n_free: float, per_worker: float, n_default: int) -> tuple[int, str]:
    """Return how many workers to start, and a message when it is not what was asked for.

    Raises
    ------
    BadRequestError
        Not one fits: starting it anyway would wait for ever.
    """
    n_wanted = wanted or n_default
    n_fit = int(n_free / per_worker + 1e-9)
    if n_fit < 1:
        raise BadRequestError(
            f"no CPU is free for a worker ({n_free:g} free, {per_worker:g} needed): wait for other jobs, or start "
            "the service with more CPUs (SCORECAT_NUM_CPUS)"
        )
    if n_fit >= n_wanted:
        return n_wanted, ""
    return n_fit, f"{n_fit} workers in place of {n_wanted}: {n_free:g} CPUs are free"
