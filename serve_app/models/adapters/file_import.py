"""From a file that somebody else made to a registered version: read, planned, built, proved, published."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from catboost import CatBoost

from serve_app.errors import BadRequestError, InvalidDataError
from serve_app.models.adapters.package_dir import save_package
from serve_app.models.adapters.proof import prove_package
from serve_app.models.adapters.sample_file import load_sample
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
    schema = _load_schema(options.schema)
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
        sample = _load_sample(options.sample, plan)
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


def _load_schema(path: Path | None) -> Schema:
    return Schema() if path is None else parse_schema(load_document(path, "the schema"))


def _load_sample(path: Path | None, plan: ImportPlan) -> Sample | None:
    return None if path is None else Sample(load_sample(path, plan.features), path.name)


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
