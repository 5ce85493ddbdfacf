"""The registry that the settings name."""

from __future__ import annotations

from serve_app.models.adapters.registry_open import open_registry
from serve_app.models.service.ports import Registry
from serve_app.settings import Settings, load_settings


def open_settings_registry(settings: Settings | None = None) -> Registry:
    """Return the registry of these settings, or of those of the environment."""
    settings = settings or load_settings()
    return open_registry(settings.registry_root, cache=settings.package_cache, by=settings.user)
