"""Where the service of this machine is, and what it says of itself."""

from __future__ import annotations

import contextlib
from typing import Any, Final

import httpx

from serve_app.cluster.processes import find_processes
from serve_app.cluster.spec import ClusterSpec, load_spec
from serve_app.errors import NotReadyError, ScorecatError
from serve_app.runtime.shown_values import show_line
from serve_app.runtime.trust import choose_trust
from serve_app.settings import PREFIX, Settings

_NO_TLS: Final = choose_trust("http:")
_COMING: Final = ("UPDATING", "DEPLOYING", "NOT_STARTED")
"""States of deployments whose replicas are on their way."""


def explain_unready(spec: ClusterSpec, apps: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Return ``starting`` while deployments come up, else ``not ready`` with the service's own reason."""
    states = [d["status"] for deployments in apps.values() for d in deployments.values()]
    if not states or any(state in _COMING for state in states):
        return "starting"
    try:
        answer = httpx.get(f"{url_of(spec)}/readyz", timeout=2.0, verify=_NO_TLS)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        return f"not ready: {explain_silence(exc)}"
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return f"not ready: {show_line(str(answer.json()['detail']))}"
    return f"not ready: another server seems to answer there, with status {answer.status_code}"


def explain_silence(failure: Exception) -> str:
    """Return why a probe got no answer."""
    return "it does not answer in time" if isinstance(failure, httpx.TimeoutException) else "nothing answers there"


def read_url(settings: Settings) -> str:
    """Return the URL of the service that `up` started; raises NotReadyError when there is none.

    A guess could reach somebody else's service.
    """
    return url_of(read_spec(settings, ", or name a service by --url"))


def read_spec(settings: Settings, otherwise: str = "") -> ClusterSpec:
    """Return the cluster that `up` started from this state folder; raises NotReadyError when there is none."""
    spec = load_spec(settings.home)
    if spec is None:
        raise NotReadyError(
            f"nothing runs from {settings.home}: start it with `scorecat up`{otherwise}. A service that was started "
            f"from another folder is found there, or with {PREFIX}HOME naming its state folder"
        )
    return spec


def find_served(settings: Settings) -> dict[str, Any] | None:
    """Return model and stable version of the service that runs from this state folder; None without one."""
    with contextlib.suppress(ScorecatError):
        spec = load_spec(settings.home)
        if spec is not None and find_processes(spec):
            return probe(spec)
    return None


def url_of(spec: ClusterSpec) -> str:
    """Return where a cluster answers HTTP."""
    return f"http://{spec.host}:{spec.http_port}"


def describe_endpoints(spec: ClusterSpec) -> dict[str, Any]:
    """Return the addresses of a cluster."""
    return {
        "url": url_of(spec),
        "job_address": spec.job_address,
        "ray_address": spec.address,
        "metrics_url": spec.metrics_url,
    }


def probe(spec: ClusterSpec) -> dict[str, Any] | None:
    """Return the stable version of a service that can score, else None."""
    with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
        answer = httpx.get(f"{url_of(spec)}/readyz", timeout=2.0, verify=_NO_TLS)
        if answer.status_code == httpx.codes.OK:
            body = answer.json()
            return {"model": body["model"], "version": body["version"]}
    return None


def list_apps(spec: ClusterSpec) -> dict[str, dict[str, dict[str, Any]]]:
    """Return deployments by application, as the cluster tells them; nothing when it does not say."""
    with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError):
        details = httpx.get(f"{spec.job_address}/api/serve/applications/", timeout=5.0, verify=_NO_TLS).json()
        return {
            app_name: {
                name: {
                    "status": d["status"],
                    "replicas": sum(r["state"] == "RUNNING" for r in d["replicas"]),
                    "target": d["target_num_replicas"],
                }
                for name, d in app["deployments"].items()
            }
            for app_name, app in details["applications"].items()
        }
    return {}
