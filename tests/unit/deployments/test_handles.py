"""Each of Ray's failures becomes the scorecat error of who must act. Ray is not started."""

from __future__ import annotations

import asyncio
import pickle

import grpc
import pytest
from ray import exceptions as ray_errors
from ray.serve import exceptions as serve_errors
from ray.serve._private.common import DeploymentID

from serve_app.deployments.calls.handles import _Calls, translate, version_app
from serve_app.errors import (
    GoldenMismatchError,
    InvalidDataError,
    InvariantError,
    NotReadyError,
    OverloadedError,
    ReplicaLostError,
    ScorecatError,
)
from tests.testing_kit import run_virtual

pytestmark = pytest.mark.unit

LOST = [
    ray_errors.RayActorError(),
    ray_errors.ActorDiedError(),
    ray_errors.ActorUnavailableError("restarting", None),
    ray_errors.TaskCancelledError(),
    ray_errors.GetTimeoutError("slow"),
    ray_errors.WorkerCrashedError(),
    ray_errors.NodeDiedError("node"),
    ray_errors.OwnerDiedError("00" * 28, None, ""),
    serve_errors.DeploymentUnavailableError(DeploymentID("Encoder", "purchase-v1")),
    serve_errors.ReplicaUnavailableError("replica"),
    serve_errors.RequestCancelledError("request"),
    TimeoutError(),
    TimeoutError(),
    grpc.RpcError("stream removed"),
]
NOT_LOST = [
    serve_errors.BackPressureError(1, 1),
    ray_errors.RayTaskError("encode", "", ValueError()).as_instanceof_cause(),
]


@pytest.mark.parametrize("exc", LOST, ids=lambda e: type(e).__name__)
def test_a_replica_that_is_gone_or_silent_is_lost(exc):
    error = translate(exc)
    assert type(error) is ReplicaLostError
    assert error.retry_after_s == 1.0


def test_full_queues_are_overload():
    assert type(translate(serve_errors.BackPressureError(10, 5))) is OverloadedError


@pytest.mark.parametrize(
    "error",
    [InvalidDataError("column price must hold numbers"), OverloadedError("full", 3.0), GoldenMismatchError("x")],
)
def test_our_own_error_raised_in_a_replica_comes_back_as_it_was(error):
    wrapped = ray_errors.RayTaskError("encode", "Traceback ...", error)
    for exc in (error, wrapped, wrapped.as_instanceof_cause()):
        found = translate(exc)
        assert type(found) is type(error)
        assert vars(found) == vars(error)


@pytest.mark.parametrize("cause", [ValueError("bad shape"), KeyError("price"), MemoryError()])
def test_any_other_failure_in_a_replica_is_ours_and_says_what_it_was(cause):
    found = translate(ray_errors.RayTaskError("encode", "Traceback ...", cause).as_instanceof_cause())
    assert type(found) is InvariantError
    assert type(cause).__name__ in found.detail


def test_every_exception_of_serve_is_mapped_to_something_that_says_who_must_act():
    kinds = [
        kind for kind in vars(serve_errors).values()
        if isinstance(kind, type) and issubclass(kind, serve_errors.RayServeException)
    ]  # fmt: skip
    known = {
        serve_errors.RayServeException: InvariantError,
        serve_errors.gRPCStatusError: InvariantError,
        serve_errors.BackPressureError: OverloadedError,
        serve_errors.RequestCancelledError: ReplicaLostError,
        serve_errors.DeploymentUnavailableError: ReplicaLostError,
        serve_errors.ReplicaUnavailableError: ReplicaLostError,
    }
    assert set(kinds) == set(known), "Ray has a new exception: decide what it means"
    arguments = {
        serve_errors.gRPCStatusError: (ValueError("x"),),
        serve_errors.BackPressureError: (1, 1),
        serve_errors.DeploymentUnavailableError: (DeploymentID("Encoder"),),
        serve_errors.ReplicaUnavailableError: ("r",),
    }
    for kind, expected in known.items():
        assert type(translate(kind(*arguments.get(kind, ())))) is expected


def test_a_translated_error_survives_pickling():
    for exc in LOST:
        error = translate(exc)
        assert vars(pickle.loads(pickle.dumps(error))) == vars(error)


def test_versions_have_an_application_each():
    assert version_app("purchase", 7) == "purchase-v7"


def calls_over(remote) -> _Calls:
    return _Calls("method", remote)


def test_a_call_that_does_not_come_back_in_time_is_lost_at_that_time():
    async def never(argument):
        await asyncio.sleep(1e6)

    async def main():
        with pytest.raises(ReplicaLostError, match="no replica answered in time"):
            await calls_over(never).call(2.0, 1)
        assert asyncio.get_running_loop().time() == pytest.approx(102.0)

    run_virtual(main())


@pytest.mark.parametrize("exc", [*LOST, *NOT_LOST], ids=lambda e: type(e).__name__)
def test_no_exception_of_ray_gets_past_a_call(exc):
    async def fail(argument):
        raise exc

    async def main():
        with pytest.raises(ScorecatError) as caught:
            await calls_over(fail).call(2.0, 1)
        assert isinstance(caught.value, (NotReadyError, InvariantError))

    run_virtual(main())


def test_a_cancelled_call_stays_cancelled():
    async def never(argument):
        await asyncio.sleep(1e6)

    async def main():
        task = asyncio.create_task(calls_over(never).call(1e5, 1))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_virtual(main())
