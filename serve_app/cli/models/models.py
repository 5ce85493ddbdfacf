"""``scorecat models``: what is in the registry."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from serve_app.cli.models.models_table import describe_version, models_table
from serve_app.errors import BadRequestError, InvariantError, NotFoundError
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.models.adapters.package_dir import MODEL, load_manifest, load_package
from serve_app.models.service.model_page import render_model_page
from serve_app.models.service.packaging import prove_encoder, prove_model
from serve_app.models.service.ports import CHAMPION, Registry, UnfinishedUpload
from serve_app.terminal.console import JsonOption, err, out, print_json, print_page
from serve_app.wiring import open_settings_registry

app = typer.Typer(help="List, read, prove and name the models of the registry.", no_args_is_help=True)

ModelArgument = Annotated[str, typer.Argument(help="name, name@version or name@alias; alone means name@champion.")]


@app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List all models, versions and aliases, and uploads that did not come to their end."""
    registry = open_settings_registry()
    models = {name: _describe(registry, name) for name in registry.names()}
    unfinished = registry.unfinished()
    if as_json:
        print_json({"registry": registry.where, "models": models, "unfinished": to_json(unfinished)})
        return
    if not models:
        out.print(f"no models in {registry.where}; `scorecat train EVENTS` makes one", markup=False)
    else:
        out.print(models_table(models))
    for name, model in models.items():
        for one in (model, *model["versions"]):
            if "error" in one:
                version = f" v{one['version']}" if "version" in one else ""
                err.print(f"error: {name}{version}: {one['error']}", style="red", markup=False)
    print_unfinished(unfinished)


@app.command("show")
def show(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Print a model's page: quality with intervals, bands, importance, features, lineage."""
    from serve_app.models.catboost.importance import load_facts

    directory, name, version = locate(model)
    manifest = load_manifest(directory)
    facts = load_facts(directory / MODEL, manifest.feature_names)
    if as_json:
        print_json(
            {
                "model": name,
                "version": version,
                "path": str(directory),
                "manifest": manifest.to_json(),
                **facts.to_json(),
            }
        )
    else:
        page = render_model_page(manifest, facts)
        print_page(page)
        out.print(f"{name} version {version} in {directory}", markup=False)


@app.command("verify")
def verify(
    model: Annotated[str | None, typer.Argument(help="name, name@version or name@alias; or --all.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every version of every model.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every file's SHA-256 as it is stored now, and reproduce the golden rows."""
    if every == (model is not None):
        raise BadRequestError("name a model, or say --all: one of the two")
    registry = open_settings_registry()
    if model is not None:
        name, version = resolve(registry, model)
        n_rows = _prove(registry, name, version)
        if as_json:
            print_json({"model": name, "version": version, "verified": True, "golden_rows": n_rows})
        else:
            out.print(f"{name} v{version}: all files are whole, {n_rows} golden rows reproduced")
        return
    results = [_try_to_prove(registry, name, v) for name in registry.names() for v in registry.versions(name)]
    unfinished = registry.unfinished()
    n_bad = sum(not result["verified"] for result in results)
    if as_json:
        print_json({"registry": registry.where, "versions": results, "unfinished": to_json(unfinished)})
    else:
        for result in results:
            text = f"whole, {result['golden_rows']} golden rows reproduced" if result["verified"] else result["error"]
            out.print(f"{result['model']} v{result['version']}: {text}", markup=False)
        print_unfinished(unfinished)
        out.print(f"{len(results) - n_bad} of {len(results)} versions of {registry.where} are whole", markup=False)
    if n_bad:
        raise typer.Exit(1)


def locate(model: str) -> tuple[Path, str, int]:
    """Return directory, name and version of a model as a person names it."""
    registry = open_settings_registry()
    name, version = resolve(registry, model)
    return registry.locate(name, version), name, version


def resolve(registry: Registry, model: str) -> tuple[str, int]:
    """Return name and version of a model as a person names it."""
    name, at, wanted = model.partition("@")
    if at and not wanted:
        raise BadRequestError(f"{model!r} names no version: write {name}@1 or {name}@champion")
    return name, registry.resolve(name, wanted or CHAMPION)


def print_unfinished(unfinished: Mapping[str, list[UnfinishedUpload]]) -> None:
    """Say which uploads did not come to their end."""
    for name, uploads in unfinished.items():
        for upload in uploads:
            by = f" by {upload.by}" if upload.by else ""
            err.print(
                f"{name}: {upload.what} is unfinished, begun {upload.begun_at}{by}: nobody sees it; "
                f"if nobody works on it any more, `scorecat models clean {name}`",
                markup=False,
            )


def to_json(unfinished: Mapping[str, list[UnfinishedUpload]]) -> dict[str, Any]:
    """Return unfinished uploads by model as JSON."""
    return {name: [dataclasses.asdict(upload) for upload in uploads] for name, uploads in unfinished.items()}


def _try_to_prove(registry: Registry, name: str, version: int) -> dict[str, Any]:
    result: dict[str, Any] = {"model": name, "version": version, "verified": False}
    try:
        return {**result, "verified": True, "golden_rows": _prove(registry, name, version)}
    except (InvariantError, NotFoundError) as exc:  # of this version; a store that is gone ends the command
        return {**result, "error": str(exc)}


def _prove(registry: Registry, name: str, version: int) -> int:
    """Prove a version and return its number of golden rows."""
    from serve_app.models.catboost.scorer import CatBoostScorer

    with registry.open_stored(name, version) as directory:
        package = load_package(directory, CatBoostScorer.load)
        prove_encoder(package, FeatureEncoder(package.manifest.features, package.vocabularies))
        prove_model(package)
    return int(package.golden.num_rows)


def _describe(registry: Registry, name: str) -> dict[str, Any]:
    versions: list[dict[str, Any]] = []
    for version in registry.versions(name):
        try:
            manifest = registry.manifest(name, version)
        except InvariantError as exc:  # one damaged version must not hide the others
            versions.append({"version": version, "error": str(exc)})
            continue
        versions.append(describe_version(version, manifest))
    try:
        return {"versions": versions, "aliases": dict(registry.aliases(name).versions)}
    except InvariantError as exc:
        return {"versions": versions, "aliases": {}, "error": str(exc)}
