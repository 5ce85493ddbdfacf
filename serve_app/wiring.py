"""What the settings name, opened: where a program gets its registry and its model from."""

from __future__ import annotations

import contextlib

from serve_app.errors import ScorecatError
from serve_app.models.adapters.registry_open import open_registry
from serve_app.models.service.registry import Registry
from serve_app.scoring.adapters.split_file import SplitFile
from serve_app.settings import Settings, load_settings


def open_settings_registry(settings: Settings | None = None) -> Registry:
    """Return the registry of these settings, or of those of the environment."""
    settings = settings or load_settings()
    return open_registry(settings.registry_root, cache=settings.package_cache, by=settings.user)


def find_default(settings: Settings, registry: Registry) -> str:
    """Return what is served unless somebody names it: the setting if there is one, else the model of before."""
    if "model" not in settings.model_fields_set:
        with contextlib.suppress(ScorecatError):
            record = SplitFile(settings.split_path).read()
            if record is not None and record["model"] in registry.names():
                return str(record["model"])
    return settings.model
