"""``scorecat models list``: what is in the registry."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from serve_app.errors import BadRequestError, InvariantError
from serve_app.models.core.manifest import Manifest
from serve_app.models.service.registry import CHAMPION, Registry, UnfinishedUpload
from serve_app.terminal.console import JsonOption, err, out, print_json
from serve_app.wiring import open_settings_registry

ModelArgument = Annotated[str, typer.Argument(help="name, name@version or name@alias; alone means name@champion.")]


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
        out.print(_make_table(models))
    for name, model in models.items():
        for one in (model, *model["versions"]):
            if "error" in one:
                version = f" v{one['version']}" if "version" in one else ""
                err.print(f"error: {name}{version}: {one['error']}", style="red", markup=False)
    print_unfinished(unfinished)


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


def _describe(registry: Registry, name: str) -> dict[str, Any]:
    versions: list[dict[str, Any]] = []
    for version in registry.versions(name):
        try:
            manifest = registry.manifest(name, version)
        except InvariantError as exc:  # one damaged version must not hide the others
            versions.append({"version": version, "error": str(exc)})
            continue
        versions.append(_describe_version(version, manifest))
    try:
        return {"versions": versions, "aliases": dict(registry.aliases(name).versions)}
    except InvariantError as exc:
        return {"versions": versions, "aliases": {}, "error": str(exc)}


def _describe_version(version: int, manifest: Manifest) -> dict[str, Any]:
    """Return what the list says of one version."""
    overall = manifest.metrics.get("overall", {})
    return {
        "version": version,
        "created_at": manifest.created_at,
        "task": manifest.task,
        "parent_version": manifest.parent_version,
        "roc_auc": overall.get("roc_auc", {}).get("value"),
        "log_loss": overall.get("log_loss", {}).get("value"),
        "compared": manifest.metrics.get("comparison", {}).get("outcome"),
    }


def _make_table(models: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return all versions of all models, one a line."""
    table = Table("model", "aliases", "created", "ROC-AUC", "log loss", "parent", box=box.SIMPLE_HEAD)
    for column in table.columns:
        column.no_wrap = True
    for column in table.columns[3:5]:
        column.justify = "right"
    for name, model in models.items():
        for one in model["versions"]:
            aliases = ", ".join(alias for alias, version in model["aliases"].items() if version == one["version"])
            table.add_row(
                f"{name}@{one['version']}",
                aliases,
                *(
                    (one["created_at"][:10], _figure(one["roc_auc"]), _figure(one["log_loss"]), _parent(one))
                    if "error" not in one
                    else ("damaged", "-", "-", "-")
                ),
            )
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _parent(one: Mapping[str, Any]) -> str:
    if one["parent_version"] is None:
        return "-"
    return f"{one['parent_version']}" + (f", {one['compared']}" if one["compared"] else "")
