"""``scorecat up`` and ``down``."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from serve_app.cli.history.state_from import check_state_from, load_state
from serve_app.cli.models.champion_gap import describe_gap, find_champion
from serve_app.cli.status import describe_shares, list_models
from serve_app.cli.traffic.example import example_command
from serve_app.cli.training.train import train_demo
from serve_app.cluster.environment import cluster_environment
from serve_app.cluster.private_names import check_names
from serve_app.cluster.processes import find_processes, stop_cluster
from serve_app.cluster.running import describe_endpoints, probe, url_of
from serve_app.cluster.spec import SPEC_FILE, ClusterSpec, load_spec, plan_cluster, save_spec
from serve_app.cluster.start import check_port, keep_logs, start_cluster
from serve_app.deployments.options import OPTIONS
from serve_app.errors import BadRequestError, InvariantError, NotReadyError
from serve_app.models.adapters.package_dir import load_parts
from serve_app.models.adapters.registry_aliases import name_mover
from serve_app.models.service.packaging import golden_inputs
from serve_app.models.service.ports import CHAMPION, Registry
from serve_app.scoring.core.split import Split
from serve_app.settings import PREFIX, Settings, load_settings
from serve_app.terminal.console import JsonOption, err, out, print_json
from serve_app.wiring import find_default, open_settings_registry

READY_TIMEOUT_S: Final = 60.0


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
    with _locked(settings.home):
        spec = load_spec(settings.home)
        if spec is not None and find_processes(spec):
            if warm:
                raise BadRequestError(
                    "the service runs already: `scorecat down` first, or send the log with `scorecat events load`"
                )
            _say_running(spec, {"port": port, "profile": profile, "model": model}, as_json)
            return
        if find_processes(_derive_spec(settings)):
            raise InvariantError("processes of an earlier `scorecat up` are still there: `scorecat down` ends them")
        started = time.monotonic()
        check_names()
        check_port(settings.host, settings.port)
        registry = open_settings_registry(settings)
        name, wanted = _parse_model(model or find_default(settings, registry))
        if model is None and name != settings.model.partition("@")[0]:
            err.print(f"serving {name}, as before; `--model NAME` serves another", markup=False)
        if not registry.names() and model is None:
            _train_demo(registry, name)
        if wanted == CHAMPION and registry.versions(name) == [1] and not registry.aliases(name).versions:
            registry.move_alias(name, CHAMPION, 1)  # publishing was cut short before the alias was set
        split = open_split(settings, registry, name, wanted, is_named=model is not None or wanted != CHAMPION)
        _check_state(settings)
        loaded = {"state": load_state(*warm)} if warm else {}
        spec = _start(settings, registry, split)
        result = {
            **loaded,
            **describe_endpoints(spec),
            "model": name,
            "version": split.stable,
            "shares": {str(version): share for version, share in split.shares.items()},
            "profile": settings.profile,
            "ready_in_s": round(time.monotonic() - started, 1),
        }
    if as_json:
        print_json(result)
        return
    answers = ", ".join(f"v{v}" if share == 1.0 else f"v{v} {share * 100:.4g} %" for v, share in split.shares.items())
    url = url_of(spec)
    err.print(f"ready in {result['ready_in_s']} s: {name} {answers} on {url} (docs at {url}/docs)", soft_wrap=True)
    package = registry.locate(name, split.stable)
    manifest = registry.manifest(name, split.stable)
    request = example_command(url, manifest, lambda: golden_inputs(load_parts(package)), settings.home)
    out.print(request, markup=False, soft_wrap=True)


def down(as_json: JsonOption = False) -> None:
    """Stop everything that `up` started; the registry and all state stay."""
    settings = load_settings()
    with _locked(settings.home):
        # Mark and folder follow from the home, so a lost or damaged record hides nothing.
        spec = _derive_spec(settings)
        stopped = stop_cluster(spec)
        left = find_processes(spec)
        if left:
            raise InvariantError(f"these processes would not end: {', '.join(str(p.pid) for p in left)}")
        (settings.home / SPEC_FILE).unlink(missing_ok=True)
    if as_json:
        print_json({"stopped_processes": stopped})
    else:
        err.print(f"stopped {stopped} processes" if stopped else "nothing was running")


def open_split(settings: Settings, registry: Registry, name: str, wanted: str, *, is_named: bool) -> Split:
    """Return the split to begin with, written where Gateways read it: see `begin_split`.

    A torn package of its stable version is refused before anything is stored.
    """
    from serve_app.rollouts.adapters.sql_store import SqlRolloutStore
    from serve_app.rollouts.service.control import begin_split
    from serve_app.scoring.adapters.split_file import SplitFile
    from serve_app.storage.sql_engine import build_engine

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
    from serve_app.history.adapters.open_store import open_live_history

    config = settings.state_config
    if config is None:
        return
    try:
        open_live_history(config).close()
    except NotReadyError as exc:
        err.print(f"scores use defaults until the state can be used: {exc}", markup=False)


def _start(settings: Settings, registry: Registry, split: Split) -> ClusterSpec:
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
        spec = dataclasses.replace(_derive_spec(settings), profile=settings.profile)
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
    from serve_app.app import deploy

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


def _train_demo(registry: Registry, name: str) -> None:
    err.print("the registry is empty: training a demo model on generated events (about a minute)")
    with err.status("") as shown:
        train_demo(registry, name=name, report=shown.update)


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


def _derive_spec(settings: Settings) -> ClusterSpec:
    """Return a spec with the mark and folder that any cluster of this home has; its ports mean nothing."""
    return plan_cluster(settings.home, settings.host, settings.port, settings.num_cpus)


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    try:
        home.mkdir(parents=True, exist_ok=True)
        file = (home / "up.lock").open("a")
    except OSError as exc:
        raise BadRequestError(f"the state folder {home} cannot be written: {exc.strerror}") from exc
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise BadRequestError(f"another `scorecat up` or `down` works on {home}: wait for it") from exc
        yield
