"""``scorecat up``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from serve_app.cli.history.state_from import check_state_from, load_state
from serve_app.cli.models.champion_gap import describe_gap, find_champion
from serve_app.cli.start import start_service
from serve_app.cli.status import describe_shares, list_models
from serve_app.cli.traffic.example import example_command
from serve_app.cluster.private_names import check_names
from serve_app.cluster.processes import find_processes
from serve_app.cluster.running import describe_endpoints, probe, url_of
from serve_app.cluster.spec import ClusterSpec, derive_spec, load_spec, lock_home
from serve_app.cluster.start import check_port
from serve_app.deployments.options import OPTIONS
from serve_app.errors import BadRequestError, InvariantError, NotReadyError
from serve_app.history.adapters.open_store import open_live_history
from serve_app.models.adapters.package_dir import load_parts
from serve_app.models.service.packaging import golden_inputs
from serve_app.models.service.registry import CHAMPION, Registry, name_mover
from serve_app.rollouts.adapters.sql_store import SqlRolloutStore
from serve_app.rollouts.service.split import begin_split
from serve_app.scoring.adapters.split_file import SplitFile
from serve_app.scoring.core.split import Split
from serve_app.settings import Settings, load_settings
from serve_app.storage.sql_engine import build_engine
from serve_app.terminal.console import JsonOption, err, out, print_json
from serve_app.wiring import find_default, open_settings_registry


def up(
    port: Annotated[int | None, typer.Option(help="HTTP port (setting SCORECAT_PORT, default 8000).")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model to serve: name, name@version or name@alias; default the one of before, or purchase."),
    ] = None,
    profile: Annotated[str | None, typer.Option(help="laptop (one replica each) or production (two and more).")] = None,
    state_from: Annotated[
        Path | None, typer.Option(help="Event log whose users' history to begin with; users known already stay.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Start the service in the background and return when it answers.

    Trains a demo model on generated events first when the registry has no model.
    """
    settings = _settings(port, profile)
    warm = None if state_from is None else check_state_from(settings, state_from)
    with lock_home(settings.home):
        spec = load_spec(settings.home)
        if spec is not None and find_processes(spec):
            if warm:
                raise BadRequestError(
                    "the service runs already: `scorecat down` first, or send the log with `scorecat events load`"
                )
            _say_running(spec, {"port": port, "profile": profile, "model": model}, as_json)
            return
        if find_processes(derive_spec(settings)):
            raise InvariantError("processes of an earlier `scorecat up` are still there: `scorecat down` ends them")
        started = time.monotonic()
        check_names()
        check_port(settings.host, settings.port)
        registry = open_settings_registry(settings)
        split = _choose_split(settings, registry, model)
        _check_state(settings)
        loaded = {"state": load_state(*warm)} if warm else {}
        spec = start_service(settings, registry, split)
        ready_in_s = round(time.monotonic() - started, 1)
    if as_json:
        said = {**loaded, **describe_endpoints(spec), "model": split.model, "version": split.stable}
        shares = {str(version): share for version, share in split.shares.items()}
        print_json({**said, "shares": shares, "profile": settings.profile, "ready_in_s": ready_in_s})
    else:
        err.print(f"ready in {ready_in_s} s: {_describe_start(split, url_of(spec))}", soft_wrap=True)
        out.print(_choose_example(settings, registry, split, url_of(spec)), markup=False, soft_wrap=True)


def _choose_split(settings: Settings, registry: Registry, model: str | None) -> Split:
    """Return what will be served: what is asked for, else what was before; an empty registry gets a demo model."""
    name, wanted = _parse_model(model or find_default(settings, registry))
    if model is None and name != settings.model.partition("@")[0]:
        err.print(f"serving {name}, as before; `--model NAME` serves another", markup=False)
    if not registry.names() and model is None:
        _train_demo(registry, name)
    if wanted == CHAMPION and registry.versions(name) == [1] and not registry.aliases(name).versions:
        registry.move_alias(name, CHAMPION, 1)  # publishing was cut short before the alias was set
    return open_split(settings, registry, name, wanted, is_named=model is not None or wanted != CHAMPION)


