"""The version that runs here beside the one that the registry calls champion."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from serve_app.errors import ScorecatError
from serve_app.models.service.registry import CHAMPION, Registry


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


def describe_new_version(
    name: str, version: int, champion: int | None, served: Mapping[str, Any] | None, default_name: str
) -> str:
    """Return how a version that was just registered gets traffic; nothing when `scorecat up` will serve it anyway.

    Parameters
    ----------
    name, version : str, int
        What was registered.
    champion : int or None
        The model's champion by now.
    served : mapping or None
        What runs, see `serve_app.cluster.running.find_served`.
    default_name : str
        The model that `scorecat up` serves unless another is named.
    """
    is_served = served is not None and served["model"] == name
    if champion == version and is_served:
        return describe_gap(champion, served)
    if champion == version:
        return "" if name == default_name else f"`scorecat up --model {name}` serves it"
    named = f"{name}@{CHAMPION} is {'not set' if champion is None else f'still version {champion}'}"
    if is_served:
        return f"{named}: `scorecat rollout start {version}` ships version {version}"
    return f"{named}: `scorecat models alias {name}@{version} {CHAMPION}` makes `scorecat up` serve version {version}"
