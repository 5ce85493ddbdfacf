"""Batch jobs against what people would write instead, and beside online requests, in one run.

Run: ``python -m benchmarks.batch [--rows 1,5,20] [--rounds 3] [--online-rounds 3] [--json FILE]``. Rows are
generated once, into ``--folder``, and read again by every way and every later run. The ways take turns; the
service runs only while its job does. Exit code 1 when a score differs. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.batch_check import Drawn
from benchmarks.batch_online import measure_online, print_beside
from benchmarks.batch_rows import write_files
from benchmarks.batch_runs import WAYS, run_job, run_way
from benchmarks.model import train_reference
from benchmarks.report import describe_machine, middle
from benchmarks.say import say
from serve_app.models.adapters.registry_folder import DirectoryRegistry

JOB = "batch job"
FIGURES = (
    ("rows_per_s", ",.0f"), ("cpu_s_per_million", ".2f"), ("pss_mb", ",.0f"), ("rss_mb", ",.0f"),
    ("replicas_pss_mb", ",.0f"), ("start_s", ".1f"), ("end_s", ".1f"),
    ("others_share", ".0%"),
)  # fmt: skip


class Bench:
    """The ways over one package."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.folder: Path = options.folder
        self.registry = DirectoryRegistry(options.registry or self.folder / "registry")
        if not self.registry.names():
            train_reference(self.registry)
        self.package_dir = self.registry.locate("purchase", self.registry.resolve("purchase", "champion"))
        self.n_wrong = 0

    def source(self, n_rows: int) -> Path:
        """Return a folder with that many rows, made if it is not there."""
        digest = hashlib.sha256((self.package_dir / "vocabularies.json").read_bytes()).hexdigest()[:8]
        folder = self.folder / f"rows-{digest}-{n_rows}"
        if not (folder / "_complete").exists():
            say(f"writing {n_rows:,} rows to {folder}")
            write_files(self.package_dir, folder, n_rows)
            (folder / "_complete").touch()
        return folder

    def measure(self, n_rows: int) -> list[dict[str, dict]]:
        """Return {way: result} of each round."""
        source = self.source(n_rows)
        ways = [JOB, *self._options.ways]
        return [self._measure_round(source, n_rows, number, ways) for number in range(self._options.rounds)]

    def _measure_round(self, source: Path, n_rows: int, number: int, ways: list[str]) -> dict[str, dict]:
        found: dict[str, dict] = {}
        drawn = Drawn(source)
        with tempfile.TemporaryDirectory(prefix="outputs-", dir=self.folder) as folder:
            outputs = {way: Path(folder) / way for way in ways}
            for k in range(len(ways)):
                way = ways[(number + k) % len(ways)]
                say(f"{n_rows:,} rows, round {number + 1}: {way} (load average {os.getloadavg()[0]:.2f})")
                if way == JOB:
                    found[way] = run_job(self.registry.root, source, outputs[way], lambda t: drawn.ask(t.port))
                else:
                    found[way] = run_way(way, self.package_dir, source, outputs[way])
                say(f"  {found[way]['rows_per_s']:,.0f} rows/s")
            for way, output in outputs.items():
                found[way]["n_wrong"] = drawn.count_wrong(output)
                self.n_wrong += found[way]["n_wrong"]
        return {way: found[way] for way in ways}


def summarize(rounds: dict[int, list[dict[str, dict]]]) -> dict:
    """Return medians and spreads by size and way, the ratios within rounds, and how memory grows."""
    summary: dict = {"sizes": {}}
    for n_rows, found in rounds.items():
        ways = {way: {name: _spread([one[way][name] for one in found]) for name, _ in FIGURES} for way in found[0]}
        experts = [way for way in ways if way.startswith("expert")]
        best = max(experts, key=lambda way: ways[way]["rows_per_s"]["median"], default=None)
        ratios = {
            f"{JOB} / {way}": _spread([one[JOB]["rows_per_s"] / one[way]["rows_per_s"] for one in found])
            for way in ways if way != JOB
        }  # fmt: skip
        summary["sizes"][n_rows] = {"ways": ways, "ratios": ratios, "best_expert": best}
    sizes = sorted(rounds)
    if len(sizes) > 1:
        large, small = (summary["sizes"][n]["ways"][JOB]["pss_mb"]["median"] for n in (sizes[-1], sizes[-2]))
        summary["memory_growth"] = {"from_rows": sizes[-2], "to_rows": sizes[-1], "ratio": large / small}
    return summary


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


def print_sizes(summary: dict) -> None:
    for n_rows, found in summary["sizes"].items():
        print(f"\n### {n_rows:,} rows\n")
        print(
            "| way | rows/s | batch job / this | CPU s per million rows | peak PSS, MB | peak RSS, MB | replicas PSS, "
            "MB | start, s | end, s | others' CPU |\n|---|---|---|---|---|---|---|---|---|---|"
        )
        for way, figures in found["ways"].items():
            ratio = found["ratios"].get(f"{JOB} / {way}")
            shown = [_show(figures[name], form) for name, form in FIGURES]
            print(f"| {way} | {shown[0]} | {_show(ratio, '.2f') if ratio else ''} | {' | '.join(shown[1:])} |")
        print(f"\nthe faster expert: {found['best_expert']}")
    if growth := summary.get("memory_growth"):
        print(
            f"\npeak PSS of the job at {growth['to_rows']:,} rows: {growth['ratio']:.2f} times that at "
            f"{growth['from_rows']:,}"
        )


def _show(spread: dict[str, float], form: str) -> str:
    return middle([spread["min"], spread["median"], spread["max"]], form)


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", default=[1_000_000, 5_000_000, 20_000_000], help="sizes in millions, by comma; empty for none",
        type=lambda text: [round(1e6 * float(size)) for size in text.split(",") if size],
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3, help="of every size")
    parser.add_argument("--ways", type=lambda text: [w for w in text.split(",") if w], default=list(WAYS))
    parser.add_argument("--online-rounds", type=int, default=3, help="with and without a job; 0 leaves it out")
    parser.add_argument("--online-seconds", type=float, default=15.0)
    parser.add_argument("--online-rate", type=float, default=100.0, help="requests due each second")
    parser.add_argument("--registry", type=Path, help="serve purchase@champion from here instead of training")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "scorecat-bench-batch",
        help="where rows and the model are kept for the next run; 1 GB for 20 million",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="write every figure here")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or not set(options.ways) <= set(WAYS):
        parser.error(f"at least one round; ways are {', '.join(WAYS)}")
    return options


def main() -> None:
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything started is stopped
    options.folder.mkdir(parents=True, exist_ok=True)
    machine = describe_machine()
    bench = Bench(options)
    rounds = {n_rows: bench.measure(n_rows) for n_rows in sorted(options.rows)}
    summary = summarize(rounds)
    print(f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}; {options.rounds} rounds: "
          f"median (min-max); load average before: {machine['load_average'][0]}")  # fmt: skip
    print_sizes(summary)
    beside = []
    if options.online_rounds:
        source = bench.source(max(options.rows, default=20_000_000))
        beside = measure_online(bench.registry, source, options)
        print_beside(beside, options.online_rate)
    print(f"\nrows whose scores differ: {bench.n_wrong}")
    if options.json:
        content = {"machine": machine, "summary": summary, "rounds": rounds, "beside": beside}
        options.json.write_text(json.dumps({**content, "n_wrong": bench.n_wrong}, indent=2))
    if bench.n_wrong or any(one["n_bad"] for one in beside):
        sys.exit(1)


if __name__ == "__main__":
    main()
