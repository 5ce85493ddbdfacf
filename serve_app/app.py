"""Composition root of the service: plain classes become Serve applications here."""

from __future__ import annotations

from pathlib import Path

from ray import serve
from ray.serve import Application

from serve_app.deployments.gateway import Gateway, GatewayConfig
from serve_app.deployments.handles import version_app
from serve_app.deployments.options import OPTIONS, DeploymentOptions, Profile
from serve_app.deployments.replicas import CatBoostModel, Encoder
from serve_app.settings import Settings

GATEWAY_APP = "gateway"


def split_path(settings: Settings) -> Path:
    """Return where the split record of this machine is."""
    return settings.home / "state" / "split.json"


def log_dir(settings: Settings) -> Path:
    """Return the folder of this machine's logs."""
    return settings.home / "logs"


def build_version_app(
    package: Path,
    profile: Profile,
    *,
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
        serve.deployment(encoder, name="Encoder").options(**encoder_options.to_ray()).bind(str(package), bound_model)
    )
    return bound


def build_gateway_app(
    settings: Settings, profile: Profile, *, options: dict[str, DeploymentOptions] | None = None
) -> Application:
    """Return the application of the Gateway."""
    config = GatewayConfig(
        registry_root=str(settings.registry_root),
        package_cache=str(settings.package_cache),
        split_path=str(split_path(settings)),
        log_dir=str(log_dir(settings)),
        request_timeout_s=settings.request_timeout_s,
    )
    chosen = {**OPTIONS[profile], **(options or {})}
    gateway = serve.deployment(serve.ingress()(Gateway), name="Gateway")
    bound: Application = gateway.options(**chosen["Gateway"].to_ray()).bind(config)
    return bound


def run_version(name: str, version: int, package: Path, profile: Profile) -> None:
    """Create the application of a model version and wait until its replicas have proved their package.

    A living app must never be run again (every replica would be replaced), so this is for a
    version that has no app yet.
    """
    serve.run(build_version_app(package, profile), name=version_app(name, version), route_prefix=None)


def run_gateway(settings: Settings, profile: Profile) -> None:
    """Create the application of the Gateway on ``/`` and wait until it runs."""
    serve.run(build_gateway_app(settings, profile), name=GATEWAY_APP, route_prefix="/")
