"""What is needed to start a cluster of this machine and to find it again; one command at a time does so."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serve_app.cluster.machine import LOOPBACK, free_ports, is_free
from serve_app.errors import BadRequestError, InvariantError
from serve_app.settings import Settings
from serve_app.storage.json_file import replace_json

SPEC_FILE: Final = "cluster.json"
DASHBOARD_PORT: Final = 8265


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


def sockets_dir(spec: ClusterSpec) -> Path:
    """Return the folder of the sockets at which replicas of this machine answer calls."""
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


def derive_spec(settings: Settings) -> ClusterSpec:
    """Return a spec with the mark and folder that any cluster of this home has; its ports mean nothing."""
    return plan_cluster(settings.home, settings.host, settings.port, settings.num_cpus)


@contextlib.contextmanager
def lock_home(home: Path) -> Iterator[None]:
    """Let one command at a time start or stop the service; raises BadRequestError while another does."""
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
