"""Commands that are imported when they are asked for: a list of them loads nothing of what they need."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class LazyCommand(TyperCommand):
    """What a list says of a command; its module is imported to run it, or for its own help.

    Parameters
    ----------
    name : str
    place : str
        ``module:function``, the module as it is called from `serve_app.cli`.
    short_help : str
        First sentence of the function's docstring.
    """

    def __init__(self, name: str, place: str, short_help: str) -> None:
        super().__init__(name, help=short_help)
        self._place = place

    def load(self) -> Any:
        """Import the command."""
        module, function = self._place.split(":")
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(self.name)(getattr(import_module(f"serve_app.cli.{module}"), function))
        return typer.main.get_command(alone)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Return the context of the command itself, with which a group goes on."""
        return self.load().make_context(info_name, args, parent, **extra)


def add_commands(root: TyperGroup, table: Mapping[str, tuple[str, str]], groups: Mapping[str, str]) -> None:
    """Add commands and groups of commands to the whole.

    Parameters
    ----------
    root : TyperGroup
    table : mapping
        Place and short help by the words that call a command, its group first.
    groups : mapping
        Help by group.
    """
    made = {"": root}
    for words, (place, short_help) in table.items():
        group, _, name = words.rpartition(" ")
        if group not in made:
            made[group] = TyperGroup(name=group, help=groups[group], no_args_is_help=True)
            root.add_command(made[group])
        made[group].add_command(LazyCommand(name, place, short_help))
