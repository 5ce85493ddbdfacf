"""Ports to replicas: Serve handles, with Ray's failures told apart by who must act."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc  # type: ignore[import-untyped]
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from ray import serve
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    RayActorError,
    RayError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
    RequestCancelledError,
)

from serve_app.cluster.ray_internals import HandleReplicas
from serve_app.deployments.calls.direct_calls import Link, Links, socket_path
from serve_app.deployments.calls.shared_arrays import PackedBatch, pack, remove, reserve
from serve_app.errors import InvariantError, OverloadedError, ReplicaLostError, ScorecatError
from serve_app.features.core.encoding import EncodedBatch
from serve_app.models.core.outputs import Extra
from serve_app.models.service.ports import EncodedRows

LOST = (
    RayActorError,
    WorkerCrashedError,
    NodeDiedError,
    ObjectLostError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
    RequestCancelledError,
    TaskCancelledError,
)
"""What Ray raises when the replica that had the call is gone."""

FAILURES = (TimeoutError, RayError, BackPressureError, grpc.RpcError, ScorecatError, *LOST)
"""What a handle call may raise, for `translate`."""

TABLE_ROWS: Final = 512
"""From here on files are reserved for a call's rows and answer; fewer rows are hardly ever large."""


_VERSION_APP: Final = re.compile(r"(.+)-v([1-9]\d*)")
_POOL_APP: Final = re.compile(r"(.+?)-v([1-9]\d*)-job-[A-Za-z0-9_-]+")


def version_app(name: str, version: int) -> str:
    """Return the Serve application's name of a model version."""
    return f"{name}-v{version}"


def parse_version_app(app: str) -> tuple[str, int] | None:
    """Return model and version of a Serve application, None when it is not a version's."""
    match = _VERSION_APP.fullmatch(app)
    return (match[1], int(match[2])) if match else None


def pool_app(name: str, version: int, job_id: str) -> str:
    """Return the name of the copy of a version's application that belongs to one job."""
    return f"{version_app(name, version)}-job-{job_id}"


def parse_pool_app(app: str) -> tuple[str, int] | None:
    """Return model and version of a job's own application, None when it is none."""
    match = _POOL_APP.fullmatch(app)
    return (match[1], int(match[2])) if match else None


def translate(exc: BaseException) -> ScorecatError:
    """Return the scorecat error an exception of a handle call means."""
    cause = exc.cause if isinstance(exc, RayTaskError) else exc
    if isinstance(cause, ScorecatError):
        return cause
    if isinstance(cause, LOST):
        return ReplicaLostError(f"the replica was lost during the call ({type(cause).__name__})", 1.0)
    if isinstance(cause, BackPressureError):
        return OverloadedError("the replicas' queues are full", 1.0)
    if isinstance(cause, TimeoutError):
        return ReplicaLostError("no replica answered in time", 1.0)
    if isinstance(cause, grpc.RpcError):
        return ReplicaLostError(f"the connection to the replica broke ({type(cause).__name__})", 1.0)
    return InvariantError(f"{type(cause).__name__}: {cause}")


class _Deployment:
    """One deployment: a handle, and links to its replicas where they are all on this machine."""

    def __init__(self, app: str, name: str) -> None:
        self._handle = serve.get_deployment_handle(name, app_name=app)
        self._replicas = HandleReplicas(self._handle)
        self._links = Links(lambda replica: socket_path(replica.unique_id)) if socket_path("") else None

    def method(self, name: str) -> _Calls:
        """Return a method of the replicas."""
        # Standard pickle is enough for arrays and dataclasses, and cheaper than cloudpickle.
        handle = self._handle.options(method_name=name, request_serialization="pickle", response_serialization="pickle")
        return _Calls(name, handle.remote, self._choose)

    def _choose(self) -> Chosen | None:
        """Return a replica to call directly."""
        if self._links is None or (replicas := self._replicas.find()) is None:  # the first call is a handle's
            return None
        chosen = self._links.choose(replicas)
        return (*chosen, self._replicas) if chosen else None


Chosen = tuple[Any, Link, HandleReplicas]
"""A replica's id, the link to it, and what counts the handle's calls for Ray's autoscaler."""


class _Calls:
    """One method of one deployment, called with a time limit."""

    def __init__(
        self, method: str, remote: Callable[..., Awaitable[Any]], choose: Callable[[], Chosen | None] | None = None
    ) -> None:
        self._method = method
        self._remote = remote
        self._choose = choose

    async def call(self, timeout_s: float, *arguments: Any) -> Any:
        chosen = self._choose() if self._choose else None
        try:
            async with asyncio.timeout(timeout_s):
                if chosen is None:
                    return await self._remote(*arguments)
                replica, link, counts = chosen
                counts.begin(replica)
                try:
                    return await link.call(self._method, arguments)
                finally:
                    counts.end(replica)
        except FAILURES as exc:
            raise translate(exc) from exc


class EncoderHandle:
    """The Encoder replicas of a version, as an `EncoderPort`.

    Parameters
    ----------
    app : str
    is_bulk : bool
        Tables are encoded behind online rows, as batch jobs want it.
    """

    def __init__(self, app: str, *, is_bulk: bool = False) -> None:
        deployment = _Deployment(app, "Encoder")
        self._encode = deployment.method("encode")
        self._encode_rows = deployment.method("encode_bulk" if is_bulk else "encode_rows")

    async def encode(self, batch: pa.RecordBatch, *, timeout_s: float) -> EncodedBatch:
        """Encode a batch on one of the replicas."""
        encoded: EncodedBatch = await self._encode.call(timeout_s, PackedBatch.of(batch))
        return encoded

    async def encode_rows(self, batch: pa.RecordBatch, *, timeout_s: float) -> EncodedRows:
        """Encode a batch on one of the replicas; a large matrix stays in shared memory."""
        asked, answer = (reserve(), reserve()) if batch.num_rows >= TABLE_ROWS else (None, None)
        try:
            packed = pack(PackedBatch.of(batch), asked)
            for_model, rows, errors = await self._encode_rows.call(timeout_s, packed, answer)
        except BaseException:
            remove(answer)
            raise
        finally:
            remove(asked)
        if rows is None:
            rows = np.arange(batch.num_rows, dtype=np.int64)
        return EncodedRows(for_model, rows, errors, lambda: remove(answer))


class ModelHandle:
    """The CatBoostModel replicas of a version, as a `ModelPort`.

    Parameters
    ----------
    app : str
    is_bulk : bool
        Rows are predicted and explained behind online rows, as batch jobs want it.
    """

    def __init__(self, app: str, *, is_bulk: bool = False) -> None:
        deployment = _Deployment(app, "CatBoostModel")
        self._predict = deployment.method("predict_bulk" if is_bulk else "predict")
        self._compute = deployment.method("compute_bulk" if is_bulk else "compute")

    async def predict(self, rows: Any, *, timeout_s: float) -> NDArray[np.float64]:
        """Predict encoded rows, or rows that an Encoder left in shared memory, on one of the replicas."""
        found: NDArray[np.float64] = await self._predict.call(timeout_s, rows)
        return found

    async def compute(self, extra: Extra, rows: Any, *, timeout_s: float) -> NDArray[np.float64]:
        """Compute raw scores or SHAP values of encoded rows on one of the replicas."""
        found: NDArray[np.float64] = await self._compute.call(timeout_s, extra, rows)
        return found
