"""One run of one way to score a folder of rows: what it took, and where its output is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psutil

from benchmarks.processes import ROOT, Running, make_environment, running_service
from benchmarks.watch import MACHINE, Watch

WAYS = ("expert_threads", "expert_processes", "pandas")
JOB_ROLES = (("ScoreWorker", "workers"), (":Encoder", "encoder"), (":CatBoostModel", "model"))
REPLICAS = ("encoder", "model")
PARTS = ("driver", "workers", *REPLICAS)
"""Roles whose CPU and memory are the job's; the rest is the cluster, which runs without a job too."""
LIMIT_S = 600.0


def run_way(way: str, package_dir: Path, source: Path, output: Path) -> dict:
    """Run one of `WAYS` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.batch_ways", way, str(package_dir), str(source), str(output)]

    def find() -> dict[psutil.Process, str]:
        process = psutil.Process(driver.pid)
        return dict.fromkeys((process, *process.children(recursive=True)), "driver")

    started_at = time.time()
    driver = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watch = Watch(lambda: find() if driver.poll() is None else {}, PARTS)
    said = _finish(driver, watch)
    return _describe(said["rows"], started_at, (said["began_at"], said["ended_at"]), watch)


@contextmanager
def running_job(
    target: Running, registry: Path, work_dir: Path, source: Path, output: Path, options: Sequence[str] = ()
) -> Iterator[Watch]:
    """Score with a batch job on a running service; gives the watch, whose `driver` is the job's process."""
    raylet = next(psutil.Process(pid) for pid, role in target.find_roles().items() if role == "raylet")
    driver = subprocess.Popen(
        [sys.executable, "-m", "batch.score", str(source), str(output), "--json", *options],
        cwd=ROOT,
        env=make_environment(registry, work_dir),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def find() -> dict[psutil.Process, str]:
        found = {process: _name(process) for process in raylet.children(recursive=True)}
        return {**found, psutil.Process(driver.pid): "driver"} if driver.poll() is None else found

    watch = Watch(find, PARTS)
    watch.driver = driver
    try:
        yield watch
    finally:
        if driver.poll() is None:
            driver.terminate()
            driver.communicate(timeout=60)


def run_job(registry: Path, source: Path, output: Path, look) -> dict:
    """Start a service, score with a batch job, call `look(target)`, and stop the service."""
    with tempfile.TemporaryDirectory(prefix="scorecat-bench-") as folder:
        work_dir = Path(folder)
        with running_service(registry, work_dir, "laptop") as target:
            started_at = time.time()
            with running_job(target, registry, work_dir, source, output) as watch:
                said = _finish(watch.driver, watch)
            span = tuple(datetime.fromisoformat(said[name]).timestamp() for name in ("scored_from", "scored_until"))
            found = _describe(said["rows_scored"], started_at, span, watch)
            look(target)
    return found


def _name(process: psutil.Process) -> str:
    try:
        title = " ".join(process.cmdline()[:2])
    except psutil.Error:
        return "other"
    return next((role for part, role in JOB_ROLES if part in title), "other")


def _finish(driver: subprocess.Popen, watch: Watch) -> dict:
    watch.start()
    try:
        stdout, stderr = driver.communicate(timeout=LIMIT_S)
    finally:
        if driver.poll() is None:
            driver.kill()
        watch.end()
    if driver.returncode:
        raise RuntimeError(f"{driver.args} failed: {stderr[-3000:]}")
    return json.loads(stdout.strip().splitlines()[-1])


def _describe(n_rows: int, started_at: float, span: tuple[float, float], watch: Watch) -> dict:
    began_at, ended_at = span
    cpu_s = watch.cpu_s(began_at, ended_at)
    others_s = cpu_s.pop(MACHINE) - sum(cpu_s.values())
    own = {role: seconds for role, seconds in cpu_s.items() if role in PARTS}
    return {
        "rows": n_rows,
        "seconds": ended_at - began_at,
        "rows_per_s": n_rows / (ended_at - began_at),
        "start_s": began_at - started_at,
        "end_s": time.time() - ended_at,
        "cpu_s_per_million": 1e6 * sum(own.values()) / n_rows,
        "cpu_s_per_million_by_role": {role: 1e6 * seconds / n_rows for role, seconds in cpu_s.items()},
        "pss_mb": watch.peak_bytes("pss", PARTS) / 1e6,
        "rss_mb": watch.peak_bytes("rss", PARTS) / 1e6,
        "replicas_pss_mb": watch.peak_bytes("pss", REPLICAS) / 1e6,
        "pss_mb_by_role": {role: watch.peak_bytes("pss", [role]) / 1e6 for role in cpu_s},
        "most_processes": dict(watch.most_processes),
        "others_share": max(0.0, others_s) / ((ended_at - began_at) * (os.cpu_count() or 1)),
        "load_average": os.getloadavg()[0],
    }
