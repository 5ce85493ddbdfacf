"""Composition root of the service: plain classes become Serve applications here."""

from __future__ import annotations

import contextlib
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import ray
from ray import serve
from ray.serve import Application

from serve_app.cluster.spec import ClusterSpec
from serve_app.deployments.apps.apps import await_apps, read_states, run_apps
from serve_app.deployments.calls.handles import version_app
from serve_app.deployments.control_app import ControlApp
from serve_app.deployments.control_handle import CONTROL_APP, CONTROL_DEPLOYMENT
from serve_app.deployments.gateway import Gateway
from serve_app.deployments.options import OPTIONS, DeploymentOptions, Profile, pool_options
from serve_app.deployments.replicas import CatBoostModel, Encoder
from serve_app.errors import InvariantError, ScorecatError
from serve_app.history.service.config import StateConfig
from serve_app.models.service.registry import Registry
from serve_app.scoring.core.split import Split
from serve_app.scoring.service.ports import AppState
from serve_app.settings import Settings

GATEWAY_APP = "gateway"
CONTROLLER_POLL_S: Final = 0.05
OTHERS_TIMEOUT_S: Final = 10.0
"""How long `up` waits for versions other than the stable one, once that one answers."""


def build_version_app(
    package: Path,
    profile: Profile,
    *,
    state: StateConfig | None = None,
    options: dict[str, DeploymentOptions] | None = None,
    encoder: type = Encoder,
    model: type = CatBoostModel,
) -> Application:
    """Return the application of one model version, pinned to one package.

    Parameters
    ----------
    package : Path
        Directory of the package.
    profile : {"laptop", "production"}
    state : StateConfig, optional
        Where the Encoder looks history up.
    options : dict, optional
        Options by deployment, in place of the profile's.
    encoder, model : type, optional
        Classes in place of `Encoder` and `CatBoostModel`.
    """
    chosen = {**OPTIONS[profile], **(options or {})}
    model_options, encoder_options = chosen["CatBoostModel"], chosen["Encoder"]
    threads = max(1, int(model_options.num_cpus))
    bound_model = (
        serve.deployment(model, name="CatBoostModel").options(**model_options.to_ray()).bind(str(package), threads)
    )
    bound: Application = (
        serve.deployment(encoder, name="Encoder")
        .options(**encoder_options.to_ray())
        .bind(str(package), bound_model, state)
    )
    return bound


def build_pool_app(package: Path, max_replicas: int, profile: Profile, state: StateConfig | None = None) -> Application:
    """Return the application of a batch job's own copy of a version, see `build_version_app`."""
    return build_version_app(package, profile, state=state, options=pool_options(max_replicas))


def build_gateway_app(settings: Settings, profile: Profile) -> Application:
    """Return the application of the Gateway."""
    gateway = serve.deployment(serve.ingress()(Gateway), name="Gateway")
    bound: Application = gateway.options(**OPTIONS[profile]["Gateway"].to_ray()).bind(settings)
    return bound


def build_control_app(settings: Settings, profile: Profile, model: str) -> Application:
    """Return the application that owns the rollouts of a model, and the batch jobs."""
    options = OPTIONS[profile][CONTROL_DEPLOYMENT]
    deployment = serve.deployment(ControlApp, name=CONTROL_DEPLOYMENT).options(**options.to_ray())
    build = partial(build_version_app, profile=profile, state=settings.state_config)
    build_pool = partial(build_pool_app, profile=profile, state=settings.state_config)
    bound: Application = deployment.bind(settings, model, settings.job_places, build, build_pool)
    return bound


def deploy(
    settings: Settings, spec: ClusterSpec, registry: Registry, split: Split
) -> tuple[dict[str, str], BaseException | None]:
    """Start everything on the cluster that just came up, and leave it.

    Returns
    -------
    late : dict of str to str
        See `start_apps`.
    problem : BaseException or None
        Why the first proxy did not start; Serve starts another in its place.

    Raises
    ------
    InvariantError
        Something that has to run does not.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        ray.init(address=spec.address, log_to_driver=False, logging_level="ERROR")
        with ThreadPoolExecutor(1) as beside:  # replicas start while the proxies do, which take as long
            proxies = beside.submit(serve.start, http_options={"host": spec.host, "port": spec.http_port})
            while not (proxies.done() or ray.util.list_named_actors(all_namespaces=True)):
                time.sleep(CONTROLLER_POLL_S)  # Serve's controller is the first actor of the cluster
            if proxies.done():
                proxies.result()  # which says why there is no controller
            late = start_apps(settings, settings.profile, registry, split)
            return late, proxies.exception()
    except (ray.exceptions.RayError, RuntimeError, OSError) as exc:
        raise InvariantError(f"the applications did not start: {exc}") from exc
    finally:
        ray.shutdown()  # a driver whose cluster is stopped under it ends the whole process


def start_apps(settings: Settings, profile: Profile, registry: Registry, split: Split) -> dict[str, str]:
    """Start everything on a fresh cluster and return when the stable version, its Gateway and the control app run.

    Returns
    -------
    dict of str to str
        Other versions of the split that are not up, and why, by application.

    Raises
    ------
    InvariantError
        An application that has to run does not.
    """
    needed = version_app(split.model, split.stable)
    apps, missing = {}, {}
    for each in split.versions:
        app = version_app(split.model, each)
        try:
            apps[app] = build_version_app(registry.locate(split.model, each), profile, state=settings.state_config)
        except ScorecatError as exc:
            if app == needed:
                raise
            missing[app] = str(exc)
    apps[CONTROL_APP] = build_control_app(settings, profile, split.model)
    apps[GATEWAY_APP] = build_gateway_app(settings, profile)
    run_apps(apps, prefixes={GATEWAY_APP: "/"})
    await_apps([needed, CONTROL_APP, GATEWAY_APP])
    with contextlib.suppress(InvariantError):  # what does not come up is for the control app to look after
        await_apps(list(apps), OTHERS_TIMEOUT_S)
    states = read_states()
    late = {app: state for app in apps if (state := states.get(app, AppState("starting"))).status != "running"}
    return missing | {app: f"{state.status} {state.detail}".rstrip() for app, state in late.items()}
