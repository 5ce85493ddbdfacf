"""Start and stop what is measured; every process is found and ended by its own id."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import psutil

from benchmarks.say import say
from serve_app.cluster.processes import find_processes
from serve_app.cluster.spec import load_spec

ROOT = Path(__file__).parents[1]
SCORECAT = Path(sys.executable).with_name("scorecat")
UP_TIMEOUT_S = 180.0
START_ATTEMPTS = 3
ROLES = (
    ("ServeReplica:gateway", "gateway"),
    (":Encoder", "encoder"),
    (":CatBoostModel", "model"),
    ("haproxy", "haproxy"),
    ("raylet/raylet", "raylet"),
    ("gcs_server", "gcs"),
    ("ServeController", "controller"),
)


class Running:
    """A target that answers.

    Attributes
    ----------
    port : int
    find_roles : callable
        Returns {pid: role} of the processes that live now.
    """

    def __init__(self, port: int, find_roles, path: str = "/predict_purchase") -> None:
        self.port = port
        self.find_roles = find_roles
        self.url = f"http://127.0.0.1:{port}{path}"


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """Give a folder for one run; SIGTERM ends the run as Ctrl-C does, so that everything started is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="scorecat-bench-") as folder:
        try:
            yield Path(folder)
        except KeyboardInterrupt:
            say("stopped; nothing was measured to the end")
            sys.exit(130)


@contextlib.contextmanager
def running_service(
    package_registry: Path,
    work_dir: Path,
    profile: str,
    state: str | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
    scorecat: Path = SCORECAT,
) -> Iterator[Running]:
    """Run ``scorecat up`` on a state folder of its own, and ``scorecat down`` at the end.

    `settings` are further environment variables of it, and `scorecat` the command, of another checkout perhaps.
    """
    environment = make_environment(package_registry, work_dir) | ({"SCORECAT_STATE": state} if state else {})
    environment |= settings
    try:
        port = _start_service(environment, profile, scorecat)
        spec = load_spec(work_dir / "home")
        yield Running(port, lambda: {p.pid: _name_role(p) for p in find_processes(spec) if p.is_running()})
    finally:
        subprocess.run(
            [scorecat, "down", "--json"], env=environment, check=True, capture_output=True, start_new_session=True
        )


def make_environment(package_registry: Path, work_dir: Path) -> dict[str, str]:
    """Return the environment of the service and of the commands that speak to it."""
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(("SCORECAT_", "RAY_"))},
        "SCORECAT_HOME": str(work_dir / "home"),
        "SCORECAT_REGISTRY": str(package_registry),
    }


def _start_service(environment: dict[str, str], profile: str, scorecat: Path) -> int:
    """Return the port the service answers on; a start that fails is reported and tried again."""
    for attempt in range(1, START_ATTEMPTS + 1):
        port = free_port()
        up = subprocess.Popen(
            [scorecat, "up", "--port", str(port), "--profile", profile, "--json"],
            env=environment,
            cwd=scorecat.parents[2],  # Ray's processes find modules where they are started
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C at the terminal reaches this process only, which then stops the service
        )
        try:
            _, errors = up.communicate(timeout=UP_TIMEOUT_S)
        finally:
            _interrupt(up)
        if up.returncode == 0:
            return port
        print(f"scorecat up failed ({attempt} of {START_ATTEMPTS}): {errors[-1000:]}", file=sys.stderr, flush=True)
    raise RuntimeError("the service did not start")


@contextlib.contextmanager
def running_app(module: str, package_dir: Path, work_dir: Path) -> Iterator[Running]:
    """Run a FastAPI app under two uvicorn workers (uvloop, httptools, no access log)."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", f"benchmarks.targets.{module}:app", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "2", "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    environment = {**os.environ, "BENCH_PACKAGE": str(package_dir)}
    with running_command(command, environment, port, work_dir / f"{module}.log") as target:
        yield target


@contextlib.contextmanager
def running_command(
    command: list[str | Path], environment: dict[str, str], port: int, log_path: Path, path: str = "/predict_purchase"
) -> Iterator[Running]:
    """Run a server in the foreground of a process of its own until it answers, and end it and its children after."""
    with log_path.open("wb") as log:
        parent = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _await_answer(port, parent, log_path)
        process = psutil.Process(parent.pid)
        find_roles = lambda: {p.pid: "workers" for p in (process, *process.children(recursive=True))}  # noqa: E731
        yield Running(port, find_roles, path)
    finally:
        _end_family(parent)


def measure_load(target: Running, rows: Path, *, urgent: bool = False, refusable: bool = False, **options) -> dict:
    """Run `benchmarks.load` in its own process and return what it printed, with CPU by role."""
    roles = target.find_roles()
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not None]
    command = [sys.executable, "-m", "benchmarks.load", target.url, str(rows), *arguments]
    command += [f"--{flag}" for flag, is_set in (("urgent", urgent), ("refusable", refusable)) if is_set]
    command.append(f"--pids={','.join(map(str, roles))}")
    limit_s = 60 + 3 * (options.get("seconds", 8) + options.get("warmup", 1))
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=limit_s)
    if not done.stdout.startswith("{"):
        raise RuntimeError(f"the load process failed: {done.stderr[-2000:]}")
    result = json.loads(done.stdout)
    by_role: dict[str, float] = {}
    for pid, seconds in result.pop("cpu_s").items():
        role = roles[int(pid)]
        by_role[role] = by_role.get(role, 0.0) + seconds
    answered = max(1, result["ok"] + result["wrong"])
    result["cpu_us"] = {role: 1e6 * seconds / answered for role, seconds in sorted(by_role.items())}
    result["load_cpu_us"] = 1e6 * result["load_cpu_s"] / answered
    others = result.pop("machine_busy_s") - sum(by_role.values()) - result["load_cpu_s"]
    result["others_share"] = max(0.0, others) / (result["seconds"] * (os.cpu_count() or 1))
    return result


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _name_role(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        title = " ".join(process.cmdline()[:2]) or process.name()
        return next((role for part, role in ROLES if part in title), "other Ray")
    return "other Ray"


def _await_answer(port: int, process: subprocess.Popen, log_path: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.suppress(OSError):
            connection.request("GET", "/")
            connection.getresponse().read()
            time.sleep(1.0)  # the second worker starts with the first
            return
        connection.close()
        time.sleep(0.1)
    raise RuntimeError(f"the app did not start: {log_path.read_text(errors='replace')[-2000:]}")


def _interrupt(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=30)
    if process.poll() is None:
        process.kill()
        process.wait()


def _end_family(parent: subprocess.Popen) -> None:
    family = []
    with contextlib.suppress(psutil.Error):
        family = psutil.Process(parent.pid).children(recursive=True)
    parent.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        parent.wait(timeout=5)
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill()
    if parent.poll() is None:
        parent.kill()
    parent.wait()
    psutil.wait_procs(family, timeout=5)
