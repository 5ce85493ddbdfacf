"""Tells Ray of requests that a replica answers past Ray's own ASGI wrapper."""

from __future__ import annotations

from typing import Any

from ray._private.worker import global_worker
from ray.serve._private.common import RequestMetadata


class ReplicaLoad:
    """The number of requests under way in this replica, by which Ray scales its deployment and drains it.

    Parameters
    ----------
    manager : ReplicaMetricsManager
        Ray's own.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._metadata = RequestMetadata(request_id="", internal_request_id="")

    @classmethod
    def of_this_process(cls) -> ReplicaLoad:
        """Return the load of the replica that this process is; Ray 2.60 has no public way to it."""
        actor = global_worker.actors[global_worker.actor_id]
        return cls(actor._replica_impl._metrics_manager)  # noqa: SLF001

    def begin(self) -> None:
        """Count a request that begins."""
        self._manager.inc_num_ongoing_requests(self._metadata)

    def end(self) -> None:
        """Count a request that was answered."""
        self._manager.dec_num_ongoing_requests(self._metadata)
