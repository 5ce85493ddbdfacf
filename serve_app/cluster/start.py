"""Start one Ray cluster of this machine's own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from serve_app.cluster.machine import LOOPBACK, is_free, make_private, name_listener
from serve_app.cluster.spec import ClusterSpec, shared_arrays_dir, sockets_dir
from serve_app.errors import BadRequestError, InvariantError

START_TIMEOUT_S: Final = 60.0
OBJECT_STORE_BYTES: Final = 2 * 1024**3


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
    make_private(sockets_dir(spec))
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
