"""What Ray 2.60 has no public way to; nothing else uses its private names, see `serve_app.cluster.private_names`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
from ray import serve
from ray._private import worker as ray_worker
from ray.serve._private import replica as ray_replica
from ray.serve._private.common import RequestMetadata

_EVERYWHERE = "[::]:0"


def bind_to_node_address() -> None:
    """Make this process's replica server bind the node's address; call it in a replica's constructor.

    Ray binds every replica's gRPC server, which unpickles what it is sent, to ``[::]:0``: all interfaces, without a
    setting. Replicas are reached at their node's address, so that is enough.

    Ray starts the server after the constructor returned. Calling it twice does no harm.
    """
    add_port = ray_replica.add_port_to_grpc_server
    if getattr(add_port, "binds_node_address", False):
        return

    def add_node_port(server: Any, address: str) -> Any:
        if address == _EVERYWHERE:
            address = f"{ray.util.get_node_ip_address()}:0"
        return add_port(server, address)

    add_node_port.binds_node_address = True  # type: ignore[attr-defined]
    ray_replica.add_port_to_grpc_server = add_node_port


class ReplicaLoad:
    """The number of requests under way in this replica, by which Ray scales its deployment and drains it.

    Ray is told of requests that a replica answers past Ray's own ASGI wrapper.

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
        """Return the load of the replica that this process is."""
        worker = ray_worker.global_worker
        return cls(worker.actors[worker.actor_id]._replica_impl._metrics_manager)  # noqa: SLF001

    def begin(self) -> None:
        """Count a request that begins."""
        self._manager.inc_num_ongoing_requests(self._metadata)

    def end(self) -> None:
        """Count a request that was answered."""
        self._manager.dec_num_ongoing_requests(self._metadata)


class HandleReplicas:
    """The replicas that a Serve handle calls, and its count of calls under way, by which Ray scales them too."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def find(self) -> Mapping[Any, Any] | None:
        """Return those that take calls now, by id; None before the handle's first call."""
        router = self._handle._router._asyncio_router.request_router  # noqa: SLF001
        found: Mapping[Any, Any] | None = None if router is None else router.curr_replicas
        return found

    def begin(self, replica: Any) -> None:
        """Count a call that begins."""
        self._handle._router._asyncio_router._metrics_manager.inc_num_running_requests_for_replica(replica)  # noqa: SLF001

    def end(self, replica: Any) -> None:
        """Count a call that was answered."""
        self._handle._router._asyncio_router._metrics_manager.dec_num_running_requests_for_replica(replica)  # noqa: SLF001


def open_handle(deployment: str, app: str) -> Any:
    """Return a handle of a deployment that may not be there yet; asking for that would block the event loop."""
    return serve.get_deployment_handle(deployment, app_name=app, _check_exists=False)


def delete_app(app: str) -> None:
    """Begin to remove an application and return."""
    serve.delete(app, _blocking=False)


def hide_worker_logs() -> None:
    """Keep Ray from printing what its daemons say, which it does to stdout whatever ``log_to_driver`` is."""
    ray_worker._worker_logs_enabled = False  # noqa: SLF001
