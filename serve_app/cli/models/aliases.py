"""``scorecat models alias``, ``history`` and ``clean``: what changes in a registry, and who changed it."""

from __future__ import annotations

from typing import Annotated

import typer

from serve_app.cli.models.models import ModelArgument, resolve, to_json
from serve_app.errors import BadRequestError, ConflictError
from serve_app.models.service.registry import Aliases
from serve_app.terminal.console import JsonOption, out, print_json
from serve_app.wiring import open_settings_registry


def alias(
    model: ModelArgument,
    name: Annotated[str, typer.Argument(metavar="ALIAS", help="Alias, for example champion.")],
    expect: Annotated[
        int | None, typer.Option(min=0, help="Move only if the alias is this version now; 0: if there is none.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    delete: Annotated[bool, typer.Option("--delete", help="Delete the alias; MODEL is then a name alone.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Point an alias at a version, or delete it. Exit code 1 when somebody else moved it meanwhile."""
    registry = open_settings_registry()
    if delete:
        if "@" in model:
            raise BadRequestError(f"--delete takes the model's name alone: {model.partition('@')[0]}")
        model_name, version = model, None
    else:
        model_name, version = resolve(registry, model)
    before = registry.aliases(model_name)
    _check_expected(before, name, expect)
    if version is None:
        after = registry.remove_alias(model_name, name, expected=before, reason=reason)
    else:
        after = registry.move_alias(model_name, name, version, expected=before, reason=reason)
    old = before.versions.get(name)
    if as_json:
        print_json({"model": model_name, "alias": name, "from": old, "to": version, "aliases": dict(after.versions)})
        return
    was = f"was version {old}" if old is not None else "was not set"
    now = f"is now version {version}" if version is not None else "is deleted"
    out.print(f"{model_name}@{name} {now} ({was})", markup=False)


def history(
    name: Annotated[str, typer.Argument(help="Name of the model.")],
    as_json: JsonOption = False,
) -> None:
    """Print every move of a model's aliases, oldest first: when, what, who, why."""
    registry = open_settings_registry()
    moves = registry.history(name)
    if as_json:
        print_json({"model": name, "moves": [move.to_json() for move in moves]})
        return
    if not moves:
        out.print(f"no alias of {name} was ever moved in {registry.where}", markup=False)
    for move in moves:
        old, new = ("-" if version is None else f"v{version}" for version in (move.old, move.new))
        out.print(f"{move.at}  {move.alias:12} {old:>5} -> {new:5}  {move.by}  {move.reason}".rstrip(), markup=False)


def clean(
    name: Annotated[str, typer.Argument(help="Name of the model.")],
    older_than_h: Annotated[
        float, typer.Option("--older-than-hours", min=0, help="Only what nothing was added to for so long.")
    ] = 1.0,
    as_json: JsonOption = False,
) -> None:
    """Remove what publishes that were cut short left behind. Versions and their numbers stay."""
    registry = open_settings_registry()
    removed = registry.clean(name, older_than_h * 3600)
    left = registry.unfinished().get(name, [])
    if as_json:
        print_json({"model": name, **to_json({"removed": removed, "unfinished": left})})
        return
    for upload in removed:
        out.print(f"{name}: removed {upload.what}, begun {upload.begun_at}", markup=False)
    out.print(f"removed {len(removed)}; {len(left)} unfinished stay, younger than {older_than_h:g} h", markup=False)


def _check_expected(aliases: Aliases, alias: str, expect: int | None) -> None:
    found = aliases.versions.get(alias, 0)
    if expect is not None and found != expect:
        is_now = f"is version {found}" if found else "is not set"
        wanted = f"version {expect}" if expect else "no such alias"
        raise ConflictError(f"{alias} {is_now}, not {wanted} as expected: nothing was moved")
