"""From a file that somebody else made to a registered version: read, planned, built, proved, published."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from catboost import CatBoost

from serve_app.errors import BadRequestError, InvalidDataError, NotFoundError
from serve_app.features.core.specs import FeatureSpec, arrow_schema
from serve_app.models.adapters.package_dir import save_package
from serve_app.models.adapters.proof import prove_package
from serve_app.models.catboost.facts import read_facts
from serve_app.models.catboost.files import load_catboost
from serve_app.models.catboost.scorer import CatBoostScorer
from serve_app.models.catboost.vocabulary import hash_labels, read_borders, read_known
from serve_app.models.core.manifest import Manifest
from serve_app.models.core.model_facts import ModelFacts
from serve_app.models.core.recommendation import Thresholds
from serve_app.models.core.schema_file import Schema, parse_schema
from serve_app.models.service.import_plan import ImportPlan, check_vocabularies, plan_import, propose_fills
from serve_app.models.service.import_report import build_report
from serve_app.models.service.importing import Sample, add_sample_classes, build_import
from serve_app.models.service.registry import CHAMPION, Registry
from serve_app.models.untrusted.model_file import ModelFile, read_model_file
from serve_app.models.untrusted.sandbox import Limits
from serve_app.storage.document_file import load_document

MISSING_CLASSES: Final = "missing-classes"
MAX_SAMPLE_ROWS: Final = 200_000
"""Rows of a sample that are used; a profile of them is exact to about 0.2 % of a share."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What a person says of a model that is imported.

    Attributes
    ----------
    name : str or None
        Name of the model; derived when None.
    schema, sample : Path or None
        Files.
    thresholds : Thresholds
    allow : tuple of str
        Checks overridden by name.
    memory_gib : float
        Memory for reading a pickle.
    """

    name: str | None = None
    schema: Path | None = None
    sample: Path | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    allow: tuple[str, ...] = ()
    memory_gib: float = 2.0


@dataclass(frozen=True, slots=True)
class _Original:
    """A model as its author made it, loaded; `borders` are the split points of numeric features by position."""

    file: ModelFile
    model: CatBoost
    facts: ModelFacts
    borders: dict[int, tuple[float, ...]]


def _read_original(path: Path, folder: Path, limits: Limits) -> _Original:
    """Read a model file, see `serve_app.models.untrusted.model_file.read_model_file`, and load its model."""
    file = read_model_file(path, folder, limits)
    model = load_catboost(file.model)
    return _Original(file, model, read_facts(model), read_borders(model))


def import_and_publish(
    path: Path, registry: Registry, options: ImportOptions, *, report: Callable[[str], None] = lambda _: None
) -> tuple[int, Manifest, dict[str, Any]]:
    """Read, plan, build, prove and publish; the first version of a name becomes its champion."""
    schema = parse_schema(load_document(options.schema, "the schema")) if options.schema else Schema()
    if options.name is not None:
        registry.aliases(options.name)  # an unusable name is refused before the work, not after it
    with tempfile.TemporaryDirectory(prefix="scorecat-import-") as folder:
        report("reading the file in a process of its own")
        original = _read_original(path, Path(folder), Limits(memory_bytes=int(options.memory_gib * (1 << 30))))
        document = original.file.document
        plan = plan_import(original.facts, document, schema)
        name = _choose_name(options.name or schema.name, document, plan, original.facts.task)
        aliases = registry.aliases(name)
        lacking = _check_vocabularies(original, plan, options.allow)
        proposals = propose_fills(plan, read_known(original.model), hash_labels)
        plan = replace(plan, notes=(*plan.notes, *proposals))
        sample = Sample(load_sample(options.sample, plan.features), options.sample.name) if options.sample else None
        plan = add_sample_classes(plan, sample)
        report("building and proving the package")
        parent = _find_parent(name, document, registry)
        manifest, used = _build(Path(folder) / "package", original, plan, sample, name, options.thresholds, parent)
        version = registry.publish(name, Path(folder) / "package")
    if CHAMPION not in aliases.versions:
        registry.move_alias(name, CHAMPION, version)
    return (
        version,
        manifest,
        build_report(manifest, document, original.file.protections, used, lacking, plan.vocabularies),
    )


def _build(
    directory: Path,
    original: _Original,
    plan: ImportPlan,
    sample: Sample | None,
    name: str,
    thresholds: Thresholds,
    parent_version: int | None,
) -> tuple[Manifest, dict[str, Any]]:
    package, used = build_import(
        name=name,
        facts=original.facts,
        plan=plan,
        model=CatBoostScorer(original.model, plan.features),
        borders=original.borders,
        sample=sample,
        document=original.file.document,
        imported_from=original.file.describe(),
        thresholds=thresholds,
        parent_version=parent_version,
    )
    manifest = save_package(directory, package)
    prove_package(directory)
    return manifest, used


def _check_vocabularies(original: _Original, plan: ImportPlan, allow: tuple[str, ...]) -> list[str]:
    lacking = check_vocabularies(plan, original.borders, read_known(original.model), hash_labels)
    if lacking and MISSING_CLASSES not in allow:
        raise InvalidDataError(
            f"a vocabulary lacks a class that the model needs. {'; '.join(lacking)}. Give the whole list in a schema "
            f"(--schema FILE), or import it as it is with --allow {MISSING_CLASSES}"
        )
    return lacking


def _choose_name(wanted: str | None, document: Mapping[str, Any], plan: ImportPlan, task: str) -> str:
    if wanted is not None:
        return wanted
    metadata = document.get("metadata")
    said = metadata.get("name", metadata.get("model_name")) if isinstance(metadata, dict) else None
    if isinstance(said, str) and said:
        return said
    if Manifest("x", "", task, plan.features).is_purchase:  # type: ignore[arg-type]
        return "purchase"
    raise BadRequestError("the file does not say what the model is called: give it a name with --name")


def _find_parent(name: str, document: Mapping[str, Any], registry: Registry) -> int | None:
    """Return the version that the file says it was exported from, if it is there."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or metadata.get("name") != name:
        return None
    version = metadata.get("version")
    return version if isinstance(version, int) and version in registry.versions(name) else None


