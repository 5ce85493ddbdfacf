"""Replicas listen for one another on their node's address only.

Ray 2.60 binds every replica's gRPC server, which unpickles what it is sent, to ``[::]:0``: all
interfaces, without a setting. Replicas are reached at their node's address, so that is enough.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.serve._private import replica as ray_replica

_EVERYWHERE = "[::]:0"


def bind_to_node_address() -> None:
    """Make this process's replica server bind the node's address; call it in a replica's constructor.

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
