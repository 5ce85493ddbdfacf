"""One row a request: this service against MLServer, LitServe and BentoML serving the same model, in one run.

Run: ``make bench-peers`` or ``python -m benchmarks.peers [--rounds 5] [--seconds 4]``. Each of them has an
environment of its own under ``.peers``, made on the first run from ``benchmarks/targets/<name>.lock``. Before the
rounds each is tried for a few seconds with and without its adaptive batching and with one and two workers, and its
fastest way is what is compared. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.online import Bench
from benchmarks.online import parse_options as parse_online
from benchmarks.peer_wire import WIRES, rewrite_rows
from benchmarks.processes import ROOT, Running, free_port, running_command, work_folder
from benchmarks.report import describe_machine, print_machine, print_online, summarize_online
from benchmarks.say import say

PEERS_DIR = ROOT / ".peers"
START_S = 60.0
TARGETS_DIR = Path(__file__).with_name("targets")


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a framework: rows it may batch (1: none), and its worker processes."""

    batch: int
    workers: int

    def __str__(self) -> str:
        return f"{f'batches of up to {self.batch}' if self.batch > 1 else 'no batching'}, {self.workers} workers"


WAYS = {
    "litserve": (Way(64, 1), Way(64, 2), Way(1, 1), Way(1, 2)),
    "bentoml": (Way(64, 1), Way(64, 2), Way(1, 2)),
    "mlserver": (Way(64, 0), Way(64, 1), Way(1, 0), Way(1, 2)),
}
"""MLServer without workers scores in the process of its HTTP server."""


def install(name: str) -> Path:
    """Return the interpreter of a framework's environment, which is made when it is not there or not up to date."""
    lock, home = TARGETS_DIR / f"{name}.lock", PEERS_DIR / name
    stamp, python = home / ".installed", home / "bin" / "python"
    if stamp.exists() and stamp.read_bytes() == lock.read_bytes():
        return python
    say(f"installing {name} into {home.relative_to(ROOT)} (a minute or two)")
    subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", lock]
    subprocess.run(pip, check=True)
    stamp.write_bytes(lock.read_bytes())
    return python


class PeerBench(Bench):
    """The service and the frameworks over one package."""

    def __init__(self, options: argparse.Namespace, work_dir: Path) -> None:
        super().__init__(options, work_dir)
        self.pythons = {name: install(name) for name in options.targets if name in WAYS}
        self.ways: dict[str, Way] = {}

    @contextlib.contextmanager
    def running(self, name: str) -> Iterator[Running]:
        if name not in WAYS:
            with super().running(name) as target:
                yield target
            return
        way, port = self.ways[name], free_port()
        self.rows_of[name] = rewrite_rows(self._rows, WIRES[name], self._package_dir, is_batched=way.batch > 1)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "BENCH_PACKAGE": str(self._package_dir),
            "BENCH_BATCH": str(way.batch),
            "BENCH_WORKERS": str(way.workers),
        }
        command = self._command(name, way, port)
        with running_command(command, environment, port, self._work_dir / f"{name}.log", WIRES[name].path) as target:
            _await_score(target, self.rows_of[name])
            yield target

    def choose_ways(self) -> None:
        """Try every way of each framework for some seconds and keep its fastest."""
        for name in self.pythons:
            rates = {}
            for way in WAYS[name]:
                self.ways[name] = way
                with self.running(name) as target:
                    rates[way] = self._load(name, target, seconds=self._options.seconds)["per_second"]
                say(f"{name}, {way}: {rates[way]:,.0f} requests/s")
            self.ways[name] = max(rates, key=rates.__getitem__)

    def _command(self, name: str, way: Way, port: int) -> list[str | Path]:
        python = self.pythons[name]
        if name == "litserve":
            options = ["--port", str(port), "--batch", str(way.batch), "--workers", str(way.workers)]
            return [python, "-m", "benchmarks.targets.litserve_app", *options]
        if name == "bentoml":
            options = ["--host", "127.0.0.1", "--port", str(port)]
            return [python, "-m", "bentoml", "serve", "benchmarks.targets.bentoml_app:Purchase", *options]
        return [python.with_name("mlserver"), "start", str(self._write_mlserver(way, port))]

    def _write_mlserver(self, way: Way, port: int) -> Path:
        folder = self._work_dir / "mlserver"
        folder.mkdir(exist_ok=True)
        settings = {
            "host": "127.0.0.1",
            "http_port": port,
            "grpc_port": free_port(),
            "metrics_port": free_port(),
            "parallel_workers": way.workers,
            "debug": False,
        }
        model = {"name": "purchase", "implementation": "benchmarks.targets.mlserver_app.Purchase"}
        model |= {"max_batch_size": way.batch, "max_batch_time": 0.001} if way.batch > 1 else {}
        (folder / "settings.json").write_text(json.dumps(settings))
        (folder / "model-settings.json").write_text(json.dumps(model))
        return folder


def _await_score(target: Running, rows: Path) -> None:
    """Return when a row is scored: servers answer some time before their models do."""
    body = json.dumps(json.loads(rows.read_bytes())[0]["body"])
    deadline = time.monotonic() + START_S
    answer = None
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.post(target.url, content=body, headers={"content-type": "application/json"}, timeout=10)
            if answer.status_code == 200:
                time.sleep(2.0)  # other workers start with the first
                return
        time.sleep(0.2)
    raise RuntimeError(f"no row was scored: {answer and answer.text}")


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each kind of load")
    parser.add_argument("--registry", type=Path, help="serve purchase@champion from here instead of training")
    parser.add_argument("--peers", type=lambda text: text.split(","), default=list(WAYS))
    parser.add_argument("--json", type=Path, help="write every figure here")
    own = parser.parse_args(arguments)
    if own.rounds < 1 or not set(own.peers) <= set(WAYS):
        parser.error(f"at least one round; peers are {', '.join(WAYS)}")
    others = parse_online(["--bulk-rows", "0", "--warmup", "1"])
    return argparse.Namespace(**{**vars(others), **vars(own), "targets": ["service", *own.peers]})


def main() -> None:
    options = parse_options()
    machine = describe_machine()
    with work_folder() as folder:
        bench = PeerBench(options, folder)
        bench.choose_ways()
        rounds = bench.measure_closed()
    summary = summarize_online(rounds)
    print_machine(machine, f"{options.rounds} rounds of {options.seconds:g} s: median (min-max)")
    for name, way in bench.ways.items():
        print(f"- {name}: {way}")
    print_online(summary)
    print(f"\nanswers that were wrong or missing: {bench.n_bad}")
    if options.json:
        content = {"machine": machine, "summary": summary, "rounds": rounds}
        content |= {"ways": {name: str(way) for name, way in bench.ways.items()}, "n_wrong_or_missing": bench.n_bad}
        options.json.write_text(json.dumps(content, indent=2))
    if bench.n_bad:
        sys.exit(1)


if __name__ == "__main__":
    main()
