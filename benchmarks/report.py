"""Medians, spreads and ratios of rounds, as Markdown tables."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks.bulk import ARROW_HERE, PANDAS, RAW_1, RAW_2, SERVICE_ARROW, SERVICE_JSON

LIBRARIES = ("ray", "catboost", "fastapi", "uvicorn", "uvloop", "pandas", "numpy", "pyarrow", "orjson")


def describe_machine() -> dict:
    """Return what the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }


def print_machine(machine: dict, *facts: str) -> None:
    """Print the first line of every report."""
    print("; ".join([f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}", *facts]))


def middle(values: list[float], form: str = ",.0f") -> str:
    """Return ``median (min-max)``."""
    if not values:
        return "-"
    low, mid, high = (format(f(values), form) for f in (min, median, max))
    return mid if low == high else f"{mid} ({low}-{high})"


def summarize_online(rounds: list[dict]) -> dict:
    """Return medians and spreads by kind of load, target and figure, and the ratios within rounds.

    Parameters
    ----------
    rounds : list of {target: {kind of load: result}}
    """
    summary: dict = {}
    for kind in rounds[0][next(iter(rounds[0]))]:
        summary[kind] = {}
        for target in rounds[0]:
            results = [one[target][kind] for one in rounds]
            figures = {name: [_figure(result, name) for result in results] for name in FIGURES}
            summary[kind][target] = {
                name: _spread([v for v in values if v is not None]) for name, values in figures.items()
            }
            summary[kind][target]["cpu_us_by_role"] = {
                role: median(result["cpu_us"].get(role, 0.0) for result in results) for role in results[0]["cpu_us"]
            }
        if "service" in rounds[0]:
            summary[kind]["ratios"] = {
                f"service/{other}": {
                    name: _spread(
                        [_figure(one["service"][kind], name) / _figure(one[other][kind], name) for one in rounds]
                    )
                    for name in ("per_second", "p50_ms", "p99_ms", "cpu_us")
                }
                for other in rounds[0]
                if other != "service"
            }
    return summary


FIGURES = ("per_second", "p50_ms", "p99_ms", "cpu_us", "load_cpu_us", "late_p99_ms", "others_share")


def _figure(result: dict, name: str) -> float:
    if name in {"p50_ms", "p99_ms"}:
        return result["latency_ms"][name[:3]]
    if name == "late_p99_ms":
        return result["generator_late_ms"]["p99"]
    return sum(result["cpu_us"].values()) if name == "cpu_us" else result[name]


def _spread(values: list[float]) -> dict:
    return {"median": median(values), "min": min(values), "max": max(values)} if values else {}


def _show(spread: dict, form: str = ",.0f") -> str:
    return middle([spread["min"], spread["median"], spread["max"]], form) if spread else "-"


def print_online(summary: dict) -> None:
    """Print one table a kind of load, and the ratios."""
    for kind, targets in summary.items():
        print(f"\n### {kind}\n")
        print("| target | requests/s | p50, ms | p99, ms | CPU a request, us | CPU by process, us | others' CPU |")
        print("|---|---|---|---|---|---|---|")
        for target, found in targets.items():
            if target == "ratios":
                continue
            roles = sorted(found["cpu_us_by_role"].items(), key=lambda item: -item[1])
            by_role = ", ".join(f"{role} {us:,.0f}" for role, us in [*roles, ("load", found["load_cpu_us"]["median"])])
            print(
                f"| {target} | {_show(found['per_second'])} | {_show(found['p50_ms'], ',.1f')} | "
                f"{_show(found['p99_ms'], ',.1f')} | {_show(found['cpu_us'])} | {by_role} | "
                f"{_show(found['others_share'], '.0%')} |"
            )
        for name, ratio in targets.get("ratios", {}).items():
            print(
                f"| **{name}** | {_show(ratio['per_second'], '.2f')} | {_show(ratio['p50_ms'], '.2f')} | "
                f"{_show(ratio['p99_ms'], '.2f')} | {_show(ratio['cpu_us'], '.2f')} | | |"
            )


def print_bulk(rounds: list[dict], n_rows: int) -> None:
    """Print rows a second of each form and its ratio to the raw and the pandas form."""
    print(f"\n### {n_rows:,} rows a request, one at a time\n")
    print("| form | rows/s | a call, ms | of predict_proba, 1 thread | of 2 threads | of json.loads + DataFrame |")
    print("|---|---|---|---|---|---|")
    for form in (RAW_1, RAW_2, PANDAS, ARROW_HERE, SERVICE_ARROW, SERVICE_JSON):
        rates = [one[form]["rows_per_second"] for one in rounds]
        ratios = [
            middle([one[form]["rows_per_second"] / one[base]["rows_per_second"] for one in rounds], ".2f")
            for base in (RAW_1, RAW_2, PANDAS)
        ]
        calls = middle([one[form]["p50_ms"] for one in rounds], ",.1f")
        print(f"| {form} | {middle(rates)} | {calls} | {' | '.join(ratios)} |")
