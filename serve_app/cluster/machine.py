"""What this machine has for a cluster: ports, connections, and folders that nobody else can use."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
import resource
import socket
import stat
from pathlib import Path
from typing import Final

import psutil

from serve_app.errors import InvariantError

LOOPBACK: Final = "127.0.0.1"
PORT_RANGE: Final = range(20_000, 30_000)
"""Above Ray's worker ports (10002-19999), below its replicas' (30000) and the kernel's (32768)."""


def make_private(folder: Path) -> None:
    """Make a folder that nobody else can use: replicas believe what they find there.

    Raises
    ------
    InvariantError
        It cannot be made, or somebody else has made it.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as exc:
        raise InvariantError(f"{folder} cannot be made: {exc.strerror}") from exc
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise InvariantError(f"{folder} is no folder of your own that only you can use: remove it, then start again")


def is_free(host: str, port: int) -> bool:
    """Return whether a TCP port can be bound; raises OSError for a host that is none of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
            return False
    return True


def free_ports(n: int) -> list[int]:
    """Return free ports below the range from which the kernel takes the ports of outgoing connections.

    In that range a process that keeps trying to reach a server not yet listening may be given the
    very port it tries, connect to itself, and keep the server from starting.
    """
    candidates = random.SystemRandom().sample(PORT_RANGE, 40 * n)
    return list(itertools.islice((port for port in candidates if is_free(LOOPBACK, port)), n))


def max_connections() -> int:
    """Return how many connections HAProxy may hold: each takes two files, and it keeps some thousands aside."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 10_000 if hard == resource.RLIM_INFINITY else max(1_000, min(10_000, (hard - 6_000) // 2))


def name_listener(port: int) -> str:
    """Return who listens on a port, as the end of a sentence; empty when that cannot be seen."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return ""
