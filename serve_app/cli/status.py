"""``scorecat status``, and where the service of this machine is."""

from __future__ import annotations

import contextlib
from typing import Any

import typer
from rich.padding import Padding
from rich.text import Text

from serve_app.cli.models.champion_gap import describe_gap, find_champion
from serve_app.client.operator import RolloutClient
from serve_app.cluster.processes import find_processes
from serve_app.cluster.running import describe_endpoints, explain_unready, list_apps, probe, url_of
from serve_app.cluster.spec import ClusterSpec, load_spec
from serve_app.errors import ScorecatError
from serve_app.settings import load_settings
from serve_app.terminal.console import JsonOption, choose_style, err, out, print_aligned, print_json
from serve_app.wiring import open_settings_registry


def status(as_json: JsonOption = False) -> None:
    """Say what runs: versions with their shares, replicas, health; exit code 1 when the service cannot score."""
    settings = load_settings()
    spec = load_spec(settings.home)
    if spec is None or not find_processes(spec):
        if as_json:
            print_json({"running": False, "ready": False})
        else:
            err.print(f"not running from {settings.home}; start it with `scorecat up`", markup=False)
        raise typer.Exit(1)
    ready = probe(spec)
    models = list_models(spec)
    apps = list_apps(spec)
    champion = find_champion(open_settings_registry(settings), ready["model"]) if ready else None
    if as_json:
        found = {"running": True, "ready": ready is not None, **(ready or {}), **describe_endpoints(spec)}
        print_json({**found, "champion": champion, "models": models, "apps": apps})
    else:
        state = f"serving {name_answering(ready, models)}" if ready else explain_unready(spec, apps)
        out.print(Text(state, choose_style(state)).append(f" on {url_of(spec)}", "none"))
        print_aligned(
            [("jobs", spec.job_address), ("Ray", spec.address), ("metrics", spec.metrics_url)]
            + [(model["name"], describe_shares(model)) for model in models]
        )
        if gap := describe_gap(champion, ready):
            out.print(Padding(Text(gap), (0, 0, 0, 2)))
        _print_apps(apps)
    if ready is None:
        raise typer.Exit(1)


def _print_apps(apps: dict[str, dict[str, dict[str, Any]]]) -> None:
    rows = [
        (app_name, deployment, d["status"].lower().replace("_", " "), f"{d['replicas']} of {d['target']}")
        for app_name, deployments in apps.items()
        for deployment, d in deployments.items()
    ]
    if rows:
        print_aligned([("application", "deployment", "state", "replicas"), *rows], state=2)


def name_answering(ready: dict[str, Any], models: list[dict[str, Any]]) -> str:
    """Return the versions that answer users, by their shares; the stable one where nobody tells the shares.

    While a canary is promoted it answers everybody, and is not the stable version yet.
    """
    for model in models:
        if model["name"] == ready["model"]:
            shares = {v["version"]: v["share"] for v in model["versions"] if v["share"]}
            answering = [f"v{v}" if share == 1.0 else f"v{v} {share * 100:.4g} %" for v, share in shares.items()]
            if answering:
                return f"{ready['model']} {', '.join(answering)}"
    return f"{ready['model']} v{ready['version']}"


def describe_shares(model: dict[str, Any]) -> str:
    """Return who gets which version of a served model, in words."""
    parts, names = [], {"canary": "in the A/B test"} if model.get("kind") == "ab" else {}
    for version in model["versions"]:
        share = f"{version['share'] * 100:.4g} % of the users"
        if version["role"] == "shadow":
            share = f"copies of {version['copied_share'] * 100:.4g} % of the requests"
        parts.append(f"v{version['version']} {names.get(version['role'], version['role'])}, {share}")
    return " · ".join(parts)


def list_models(spec: ClusterSpec) -> list[dict[str, Any]]:
    """Return who gets which version, with the ``kind`` of the rollout that is active; nothing when nobody says."""
    models: list[dict[str, Any]] = []
    with contextlib.suppress(ScorecatError), RolloutClient(url_of(spec), timeout_s=2.0) as client:
        models = client.models()
        active = {r["model"]: r["kind"] for r in client.recent(limit=1) if r["is_active"]}
        return [model | {"kind": active.get(model["name"])} for model in models]
    return models
