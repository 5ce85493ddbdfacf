"""Copies of a version's application that belong to one batch job each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ray.serve import Application

from serve_app.cluster.ray_internals import delete_app
from serve_app.deployments.apps.apps import read_states, run_apps, translated
from serve_app.deployments.calls.handles import parse_pool_app
from serve_app.jobs.core.record import PoolWish
from serve_app.models.adapters.package_dir import load_parts
from serve_app.models.service.registry import Registry
from serve_app.scoring.service.ports import AppState


class ServePoolApps:
    """A `serve_app.jobs.service.ports.PoolApps` on Ray Serve; for plain threads.

    Parameters
    ----------
    registry : Registry
    build : callable
        Returns the application for the directory of a package and the most replicas of each deployment.
    """

    def __init__(self, registry: Registry, build: Callable[[Path, int], Application]) -> None:
        self._registry = registry
        self._build = build

    def states(self) -> dict[str, AppState]:
        """Return the state of each by name."""
        with translated():
            return {app: state for app, state in read_states().items() if parse_pool_app(app) is not None}

    def create(self, wish: PoolWish) -> None:
        """Begin to start one, see `PoolApps.create`."""
        package = self._registry.locate(wish.model, wish.version)
        load_parts(package)  # a torn package is refused here, by name
        with translated():
            run_apps({wish.app: self._build(package, wish.replicas)})

    def delete(self, app: str) -> None:
        """Begin to remove one, whose replicas finish what they have."""
        with translated():
            delete_app(app)
