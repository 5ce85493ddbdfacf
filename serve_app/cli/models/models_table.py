"""The table that ``scorecat models list`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from serve_app.models.core.manifest import Manifest


def describe_version(version: int, manifest: Manifest) -> dict[str, Any]:
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


def models_table(models: Mapping[str, Mapping[str, Any]]) -> Table:
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
