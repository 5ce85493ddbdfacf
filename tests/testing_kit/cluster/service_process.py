"""The real service in its own processes, for the tests that need one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

SCORECAT = Path(sys.executable).with_name("scorecat")
ROW: dict[str, Any] = {
    "user_id": "541312140",
    "session_id": "s-1",
    "product_id": "1004856",
    "category_id": "2053013555631882655",
    "category_code": "electronics.smartphone",
    "brand": "samsung",
    "price": 130.76,
    "hour": 12,
    "day_of_week": 1,
    "is_weekend": 0,
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """Return the condition's first true value, or fail saying what was waited for."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"not within {timeout_s:g} s: {what}")


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class ServiceProcess:
    """``scorecat up`` and ``down`` on a state folder and port of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SCORECAT_", "RAY_"))},
            "SCORECAT_HOME": str(home),
            "SCORECAT_NUM_CPUS": "4",
            "PYTHONWARNINGS": "ignore",
        }
        self.facts: dict[str, Any] = {}

    def run(self, *arguments: str, timeout_s: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(SCORECAT), *arguments],
            check=False,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert not check or done.returncode == 0, f"scorecat {' '.join(arguments)}: {done.stderr[-3000:]}"
        return done

    def up(self, *arguments: str) -> dict[str, Any]:
        done = self.run("up", "--port", str(self.port), "--json", *arguments)
        self.facts = json.loads(done.stdout)
        return self.facts

    def down(self) -> None:
        self.run("down")

    def deployments(self) -> dict[str, dict[str, list[int]]]:
        """Pids of the living replicas by application and deployment; Ray lists a killed one for a while."""
        details = httpx.get(f"{self.facts['job_address']}/api/serve/applications/", timeout=60).json()
        return {
            app_name: {
                name: [r["pid"] for r in deployment["replicas"] if r["state"] == "RUNNING" and _is_alive(r["pid"])]
                for name, deployment in app["deployments"].items()
            }
            for app_name, app in details["applications"].items()
        }

    def predict(self, row: dict[str, Any] | None = None, **options: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/predict_purchase", json=row or ROW, timeout=30, **options)

    def is_answering(self) -> bool:
        try:
            return self.predict().status_code == 200
        except httpx.TransportError:
            return False
