"""What a batch job costs online requests: open-loop latencies without and with a job on the same replicas."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.batch_runs import running_job
from benchmarks.processes import Running, measure_load, running_service
from benchmarks.report import middle
from benchmarks.rows import make_bodies, save_rows
from benchmarks.say import say
from serve_app.models.adapters.registry_folder import DirectoryRegistry

N_ROWS = 2_000
CONNECTIONS = 32
START_S = 90.0
FIRST_COMMITS = 2
"""Units of the job that are done before the load begins: its pace has settled by then."""


def measure_online(registry: DirectoryRegistry, source: Path, options: argparse.Namespace) -> list[dict]:
    """Return a result for each measurement, quiet ones and busy ones in turn; the order turns every round."""
    package_dir = registry.locate("purchase", registry.resolve("purchase", "champion"))
    found = []
    with tempfile.TemporaryDirectory(prefix="scorecat-bench-", dir=options.folder) as folder:
        work_dir = Path(folder)
        rows = work_dir / "rows.json"
        save_rows(package_dir, make_bodies(package_dir, N_ROWS), rows)
        with running_service(registry.root, work_dir, "laptop", state="off") as target:

            def load() -> dict:
                return measure_load(
                    target, rows, rate=options.online_rate, seconds=options.online_seconds, warmup=2,
                    connections=CONNECTIONS, urgent=True,
                )  # fmt: skip

            load()
            for number in range(options.online_rounds):
                for is_busy in (False, True) if number % 2 == 0 else (True, False):
                    one = _load_beside_job(target, registry, work_dir, source, load) if is_busy else load()
                    found.append({"round": number, "is_busy": is_busy, "n_bad": one["wrong"] + one["failed"], **one})
                    say(f"online, round {number + 1}, {'with' if is_busy else 'without'} a job: {one['latency_ms']}")
    return found


def _load_beside_job(target: Running, registry: DirectoryRegistry, work_dir: Path, source: Path, load) -> dict:
    output = work_dir / "scores"
    with running_job(target, registry.root, work_dir, source, output) as watch:
        give_up_at = time.monotonic() + START_S
        while (first := _count_rows(output)) == 0:
            if watch.driver.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError(f"the job did not start: {watch.driver.communicate()[1][-3000:]}")
            time.sleep(0.2)
        began_s = time.monotonic()
        result = load()
        result["job_units_per_s"] = (_count_rows(output) - first) / (time.monotonic() - began_s)
        if watch.driver.poll() is not None:
            raise RuntimeError("the job was over before the load: take more rows or fewer seconds")
    shutil.rmtree(output)
    return result


def _count_rows(output: Path) -> int:
    """Return the units that are done, once enough are."""
    n_done = len(list(output.glob("_job/commits/*.json")))
    return n_done if n_done >= FIRST_COMMITS else 0


def print_beside(results: list[dict], rate: float) -> None:
    """Print latencies without and with a job, and their ratio in each round."""
    print(f"\n### Single rows, {rate:g} due each second\n")
    print("| beside | p50, ms | p99, ms | longest, ms | others' CPU |\n|---|---|---|---|---|")
    for is_busy, label in ((False, "nothing"), (True, "a job in the shared pool")):
        chosen = [one for one in results if one["is_busy"] == is_busy]
        shown = [middle([one["latency_ms"][q] for one in chosen], ",.1f") for q in ("p50", "p99", "max")]
        print(f"| {label} | {' | '.join(shown)} | {middle([one['others_share'] for one in chosen], '.0%')} |")
    print(f"\np99 with a job / without, by round: {middle(ratios(results), '.2f')}")


def ratios(results: list[dict]) -> list[float]:
    """Return p99 with a job by p99 without, for each round."""
    p99 = {(one["round"], one["is_busy"]): one["latency_ms"]["p99"] for one in results}
    return [p99[number, True] / p99[number, False] for number, is_busy in p99 if is_busy]
