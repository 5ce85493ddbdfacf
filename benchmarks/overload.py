"""More requests than the service can answer: what is still answered, and how soon the others are refused.

Run: ``python -m benchmarks.overload [--rounds 5] [--seconds 5] [--factors 1,2,3]``.

Each round finds the saturation rate of ``--connections`` (64) in a closed loop, then sends multiples of it in an open
loop over so many connections that none waits for another. Goodput is right answers within the service's deadline,
each second; refused are answers 503 with Retry-After. The load process shares the machine's
cores with the service and takes more of them the more it sends; its CPU is shown beside. Exit code 1 when an answer
was wrong, late or missing.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.online import Bench
from benchmarks.online import parse_options as parse_online
from benchmarks.processes import Running, work_folder
from benchmarks.report import describe_machine, middle, print_machine
from benchmarks.say import say

DEADLINE_S = 5.0
"""SCORECAT_REQUEST_TIMEOUT_S by default."""


class OverloadBench(Bench):
    """Rounds of saturation and of multiples of it, against one service."""

    def measure(self, target: Running) -> list[dict]:
        options = self._options
        rounds = []
        for number in range(options.rounds):
            found = {0.0: self._load("service", target, seconds=options.seconds)}
            saturation = found[0.0]["per_second"]
            say(f"round {number + 1} of {options.rounds}: saturated at {saturation:,.0f} requests/s")
            for factor in options.factors:
                found[factor] = self._load(
                    "service",
                    target,
                    seconds=options.seconds,
                    rate=factor * saturation,
                    connections=options.clients,
                    refusable=True,
                )
            rounds.append(found)
        return rounds


def print_overload(rounds: list[dict]) -> None:
    """Print one line a rate, medians of the rounds."""
    print("\n| sent | goodput, of saturation | p50, ms | p99, ms | refused | refused p50, ms | p99, ms | load, cores |")
    print("|---|---|---|---|---|---|---|---|")
    for factor in rounds[0]:
        results = [one[factor] for one in rounds]
        shares = [r["ok"] / r["seconds"] / one[0.0]["per_second"] for r, one in zip(results, rounds, strict=True)]
        latency = [middle([r["latency_ms"][q] for r in results]) for q in ("p50", "p99")]
        refused = [[r["refusal_ms"][q] for r in results if r["refused"]] for q in ("p50", "p99")]
        name = (
            f"{factor:g} times saturation"
            if factor
            else f"closed loop ({middle([r['per_second'] for r in results])}/s)"
        )
        print(
            f"| {name} | {middle(shares, '.2f')} | {' | '.join(latency)} | "
            f"{middle([r['refused'] / r['sent'] for r in results], '.0%')} | "
            f"{' | '.join(middle(values, ',.1f') for values in refused)} | "
            f"{middle([r['load_cpu_s'] / r['seconds'] for r in results], '.2f')} |"
        )


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each rate")
    parser.add_argument(
        "--factors", type=lambda text: [float(part) for part in text.split(",")], default=[1.0, 2.0, 3.0]
    )
    parser.add_argument("--connections", type=int, default=64, help="of the closed loop")
    parser.add_argument("--clients", type=int, default=2_000, help="connections of the open loop")
    parser.add_argument("--registry", type=Path, help="serve purchase@champion from here instead of training")
    parser.add_argument("--json", type=Path, help="write every figure here")
    own = parser.parse_args(arguments)
    if own.rounds < 1 or not own.factors or min(own.factors) <= 0:
        parser.error("at least one round and one factor, all above 0")
    others = parse_online(["--bulk-rows", "0", "--warmup", "1", "--targets", "service"])
    return argparse.Namespace(**{**vars(others), **vars(own)})


def main() -> None:
    options = parse_options()
    machine = describe_machine()
    with work_folder() as folder:
        bench = OverloadBench(options, folder)
        with bench.running("service") as target:
            rounds = bench.measure(target)
    n_late = sum(r["latency_ms"]["max"] > 1e3 * DEADLINE_S for one in rounds for r in one.values() if r["ok"])
    print_machine(
        machine,
        f"{options.rounds} rounds of {options.seconds:g} s, {options.clients:,} connections: median (min-max)",
    )
    print_overload(rounds)
    print(f"\nanswers that were wrong or missing: {bench.n_bad}; measurements with one after its deadline: {n_late}")
    if options.json:
        shown = [{str(factor): result for factor, result in one.items()} for one in rounds]
        options.json.write_text(json.dumps({"machine": machine, "rounds": shown}, indent=2))
    if bench.n_bad or n_late:
        sys.exit(1)


if __name__ == "__main__":
    main()
