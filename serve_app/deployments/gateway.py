"""The ingress: connects the scoring service to the replicas and to HTTP."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Final

from serve_app.cluster.ray_internals import ReplicaLoad, bind_to_node_address
from serve_app.deployments.calls.handles import EncoderHandle, ModelHandle, version_app
from serve_app.deployments.calls.shared_arrays import sweep
from serve_app.deployments.control_handle import ControlHandle
from serve_app.deployments.event_process import EventProcess
from serve_app.deployments.meters import HttpMeter
from serve_app.deployments.reporting import report_counts
from serve_app.history.service.intake import EventSink
from serve_app.http.app import Front, create_app
from serve_app.http.row.fast_protocol import open_fast_lane
from serve_app.models.adapters.package_dir import load_parts
from serve_app.models.adapters.registry_open import open_registry
from serve_app.models.service.packaging import prove_replicas
from serve_app.runtime.json_logs import log_json_lines
from serve_app.runtime.microbatch import BatchLimits
from serve_app.scoring.adapters.access_log import AccessLogFile
from serve_app.scoring.adapters.split_file import SplitFile
from serve_app.scoring.service.traffic import Traffic
from serve_app.scoring.service.version_scorer import VersionScorer
from serve_app.settings import Settings

POLL_S: Final = 0.25
"""How often a Gateway looks at the split record."""
PROBE_TIMEOUT_S: Final = 10.0
PATIENCE_S: Final = 30.0
"""How long a Gateway that starts waits for versions that do not answer before it takes requests all the same."""
SWEEP_S: Final = 60.0
"""How often a Gateway removes shared arrays of requests whose owner was killed."""

logger = logging.getLogger("scorecat.gateway")


class Gateway:
    """The FastAPI ingress; `serve.ingress` mounts what `__serve_build_asgi_app__` returns."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc] # Ray awaits it
        bind_to_node_address()
        self._settings = settings
        log_json_lines(settings.log_dir / f"gateway-{os.getpid()}.jsonl")
        self._access_log = AccessLogFile(settings.log_dir / f"access-{os.getpid()}.jsonl")
        self._registry = open_registry(settings.registry_root, cache=settings.package_cache)
        self._traffic = Traffic(SplitFile(settings.split_path), self._connect)
        await self._traffic.begin(POLL_S, PATIENCE_S)  # until then no request is sent here
        self._control = ControlHandle()
        reports = report_counts(self._traffic, self._control.rollouts, f"gateway-{os.getpid()}")
        self._events = EventProcess(settings.state_config) if settings.state_config else None
        works = [self._traffic.follow(POLL_S), self._access_log.run(), _sweep_shared_arrays(), reports]
        if self._events is not None:
            works.append(self._events.keep())
        self._tasks = [asyncio.create_task(work) for work in works]

    def __serve_build_asgi_app__(self) -> Front:
        """Return the ASGI application; Ray calls this after the constructor."""
        app = create_app(
            self._traffic,
            self._access_log,
            timeout_s=self._settings.request_timeout_s,
            rollouts=self._control.rollouts,
            jobs=self._control.jobs,
            meter=HttpMeter(),
            events=EventSink(self._events.write) if self._events is not None else None,
        )
        app.lane.ongoing = ReplicaLoad.of_this_process()
        open_fast_lane(app.lane)  # Ray starts the server later
        return app

    async def _connect(self, name: str, version: int) -> VersionScorer:
        """Connect to a version and prove the way there and back with one of its golden rows."""
        # a package that is not on this machine is fetched first, which may take seconds
        parts = await asyncio.to_thread(lambda: load_parts(self._registry.locate(name, version)))
        app = version_app(name, version)
        encoder, model = EncoderHandle(app), ModelHandle(app)
        await prove_replicas(parts, encoder, model, n_rows=1, timeout_s=PROBE_TIMEOUT_S)
        return VersionScorer(version, parts.manifest, encoder, model, BatchLimits())


async def _sweep_shared_arrays() -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        sweep()
