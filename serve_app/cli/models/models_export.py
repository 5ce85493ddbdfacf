"""``scorecat models export``: a model for code without scorecat."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.models.models import ModelArgument, locate
from serve_app.errors import BadRequestError
from serve_app.models.adapters import model_export
from serve_app.terminal.console import JsonOption, out, print_json


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
