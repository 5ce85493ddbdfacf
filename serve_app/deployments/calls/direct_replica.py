"""Replicas that answer direct calls beside those of Serve handles."""

from __future__ import annotations

import asyncio
import logging
from typing import ClassVar

from ray import serve

from serve_app.cluster.ray_internals import ReplicaLoad
from serve_app.deployments.calls.direct_calls import answer_calls, socket_path
from serve_app.runtime.log_once import LogOnce

logger = logging.getLogger("scorecat.direct_calls")


class DirectReplica:
    """Base of a deployment's class.

    Attributes
    ----------
    METHODS : tuple of str
        What may be called directly.
    """

    METHODS: ClassVar[tuple[str, ...]] = ()
    _server: asyncio.Server | None = None
    _trouble: ClassVar = LogOnce(logger)

    async def check_health(self) -> None:
        """See that the socket is there; Ray calls this before it lists a replica and every few seconds after.

        Without a socket calls come through handles, so its lack is no bad health.
        """
        path = socket_path(serve.get_replica_context().replica_id.unique_id)
        if path is not None and (self._server is None or not path.exists()):
            try:
                if self._server is not None:
                    self._server.close()  # what is connected stays so
                methods = {name: getattr(self, name) for name in self.METHODS}
                self._server = await answer_calls(path, methods, ReplicaLoad.of_this_process())
            except OSError as exc:
                if self._trouble.is_new(exc):
                    logger.warning("%s: %s; calls come through handles", path, exc)
