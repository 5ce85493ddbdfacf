"""Serve applications by name: run, watched, waited for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from ray import serve
from ray.exceptions import RayError
from ray.serve import Application, RunTarget
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, ReplicaState

from serve_app.deployments.calls.handles import translate
from serve_app.errors import InvariantError
from serve_app.scoring.service.ports import AppState, AppStatus

START_TIMEOUT_S: Final = 120.0
POLL_S: Final = 0.1
DETAIL_CHARACTERS: Final = 500

STATUS: Final[dict[ApplicationStatus, AppStatus]] = {
    ApplicationStatus.NOT_STARTED: "starting",
    ApplicationStatus.DEPLOYING: "starting",
    ApplicationStatus.RUNNING: "running",
    ApplicationStatus.UNHEALTHY: "unhealthy",
    ApplicationStatus.DEPLOY_FAILED: "failed",
    ApplicationStatus.DELETING: "deleting",
}


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise the scorecat error that a failure of Serve in this block means."""
    try:
        yield
    except (RayError, RayServeException, RuntimeError, TimeoutError) as exc:
        raise translate(exc) from exc


def read_states() -> dict[str, AppState]:
    """Return the state of every application, by name."""
    return {name: to_state(overview) for name, overview in serve.status().applications.items()}


def to_state(overview: ApplicationStatusOverview) -> AppState:
    """Return the state of an application; one whose replicas are not counted yet is not down."""
    counts = [d.replica_states for d in overview.deployments.values() if d.replica_states]
    is_down = any(not replicas.get(ReplicaState.RUNNING) for replicas in counts)
    return AppState(STATUS[overview.status], describe_app(overview), is_down)


def await_apps(
    names: list[str],
    timeout_s: float = START_TIMEOUT_S,
    *,
    read: Callable[[], Mapping[str, AppState]] = read_states,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, AppState]:
    """Return the states of all applications once all of these run.

    Raises
    ------
    InvariantError
        One of them failed, or is not there in time; the message quotes the cluster.
    """
    for _ in range(int(timeout_s / POLL_S)):
        states = dict(read())
        found = {name: states.get(name, AppState("starting")) for name in names}
        for name, state in found.items():
            if state.status == "failed":
                raise InvariantError(f"{name} does not start: {state.detail}")
        if all(state.status == "running" for state in found.values()):
            return states
        sleep(POLL_S)
    late = ", ".join(f"{name} ({s.status}) {s.detail}".rstrip() for name, s in found.items() if s.status != "running")
    raise InvariantError(f"not started within {timeout_s:g} s: {late}")


def run_apps(apps: dict[str, Application], *, prefixes: dict[str, str] | None = None) -> None:
    """Hand applications to Serve and return before they run; none of them may be there already.

    Parameters
    ----------
    apps : dict of str to Application
        By name.
    prefixes : dict of str to str, optional
        Route by name, of those that answer HTTP.
    """
    targets = [RunTarget(app, name, (prefixes or {}).get(name)) for name, app in apps.items()]
    serve.run_many(targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


def describe_app(overview: ApplicationStatusOverview) -> str:
    """Return the cluster's own words on an app that does not run, shortened; empty for one that runs.

    Of a traceback the first sentence and the last line, which names the error, are kept.
    """
    if overview.status is ApplicationStatus.RUNNING:
        return ""
    messages = [d.message for d in overview.deployments.values() if d.message and d.status != "HEALTHY"]
    return "; ".join(map(_shorten, messages or [overview.message]))[:DETAIL_CHARACTERS]


def _shorten(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if not lines:
        return ""
    first = lines[0].partition(". ")[0].removesuffix(".")
    return first if len(lines) == 1 else f"{first}: {lines[-1]}"
