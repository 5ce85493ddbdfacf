"""One row a request, and many: this service against what people would use instead, in one run.

Run: ``python -m benchmarks.online [--rounds 3] [--seconds 8] [--connections 64] [--json FILE]``.
``--targets service,stateless --history-share 0`` compares looking every row up with SCORECAT_STATE=off.
Each target is started, measured and stopped before the next, in an order that turns every round:
an idle Ray cluster alone takes a fifth of a core. Exit code 1 when an answer was wrong
or missing. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from benchmarks.bulk import Bulk, has_route
from benchmarks.history import add_keys, fill_history, make_events, send_events
from benchmarks.model import train_reference
from benchmarks.processes import Running, measure_load, running_app, running_service, work_folder
from benchmarks.report import describe_machine, print_bulk, print_machine, print_online, summarize_online
from benchmarks.rows import HISTORY_SHARE, make_bodies, save_rows
from benchmarks.say import say
from serve_app.models.adapters.registry_folder import DirectoryRegistry

APPS = {"pandas": "pandas_app", "numpy": "numpy_app"}
TARGETS = ("service", *APPS)
STATELESS = "stateless"
"""The service without live history; its rows are the same."""
N_ROWS = 2_000
OPEN_SHARE = 0.5
"""Rate of the open loop, as a share of the slowest target's median rate in the closed loop."""


class Bench:
    """The targets over one package, and the checks that every answer passed."""

    def __init__(self, options: argparse.Namespace, work_dir: Path) -> None:
        self._options = options
        self._work_dir = work_dir
        self._registry = DirectoryRegistry(options.registry or work_dir / "registry")
        if not self._registry.names():
            train_reference(self._registry)
        self._package_dir = self._registry.locate("purchase", self._registry.resolve("purchase", "champion"))
        self._rows = work_dir / "rows.json"
        bodies = add_keys(make_bodies(self._package_dir, N_ROWS, history_share=options.history_share))
        save_rows(self._package_dir, bodies, self._rows)
        self._events = make_events(bodies)
        self.rows_of = {"service": work_dir / "looked-up-rows.json"}
        save_rows(self._package_dir, bodies, self.rows_of["service"], fill_history(bodies, self._events))
        self.bulk_rounds: list[dict] = []
        self.n_bad = 0

    @contextlib.contextmanager
    def running(self, name: str) -> Iterator[Running]:
        if name in {"service", STATELESS}:
            state = "off" if name == STATELESS else self._options.state
            with running_service(self._registry.root, self._work_dir, self._options.profile, state) as target:
                if name == "service":
                    send_events(target.port, self._events)
                yield target
        else:
            with running_app(APPS[name], self._package_dir, self._work_dir) as target:
                yield target

    def measure_closed(self) -> list[dict]:
        """Return a {target: {kind of load: result}} of each round of closed loops, and measure many rows."""
        n, seconds = self._options.connections, self._options.seconds

        def measure(name: str, target: Running) -> dict:
            found = {
                f"closed loop, {n} connections": self._load(name, target, seconds=seconds),
                "closed loop, 1 connection": self._load(name, target, seconds=seconds / 2, connections=1),
            }
            if name == "service" and self._options.bulk_rows:
                self._measure_bulk(target)
            return found

        return [self._measure_round("closed", number, measure) for number in range(self._options.rounds)]

    def measure_open(self, closed: list[dict]) -> list[dict]:
        """Return the same for open loops, at a rate that every target sustained in the closed loop."""
        n, seconds = self._options.connections, self._options.seconds
        slowest = min(
            median(found[name][f"closed loop, {n} connections"]["per_second"] for found in closed)
            for name in self._options.targets
        )
        rate = self._options.rate or max(1.0, round(OPEN_SHARE * slowest))

        def measure(name: str, target: Running) -> dict:
            return {
                f"open loop, {rate:,.0f} rows due each second": self._load(name, target, seconds=seconds, rate=rate)
            }

        return [self._measure_round("open", number, measure) for number in range(self._options.rounds)]

    def _measure_round(self, loop: str, number: int, measure: Callable[[str, Running], dict]) -> dict:
        names = self._options.targets
        found = {}
        for k in range(len(names)):
            name = names[(number + k) % len(names)]
            busy = f"load average {os.getloadavg()[0]:.2f}"
            say(f"{loop} loop, round {number + 1} of {self._options.rounds}: {name} ({busy})")
            with self.running(name) as target:
                found[name] = measure(name, target)
        return {name: found[name] for name in names}

    def _load(self, label: str, target: Running, **options) -> dict:
        options = {"connections": self._options.connections, "warmup": self._options.warmup} | options
        result = measure_load(target, self.rows_of.get(label, self._rows), **options)
        bad = result["wrong"] + result["failed"]
        self.n_bad += bad
        if bad:
            say(f"  {label}: {result['wrong']} wrong, {result['failed']} failed; first: {result['first_fault']}")
        return result

    def _measure_bulk(self, target: Running) -> None:
        if not has_route(target.port):
            say("  this service has no /invocations: the rows for many rows a request are left out")
            return
        found = Bulk(self._package_dir, self._options.bulk_rows).measure(target.port, self._options.seconds)
        for form, result in found.items():
            if result["wrong"]:
                self.n_bad += result["wrong"]
                say(f"  {form}: {result['wrong']} of {result['calls']} answers differ")
        self.bulk_rounds.append(found)


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each kind of load")
    parser.add_argument("--warmup", type=float, default=2.0, help="seconds of the same load first, not counted")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rate", type=float, help="rows due each second in the open loop; default half the slowest")
    parser.add_argument("--bulk-rows", type=int, default=10_000, help="rows of a large request; 0 leaves them out")
    parser.add_argument("--profile", default="laptop", help="profile of the service")
    parser.add_argument("--registry", type=Path, help="serve purchase@champion from here instead of training")
    parser.add_argument("--targets", type=lambda text: text.split(","), default=list(TARGETS))
    parser.add_argument("--state", help="SCORECAT_STATE of the service: a Redis URL; default SQLite in a new folder")
    parser.add_argument("--history-share", type=float, default=HISTORY_SHARE, help="rows that bring their history")
    parser.add_argument("--json", type=Path, help="write every figure here")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or not set(options.targets) <= {*TARGETS, STATELESS}:
        parser.error(f"at least one round; targets are {', '.join([*TARGETS, STATELESS])}")
    return options


def main() -> None:
    options = parse_options()
    machine = describe_machine()
    with work_folder() as folder:
        bench = Bench(options, folder)
        closed = bench.measure_closed()
        opened = bench.measure_open(closed)
    rounds = [{name: one[name] | two[name] for name in one} for one, two in zip(closed, opened, strict=True)]
    summary = summarize_online(rounds)
    rounds_of = f"{options.rounds} rounds of {options.seconds:g} s: median (min-max)"
    print_machine(machine, rounds_of, f"load average before: {machine['load_average'][0]}")
    print_online(summary)
    if bench.bulk_rounds:
        print_bulk(bench.bulk_rounds, options.bulk_rows)
    print(f"\nanswers that were wrong or missing: {bench.n_bad}")
    if options.json:
        shown = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
        content = {"machine": machine, "options": shown, "summary": summary, "rounds": rounds}
        content |= {"bulk_rounds": bench.bulk_rounds, "n_wrong_or_missing": bench.n_bad}
        options.json.write_text(json.dumps(content, indent=2))
    if bench.n_bad:
        sys.exit(1)


if __name__ == "__main__":
    main()
