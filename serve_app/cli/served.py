"""The version that runs here beside the one that the registry calls champion."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from serve_app.cli.status import probe
from serve_app.core.errors import ScorecatError
from serve_app.deployments.local_cluster import find_processes, load_spec
from serve_app.service.ports import CHAMPION, Registry
from serve_app.settings import Settings


def find_served(settings: Settings) -> dict[str, Any] | None:
    """Return model and stable version of the service that runs from this state folder; None without one."""
    with contextlib.suppress(ScorecatError):
        spec = load_spec(settings.home)
        if spec is not None and find_processes(spec):
            return probe(spec)
    return None


def find_champion(registry: Registry, name: str) -> int | None:
    """Return the champion of a model; None when there is none, or the registry cannot say."""
    with contextlib.suppress(ScorecatError):
        return registry.aliases(name).versions.get(CHAMPION)
    return None


def describe_gap(champion: int | None, served: Mapping[str, Any] | None) -> str:
    """Return what to do when the champion is not the version that is served; nothing when it is."""
    if served is None or champion is None or champion == served["version"]:
        return ""
    model = served["model"]
    return (
        f"{model}@{CHAMPION} is version {champion}, and version {served['version']} is served: "
        f"`scorecat rollout start {champion}` ships it step by step; `scorecat down`, then `scorecat up`, at once"
    )


def describe_new_version(name: str, version: int, champion: int | None, served: Mapping[str, Any] | None) -> str:
    """Return how a version that was just registered gets traffic; nothing when `scorecat up` will serve it anyway."""
    is_served = served is not None and served["model"] == name
    if champion == version:
        return describe_gap(champion, served) if is_served else ""
    named = f"{name}@{CHAMPION} is {'not set' if champion is None else f'still version {champion}'}"
    if is_served:
        return f"{named}: `scorecat rollout start {version}` ships version {version}"
    return f"{named}: `scorecat models alias {name}@{version} {CHAMPION}` makes `scorecat up` serve version {version}"
