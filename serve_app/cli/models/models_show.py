"""``scorecat models show``: the page of a model."""

from __future__ import annotations

from serve_app.cli.models.models import ModelArgument, locate
from serve_app.models.adapters.package_dir import MODEL, load_manifest
from serve_app.models.catboost.importance import load_facts
from serve_app.models.service.model_page import render_model_page
from serve_app.terminal.console import JsonOption, out, print_json, print_page


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