def load_sample(path: Path, features: Sequence[FeatureSpec]) -> pa.RecordBatch:
    """Read the first rows of a Parquet or CSV file, only the columns that are features.

    Raises
    ------
    NotFoundError
        There is no such file.
    InvalidDataError
        It cannot be read, has no rows, or no column of a feature's name.
    """
    names = [spec.name for spec in features]
    try:
        if path.suffix.lower() == ".parquet":
            file = pq.ParquetFile(path)
            present = [name for name in names if name in file.schema_arrow.names]
            batches = file.iter_batches(batch_size=MAX_SAMPLE_ROWS, columns=present)
            batch = next(batches, None)
        else:
            types = {field.name: field.type for field in arrow_schema(tuple(features))}
            options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True)
            table = pyarrow.csv.read_csv(path, convert_options=options).slice(0, MAX_SAMPLE_ROWS)
            present = [name for name in names if name in table.column_names]
            batch = next(iter(table.select(present).combine_chunks().to_batches()), None)
    except FileNotFoundError as exc:
        raise NotFoundError(f"{path} is not there") from exc
    except UnicodeError as exc:
        raise InvalidDataError(f"{path} is no text in UTF-8: save it as UTF-8, or as Parquet") from exc
    except OSError as exc:
        reason = os.strerror(exc.errno) if exc.errno else "its bytes make no sense"
        raise InvalidDataError(f"{path} is no readable Parquet or CSV file: {reason}") from exc
    except pa.ArrowException as exc:
        raise InvalidDataError(f"{path} is no readable Parquet or CSV file: {exc}") from exc
    if not present:
        raise InvalidDataError(f"{path} has no column named like an input of the model: {', '.join(names[:10])}")
    if batch is None or not batch.num_rows:
        raise InvalidDataError(f"{path} has no rows")
    return batch
