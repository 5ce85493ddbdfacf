"""``scorecat models import``: the door for models that were made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.models.champion_gap import describe_new_version
from serve_app.cluster.running import find_served
from serve_app.errors import BadRequestError
from serve_app.models.adapters.file_import import MISSING_CLASSES, ImportOptions, import_and_publish
from serve_app.models.core.recommendation import Thresholds
from serve_app.models.service.import_report import render_report
from serve_app.models.service.registry import CHAMPION, check_alias
from serve_app.settings import load_settings
from serve_app.terminal.console import JsonOption, err, out, print_json
from serve_app.wiring import find_default, open_settings_registry


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
