"""``scorecat models show``, ``export`` and ``verify``: what reads the package of a version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from serve_app.cli.models.models import ModelArgument, locate, print_unfinished, resolve, to_json
from serve_app.errors import BadRequestError, InvariantError, NotFoundError
from serve_app.models.adapters import model_export
from serve_app.models.adapters.package_dir import MODEL, load_manifest
from serve_app.models.adapters.proof import prove_package
from serve_app.models.catboost.importance import load_facts
from serve_app.models.service.model_page import render_model_page
from serve_app.models.service.registry import Registry
from serve_app.terminal.console import JsonOption, out, print_json, print_page
from serve_app.wiring import open_settings_registry


def show(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Print a model's page: quality with intervals, bands, importance, features, lineage."""
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


def export_model(
    model: ModelArgument,
    path: Annotated[Path, typer.Argument(help="File to write: .pkl, .joblib, .cbm or .json.")],
    force: Annotated[bool, typer.Option("--force", help="Write over an existing file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a model for code without scorecat: a deployed_model.pkl, or CatBoost's own file."""
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


def _try_to_prove(registry: Registry, name: str, version: int) -> dict[str, Any]:
    result: dict[str, Any] = {"model": name, "version": version, "verified": False}
    try:
        return {**result, "verified": True, "golden_rows": _prove(registry, name, version)}
    except (InvariantError, NotFoundError) as exc:  # of this version; a store that is gone ends the command
        return {**result, "error": str(exc)}


def _prove(registry: Registry, name: str, version: int) -> int:
    with registry.open_stored(name, version) as directory:
        return prove_package(directory)
