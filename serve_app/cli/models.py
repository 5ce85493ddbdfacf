"""``scorecat models``: what is in the registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markdown import Markdown

from serve_app.adapters.package_dir import MODEL, load_manifest, load_package
from serve_app.adapters.registry import DirectoryRegistry
from serve_app.cli.console import JsonOption, out, print_json
from serve_app.cli.models_table import describe_version, models_table
from serve_app.core.encoding import FeatureEncoder
from serve_app.core.errors import BadRequestError
from serve_app.service.model_page import render_model_page
from serve_app.service.packaging import prove_encoder, prove_model
from serve_app.settings import load_settings

app = typer.Typer(help="List, read, prove and name the models of the registry.", no_args_is_help=True)

ModelArgument = Annotated[str, typer.Argument(help="name, name@version or name@alias; alone means name@champion.")]


@app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List all models, versions and aliases."""
    registry = DirectoryRegistry(load_settings().registry_root)
    models = {name: _describe(registry, name) for name in registry.names()}
    if as_json:
        print_json({"models": models})
        return
    if not models:
        out.print(f"no models in {registry.root}; `scorecat train EVENTS` makes one", markup=False)
    out.print(models_table(models))


@app.command("show")
def show(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Print a model's page: quality with intervals, bands, importance, features, lineage."""
    from serve_app.adapters.catboost_importance import load_facts

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
        out.print(Markdown(render_model_page(manifest, facts)))
        out.print(f"{name} version {version} in {directory}", markup=False)


@app.command("verify")
def verify(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Check every file's SHA-256 and reproduce the golden rows."""
    from serve_app.adapters.catboost_model import CatBoostScorer

    directory, name, version = locate(model)
    package = load_package(directory, CatBoostScorer.load)
    prove_encoder(package, FeatureEncoder(package.manifest.features, package.vocabularies))
    prove_model(package)
    if as_json:
        print_json({"model": name, "version": version, "verified": True, "golden_rows": package.golden.num_rows})
    else:
        out.print(f"{name} v{version}: all files are whole, {package.golden.num_rows} golden rows reproduced")


@app.command("alias")
def alias(model: ModelArgument, name: Annotated[str, typer.Argument(help="Alias, for example champion.")]) -> None:
    """Point an alias at a version."""
    registry = DirectoryRegistry(load_settings().registry_root)
    _, model_name, version = locate(model)
    registry.move_alias(model_name, name, version, expected=registry.aliases(model_name))
    out.print(f"{model_name}@{name} is now version {version}")


def locate(model: str) -> tuple[Path, str, int]:
    """Return directory, name and version of a model as a person names it."""
    registry = DirectoryRegistry(load_settings().registry_root)
    name, at, wanted = model.partition("@")
    if at and not wanted:
        raise BadRequestError(f"{model!r} names no version: write {name}@1 or {name}@champion")
    version = registry.resolve(name, wanted or "champion")
    return registry.locate(name, version), name, version


def _describe(registry: DirectoryRegistry, name: str) -> dict[str, Any]:
    versions = [
        describe_version(version, load_manifest(registry.locate(name, version))) for version in registry.versions(name)
    ]
    return {"versions": versions, "aliases": dict(registry.aliases(name).versions)}
