"""CPU of a request with a change, of that without it: two services side by side, measured in turns.

Run: ``python -m benchmarks.paired --against ../before`` (a checkout with an environment of its own), or
``python -m benchmarks.paired --set SCORECAT_STATE=off`` (this checkout with a setting, against it without).

Both services run all the time and have no load while the other is measured, so what is left of their idling is the
same for both. Each round measures both, and the order turns every round. A request's CPU is that of all processes of
its service; the interval is a bootstrap of the rounds' median. Below 2 % is called not resolved. Exit code 1 when an
answer was wrong or missing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap

from benchmarks.history import add_keys
from benchmarks.model import train_reference
from benchmarks.processes import SCORECAT, measure_load, running_service, work_folder
from benchmarks.report import describe_machine, middle, print_machine
from benchmarks.rows import make_bodies, save_rows
from benchmarks.say import say
from serve_app.models.adapters.registry_folder import DirectoryRegistry

N_ROWS = 2_000
SMALLEST = 0.02
"""Smaller differences come and go between runs of the same code on shared cores."""
TRAIN = """
import sys, pathlib
from benchmarks.model import train_reference
from serve_app.models.adapters.registry_folder import DirectoryRegistry
train_reference(DirectoryRegistry(pathlib.Path(sys.argv[1])))
"""


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="checkout of the code without the change")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="the change is this setting")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds of the same load first, not counted")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--registry", type=Path, help="serve purchase@champion from here instead of training")
    parser.add_argument("--json", type=Path, help="write every figure here")
    options = parser.parse_args()
    if bool(options.against) == bool(options.set) or options.rounds < 2:
        parser.error("either --against or --set, and at least two rounds")
    if options.against and not _command_of(options.against).exists():
        parser.error(f"{options.against} has no environment: run `make env` there")
    return options


def main() -> None:
    options = parse_options()
    machine = describe_machine()
    with work_folder() as folder:
        registry = options.registry or folder / "registry"
        _fill_registry(registry, options.against)
        rounds = _measure(options, folder, registry)
    print_machine(machine, f"{options.rounds} rounds of {options.seconds:g} s, {options.connections} connections")
    print_paired(rounds)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rounds": rounds}, indent=2))
    if any(result["wrong"] + result["failed"] for one in rounds for result in one.values()):
        sys.exit(1)


def _measure(options: argparse.Namespace, folder: Path, registry: Path) -> list[dict]:
    opened = DirectoryRegistry(registry)
    package = opened.locate("purchase", opened.resolve("purchase", "champion"))
    rows = folder / "rows.json"
    save_rows(package, add_keys(make_bodies(package, N_ROWS)), rows)
    settings = dict(item.split("=", 1) for item in options.set)
    before = _command_of(options.against) if options.against else SCORECAT
    with ExitStack() as stack:
        targets = {
            name: stack.enter_context(running_service(registry, folder / name, "laptop", None, extra, command))
            for name, extra, command in (("with", settings, SCORECAT), ("without", {}, before))
        }
        rounds = []
        for number in range(options.rounds):
            names = list(targets) if number % 2 else list(targets)[::-1]
            say(f"round {number + 1} of {options.rounds} (load average {os.getloadavg()[0]:.2f})")
            found = {
                name: measure_load(
                    targets[name],
                    rows,
                    seconds=options.seconds,
                    warmup=options.warmup,
                    connections=options.connections,
                )
                for name in names
            }
            rounds.append(found)
    return rounds


def print_paired(rounds: list[dict]) -> None:
    """Print CPU a request by process, and the ratio with its interval."""
    ratios = np.array([_cpu_us(one["with"]) / _cpu_us(one["without"]) for one in rounds])
    interval = bootstrap((ratios,), np.median, method="percentile", rng=0).confidence_interval
    change = float(np.median(ratios)) - 1
    print("\n| | CPU a request, us | requests/s | p99, ms | CPU by process, us |\n|---|---|---|---|---|")
    for name in ("with", "without"):
        results = [one[name] for one in rounds]
        roles = ", ".join(
            f"{role} {np.median([result['cpu_us'].get(role, 0.0) for result in results]):.0f}"
            for role in results[0]["cpu_us"]
        )
        print(
            f"| {name} | {middle([_cpu_us(result) for result in results])} | "
            f"{middle([result['per_second'] for result in results])} | "
            f"{middle([result['latency_ms']['p99'] for result in results], '.1f')} | {roles} |"
        )
    is_resolved = abs(change) >= SMALLEST and (interval.low > 1 or interval.high < 1)
    print(
        f"\nCPU a request with, of without: {1 + change:.3f} (95 % interval {interval.low:.3f}-{interval.high:.3f}), "
        f"{len(rounds)} rounds: {f'{change:+.1%}' if is_resolved else 'not resolved'}"
    )


def _cpu_us(result: dict) -> float:
    return sum(result["cpu_us"].values())


def _command_of(checkout: Path) -> Path:
    return checkout.resolve() / ".venv" / "bin" / "scorecat"


def _fill_registry(registry: Path, against: Path | None) -> None:
    """Train the model where there is none, by the older code: the newer reads what the older wrote."""
    if DirectoryRegistry(registry).names():
        return
    if against is None:
        train_reference(DirectoryRegistry(registry))
        return
    python = _command_of(against).with_name("python")
    subprocess.run([python, "-c", TRAIN, registry.resolve()], cwd=against, check=True)


if __name__ == "__main__":
    main()