def _describe_start(split: Split, url: str) -> str:
    answers = ", ".join(f"v{v}" if share == 1.0 else f"v{v} {share * 100:.4g} %" for v, share in split.shares.items())
    return f"{split.model} {answers} on {url} (docs at {url}/docs)"


def _choose_example(settings: Settings, registry: Registry, split: Split, url: str) -> str:
    package = registry.locate(split.model, split.stable)
    manifest = registry.manifest(split.model, split.stable)
    return example_command(url, manifest, lambda: golden_inputs(load_parts(package)), settings.home)


def open_split(settings: Settings, registry: Registry, name: str, wanted: str, *, is_named: bool) -> Split:
    """Return the split to begin with, written where Gateways read it: see `begin_split`.

    A torn package of its stable version is refused before anything is stored.
    """
    store = SqlRolloutStore(build_engine(settings.database))
    try:
        return begin_split(
            store,
            SplitFile(settings.split_path),
            name,
            registry.resolve(name, wanted),
            pins=settings.pins,
            is_named=is_named,
            who=settings.user or name_mover(),
            check=lambda split: load_parts(registry.locate(name, split.stable)),
        )
    finally:
        store.close()


def _check_state(settings: Settings) -> None:
    """Open the states once, so that a wrong place or secret is refused before anything starts."""
    config = settings.state_config
    if config is None:
        return
    try:
        open_live_history(config).close()
    except NotReadyError as exc:
        err.print(f"scores use defaults until the state can be used: {exc}", markup=False)


def _train_demo(registry: Registry, name: str) -> None:
    from serve_app.training.adapters.registration import train_demo  # noqa: PLC0415 - CatBoost, for the first start only

    err.print("the registry is empty: training a demo model on generated events (about a minute)")
    with err.status("") as shown:
        train_demo(registry, name, shown.update)


def _settings(port: int | None, profile: str | None) -> Settings:
    settings = load_settings()
    if profile is not None and profile not in OPTIONS:
        raise BadRequestError(f"unknown profile {profile!r}: choose {' or '.join(OPTIONS)}")
    if port is not None and not 1 <= port <= 65535:  # noqa: PLR2004
        raise BadRequestError(f"--port {port} is no port: choose 1 to 65535")
    given = {"port": port, "profile": profile}
    return settings.model_copy(update={k: v for k, v in given.items() if v is not None})


def _parse_model(model: str) -> tuple[str, str]:
    name, _, wanted = model.partition("@")
    return name, wanted or CHAMPION


def _say_running(spec: ClusterSpec, asked: dict[str, Any], as_json: bool) -> None:
    ready = probe(spec)
    if ready is None:
        raise InvariantError("the service is running but not ready: see `scorecat status`, or `scorecat down` first")
    runs = {"port": spec.http_port, "profile": spec.profile}
    for option, value in asked.items():
        if option == "model" and value is not None:
            name, wanted = _parse_model(value)
            version = open_settings_registry(load_settings()).resolve(name, wanted)
            differs = (name, version) != (ready["model"], ready["version"])
        else:
            differs = value is not None and value != runs.get(option)
        if differs:
            raise BadRequestError(
                f"the service already runs {ready['model']}@{ready['version']} on port {spec.http_port} in profile "
                f"{spec.profile}; for --{option} {value}: `scorecat down` first"
            )
    champion = find_champion(open_settings_registry(), ready["model"])
    if as_json:
        found = {**describe_endpoints(spec), **ready, "champion": champion, "profile": spec.profile}
        print_json({**found, "already_running": True})
    else:
        shares = "; ".join(describe_shares(model) for model in list_models(spec)) or f"v{ready['version']}"
        err.print(f"already running: {ready['model']} on {url_of(spec)}, {shares}", markup=False)
        if gap := describe_gap(champion, ready):
            err.print(gap, markup=False)
