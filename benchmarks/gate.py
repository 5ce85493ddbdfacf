"""Has anything become slower? The ratios of a run beside stored ones; times are never compared.

Run: ``make bench-gate``, or ``python -m benchmarks.gate BENCH.json`` for what
``python -m benchmarks.online --json BENCH.json`` wrote. ``--store`` keeps the run's ratios in
``benchmarks/ratios.json`` as those to hold. Exit code 1 when a ratio is worse than the stored one by more than the
tolerance.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.bulk import PANDAS, RAW_1, SERVICE_ARROW, SERVICE_JSON

STORED = Path(__file__).with_name("ratios.json")
TOLERANCE = 0.25
"""Medians of five rounds on a shared machine differ by up to a fifth from one hour to the next."""
MANY = "closed loop, 64 connections"
ONLINE = {"requests/s": "per_second", "p99": "p99_ms", "CPU a request": "cpu_us"}
LOWER_IS_BETTER = {"p99", "CPU a request"}


def read_ratios(bench: dict) -> dict[str, float]:
    """Return the ratios that are held, by name, from what the online benchmark wrote."""
    return dict(_find_ratios(bench))


def _find_ratios(bench: dict) -> Iterator[tuple[str, float]]:
    for pair, found in bench["summary"].get(MANY, {}).get("ratios", {}).items():
        for name, key in ONLINE.items():
            yield f"{pair}, {name}", round(found[key]["median"], 3)
    rounds = bench["bulk_rounds"]
    for form, base in ((SERVICE_ARROW, RAW_1), (SERVICE_JSON, PANDAS)):
        if rounds:
            ratios = [one[form]["rows_per_second"] / one[base]["rows_per_second"] for one in rounds]
            yield f"{form} / {base}, rows/s", round(median(ratios), 3)


def compare(
    stored: dict[str, float], found: dict[str, float], tolerance: float
) -> list[tuple[str, float, float, bool]]:
    """Compare every stored ratio; one that was not measured does not hold."""
    rows = []
    for name, before in stored.items():
        now = found.get(name, float("nan"))
        is_lower = name.rpartition(", ")[2] in LOWER_IS_BETTER
        holds = now <= before * (1 + tolerance) if is_lower else now >= before * (1 - tolerance)
        rows.append((name, before, now, holds))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, help="what `python -m benchmarks.online --json` wrote")
    parser.add_argument("--stored", type=Path, default=STORED)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="share by which a ratio may be worse")
    parser.add_argument("--store", action="store_true", help="keep these ratios as those to hold")
    options = parser.parse_args()
    bench = json.loads(options.bench.read_bytes())
    found = read_ratios(bench)
    if options.store:
        options.stored.write_text(json.dumps({"machine": bench["machine"], "ratios": found}, indent=2) + "\n")
        print(f"{len(found)} ratios stored in {options.stored}")
        return
    rows = compare(json.loads(options.stored.read_bytes())["ratios"], found, options.tolerance)
    print("| ratio | stored | now | |")
    print("|---|---|---|---|")
    for name, before, now, holds in rows:
        print(f"| {name} | {before:.2f} | {now:.2f} | {'holds' if holds else '**worse**'} |")
    if not all(holds for *_, holds in rows) or bench["n_wrong_or_missing"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
