"""The applications of model versions on this cluster: created and deleted once each, watched, and proved."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from ray.serve import Application
from ray.serve.exceptions import RayServeException

from serve_app.cluster.ray_internals import delete_app
from serve_app.deployments.apps.apps import read_states, run_apps, translated
from serve_app.deployments.calls.handles import EncoderHandle, ModelHandle, parse_version_app, version_app
from serve_app.errors import BadRequestError, GoldenMismatchError, InvariantError, NotReadyError
from serve_app.models.adapters.package_dir import load_parts
from serve_app.models.service.packaging import MIN_GOLDEN_ROWS, prove_replicas
from serve_app.models.service.ports import PackageParts
from serve_app.models.service.registry import Registry
from serve_app.scoring.service.ports import AppState

PROVE_TIMEOUT_S: Final = 5.0
"""For each of the two calls; golden rows take milliseconds."""


class ServeVersionApps:
    """A `serve_app.rollouts.service.ports.VersionApps` on Ray Serve; for plain threads.

    Parameters
    ----------
    registry : Registry
    build : callable
        Returns the application of a version for the directory of its package.
    """

    def __init__(self, registry: Registry, build: Callable[[Path], Application]) -> None:
        self._registry = registry
        self._build = build
        self._loop = _LoopThread()
        self._proofs: dict[tuple[str, int], _Proof] = {}

    def states(self) -> dict[tuple[str, int], AppState]:
        """Return the state of every version's app, by model and version."""
        with translated():
            states = read_states()
        return {key: state for app, state in states.items() if (key := parse_version_app(app)) is not None}

    def create(self, model: str, version: int) -> None:
        """Begin to start a version's app and return, see `VersionApps.create`."""
        state = self.states().get((model, version))
        if state is not None and state.status == "deleting":
            raise NotReadyError(f"the last application of {model} v{version} is still being removed", 2.0)
        if state is not None and state.status != "failed":
            return
        package = self._registry.locate(model, version)
        load_parts(package)  # a torn package is refused here, by name, and not by replicas that fail to start
        with translated():
            run_apps({version_app(model, version): self._build(package)})

    def delete(self, model: str, version: int) -> None:
        """Begin to remove a version's app, whose replicas finish what they have; does nothing when there is none."""
        self._proofs.pop((model, version), None)
        if (model, version) in self.states():
            with translated():
                delete_app(version_app(model, version))

    def prove(self, model: str, version: int) -> None:
        """Send golden rows through both deployments of a version and compare, see `VersionApps.prove`."""
        proof = self._proofs.get((model, version))
        if proof is None:
            parts = load_parts(self._registry.locate(model, version))
            proof = self._proofs[model, version] = _Proof(version_app(model, version), parts)
        try:
            self._loop.run(proof.run(), 3 * PROVE_TIMEOUT_S)
        except BadRequestError as exc:
            raise GoldenMismatchError(f"{proof.app} refuses its golden rows: {exc}") from exc
        except InvariantError as exc:
            if isinstance(exc, GoldenMismatchError):
                raise
            raise NotReadyError(f"{proof.app} fails on its golden rows: {exc}") from exc


class _Proof:
    """Golden rows of a version on their way to its replicas; the handles are made once and reused."""

    def __init__(self, app: str, parts: PackageParts) -> None:
        self.app = app
        self._parts = parts
        self._handles: tuple[EncoderHandle, ModelHandle] | None = None

    async def run(self) -> None:
        if self._handles is None:
            try:
                self._handles = EncoderHandle(self.app), ModelHandle(self.app)
            except RayServeException as exc:
                raise NotReadyError(f"there is no application {self.app}") from exc
        encoder, model = self._handles
        await prove_replicas(self._parts, encoder, model, n_rows=MIN_GOLDEN_ROWS, timeout_s=PROVE_TIMEOUT_S)


class _LoopThread:
    """One event loop in a thread of its own: in throughput mode a handle works inside a running loop only."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="handles", daemon=True).start()

    def run(self, work: Coroutine[Any, Any, None], timeout_s: float) -> None:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            future.result(timeout_s)
        except TimeoutError as exc:
            future.cancel()
            raise NotReadyError(f"no answer in {timeout_s:g} s") from exc
