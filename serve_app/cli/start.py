"""Ray and the applications of ``scorecat up``: started together, or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Final

from serve_app.cluster.environment import cluster_environment
from serve_app.cluster.processes import stop_cluster
from serve_app.cluster.running import probe
from serve_app.cluster.spec import SPEC_FILE, ClusterSpec, derive_spec, save_spec
from serve_app.cluster.start import keep_logs, start_cluster
from serve_app.errors import InvariantError
from serve_app.models.service.registry import Registry
from serve_app.scoring.core.split import Split
from serve_app.settings import PREFIX, Settings
from serve_app.terminal.console import err

READY_TIMEOUT_S: Final = 60.0


def start_service(settings: Settings, registry: Registry, split: Split) -> ClusterSpec:
    """Start cluster and applications; whatever goes wrong, nothing is left running."""
    spec = _start_ray(settings)
    try:
        os.environ.update(cluster_environment(spec))
        _deploy(settings, spec, registry, split)
    except BaseException as exc:
        _keep_logs(settings, spec, exc)
        _forget(settings, spec)
        raise
    return spec


def _start_ray(settings: Settings) -> ClusterSpec:
    """Start Ray, with other ports once more when it fails: ports that were free may be taken meanwhile."""
    for is_last in (False, True):
        spec = dataclasses.replace(derive_spec(settings), profile=settings.profile)
        save_spec(settings.home, spec)
        try:
            with err.status("starting Ray"):
                environment = cluster_environment(spec)
                os.environ.update(environment)  # before Ray is imported: it reads them at import
                importing = threading.Thread(target=_import_apps, daemon=True)  # 4 s of CPU, while Ray mostly waits
                importing.start()
                start_cluster(spec, {**environment, **_job_environment(settings)}, settings.log_dir / "ray.log")
                importing.join()
        except BaseException as exc:
            _keep_logs(settings, spec, exc)
            _forget(settings, spec)
            if is_last or not isinstance(exc, InvariantError):
                raise
        else:
            return spec
    raise InvariantError("Ray did not start")


def _import_apps() -> None:
    with contextlib.suppress(ImportError):  # `_deploy` says why
        importlib.import_module("serve_app.app")


def _job_environment(settings: Settings) -> dict[str, str]:
    """Return what a job of `ray job submit` inherits: the same state folder, registry and Python as here."""
    state = settings.state_config
    variables = {
        f"{PREFIX}HOME": str(settings.home),
        f"{PREFIX}STATE": "off" if state is None else state.place,
        # Ray starts processes by bash, wherever the caller's PATH leads
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", ""), os.defpath]),
    }
    if state is not None:
        variables[f"{PREFIX}STATE_SECRET"] = state.secret_path
        variables[f"{PREFIX}STATE_TIMEOUT_S"] = str(state.timeout_s)
    if settings.registry is not None:
        variables[f"{PREFIX}REGISTRY"] = str(settings.registry_root)
    return variables


def _keep_logs(settings: Settings, spec: ClusterSpec, failure: BaseException) -> None:
    """Keep Ray's logs of a start that failed, and say where: its folder goes with the cluster."""
    if isinstance(failure, KeyboardInterrupt):
        return
    kept = keep_logs(spec, settings.log_dir / "ray-failed-start")
    if kept is not None:
        err.print(f"Ray's logs of the start that failed are kept in {kept}", markup=False)


def _forget(settings: Settings, spec: ClusterSpec) -> None:
    # a second Ctrl-C must not leave half of it running
    before = [(n, signal.signal(n, signal.SIG_IGN)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    stop_cluster(spec)
    for number, handler in before:
        signal.signal(number, handler)
    (settings.home / SPEC_FILE).unlink(missing_ok=True)


def _deploy(settings: Settings, spec: ClusterSpec, registry: Registry, split: Split) -> None:
    from serve_app.app import deploy  # noqa: PLC0415 - imports Ray, which reads its environment then

    with err.status(f"starting {split.model} {' and '.join(f'v{v}' for v in split.versions)} and the gateway"):
        late, problem = deploy(settings, spec, registry, split)
        _await_ready(spec, problem)
    for app, why in late.items():
        err.print(f"{app} is not up, the control app goes on with it: {why}", markup=False)


def _await_ready(spec: ClusterSpec, problem: BaseException | None) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if probe(spec) is not None:
            return
        time.sleep(0.1)
    why = f": {problem}" if problem else ""
    raise InvariantError(f"the service did not become ready in {READY_TIMEOUT_S:g} s{why}")
