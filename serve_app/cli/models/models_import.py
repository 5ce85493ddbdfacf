"""``scorecat models import`` and ``models export``: the door for models that were made elsewhere."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version as library_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from serve_app.cli.models.champion_gap import describe_new_version
from serve_app.cli.models.models import ModelArgument, locate
from serve_app.cluster.running import find_served
from serve_app.errors import BadRequestError, InvalidDataError
from serve_app.models.adapters.registry_aliases import check_alias
from serve_app.models.core.manifest import Manifest
from serve_app.models.core.recommendation import Thresholds
from serve_app.models.core.schema_file import Schema, parse_schema
from serve_app.models.service.import_plan import ImportPlan, check_vocabularies, plan_import, propose_fills
from serve_app.models.service.import_report import build_report, render_report
from serve_app.models.service.importing import Sample, add_sample_classes, build_import
from serve_app.models.service.ports import CHAMPION, Registry
from serve_app.settings import load_settings
from serve_app.terminal.console import JsonOption, err, out, print_json
from serve_app.wiring import find_default, open_settings_registry

if TYPE_CHECKING:
    from serve_app.models.adapters.original import Original

MISSING_CLASSES: Final = "missing-classes"
_LIBRARIES: Final = ("catboost", "numpy", "pyarrow", "scorecat")


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


def import_model(
    path: Annotated[Path, typer.Argument(help="deployed_model.pkl (joblib or pickle), or a CatBoost .cbm or .json.")],
    name: Annotated[str | None, typer.Option(help="Name of the model in the registry.")] = None,
    alias: Annotated[str | None, typer.Option(help="Point this alias at the new version.")] = None,
    schema: Annotated[Path | None, typer.Option(help="JSON or YAML file that describes the inputs.")] = None,
    sample: Annotated[Path | None, typer.Option(help="Parquet or CSV file of input rows.")] = None,
    threshold_medium: Annotated[float, typer.Option(help="Lowest probability of the medium band.")] = 0.5,
    threshold_high: Annotated[float, typer.Option(help="Highest probability of the medium band.")] = 0.7,
    allow: Annotated[list[str] | None, typer.Option(help=f"Override a check: {MISSING_CLASSES}.")] = None,
    max_memory: Annotated[float, typer.Option(help="GiB of memory for reading a pickle.", min=0.25, max=64)] = 2.0,
    as_json: JsonOption = False,
) -> None:
    """Import a model that was made elsewhere: nothing in the file is run, the package is checked and registered."""
    unknown = sorted(set(allow or ()) - {MISSING_CLASSES})
    if unknown:
        raise BadRequestError(f"there is no check {', '.join(unknown)}; there is {MISSING_CLASSES}")
    options = ImportOptions(
        name, schema, sample, Thresholds(threshold_medium, threshold_high), tuple(allow or ()), max_memory
    )
    if alias is not None:
        check_alias(alias)
    settings = load_settings()
    registry = open_settings_registry(settings)
    with err.status("") as status:
        version, manifest, report = import_and_publish(path, registry, options, report=status.update)
    if alias is not None:
        registry.move_alias(manifest.name, alias, version)
    named = registry.aliases(manifest.name).versions
    next_step = describe_new_version(
        manifest.name,
        version,
        named.get(CHAMPION),
        find_served(settings),
        find_default(settings, registry).partition("@")[0],
    )
    aliases = sorted(a for a, v in named.items() if v == version)
    report = {"name": manifest.name, "version": version, "aliases": aliases, "next": next_step, **report}
    if as_json:
        print_json(report)
    else:
        out.print(render_report(report), markup=False)


def import_and_publish(
    path: Path, registry: Registry, options: ImportOptions, *, report: Callable[[str], None] = lambda _: None
) -> tuple[int, Manifest, dict[str, Any]]:
    """Read, plan, build, prove and publish; the first version of a name becomes its champion."""
    from serve_app.models.adapters.original import read_original
    from serve_app.models.untrusted.sandbox import Limits

    schema = _load_schema(options.schema)
    if options.name is not None:
        registry.aliases(options.name)  # an unusable name is refused before the work, not after it
    with tempfile.TemporaryDirectory(prefix="scorecat-import-") as folder:
        report("reading the file in a process of its own")
        original = read_original(path, Path(folder), Limits(memory_bytes=int(options.memory_gib * (1 << 30))))
        document = original.file.document
        plan = plan_import(original.facts, document, schema)
        name = _choose_name(options.name or schema.name, document, plan, original.facts.task)
        aliases = registry.aliases(name)
        lacking = _check_vocabularies(original, plan, options.allow)
        plan = _add_proposals(original, plan)
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
    original: Original,
    plan: ImportPlan,
    sample: Sample | None,
    name: str,
    thresholds: Thresholds,
    parent_version: int | None,
) -> tuple[Manifest, dict[str, Any]]:
    from serve_app.models.adapters.package_dir import save_package
    from serve_app.models.catboost.scorer import CatBoostScorer

    built = build_import(
        directory,
        name=name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        facts=original.facts,
        plan=plan,
        model=CatBoostScorer(original.model, plan.features),
        borders=original.borders,
        sample=sample,
        document=original.file.document,
        imported_from=original.file.describe(),
        thresholds=thresholds,
        libraries={library: library_version(library) for library in _LIBRARIES},
        parent_version=parent_version,
        save=save_package,
    )
    prove_package(directory)
    return built


def _load_schema(path: Path | None) -> Schema:
    from serve_app.storage.document_file import load_document

    return Schema() if path is None else parse_schema(load_document(path, "the schema"))


def _load_sample(path: Path | None, plan: ImportPlan) -> Sample | None:
    from serve_app.models.adapters.sample_file import load_sample

    return None if path is None else Sample(load_sample(path, plan.features), path.name)


def _check_vocabularies(original: Original, plan: ImportPlan, allow: tuple[str, ...]) -> list[str]:
    from serve_app.models.catboost.vocabulary import hash_labels, read_known

    lacking = check_vocabularies(plan, original.borders, read_known(original.model), hash_labels)
    if lacking and MISSING_CLASSES not in allow:
        raise InvalidDataError(
            f"a vocabulary lacks a class that the model needs. {'; '.join(lacking)}. Give the whole list in a schema "
            f"(--schema FILE), or import it as it is with --allow {MISSING_CLASSES}"
        )
    return lacking


def _add_proposals(original: Original, plan: ImportPlan) -> ImportPlan:
    from serve_app.models.catboost.vocabulary import hash_labels, read_known

    proposals = propose_fills(plan, read_known(original.model), hash_labels)
    return replace(plan, notes=(*plan.notes, *proposals))


def export_model(
    model: ModelArgument,
    path: Annotated[Path, typer.Argument(help="File to write: .pkl, .joblib, .cbm or .json.")],
    force: Annotated[bool, typer.Option("--force", help="Write over an existing file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a model for code without scorecat: a deployed_model.pkl, or CatBoost's own file."""
    from serve_app.models.adapters import model_export

    directory, name, version = locate(model)
    if path.is_dir():
        raise BadRequestError(f"{path} is a folder: name a file in it")
    if path.exists() and not force:
        raise BadRequestError(f"{path} exists: choose another name, or write over it with --force")
    keys = model_export.export_model(directory, path, version)
    if as_json:
        print_json({"model": name, "version": version, "path": str(path), "keys": keys})
        return
    out.print(f"{name} v{version} written to {path}", markup=False)
    if keys:
        out.print(f"load it with joblib.load({str(path)!r}); it is a dict of {', '.join(keys)}", markup=False)


def prove_package(directory: Path) -> None:
    """Read a package from disk and reproduce its golden rows; raises PackageError or GoldenMismatchError."""
    from serve_app.features.core.encoding import FeatureEncoder
    from serve_app.models.adapters.package_dir import load_package
    from serve_app.models.catboost.scorer import CatBoostScorer
    from serve_app.models.service.packaging import prove_encoder, prove_model

    package = load_package(directory, CatBoostScorer.load)
    prove_encoder(package, FeatureEncoder(package.manifest.features, package.vocabularies))
    prove_model(package)


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
