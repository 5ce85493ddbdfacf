"""What choosing a version and counting its answer cost, as a share of a request.

Run: ``python -m benchmarks.split [--registry FOLDER]``. The cost of the split is measured in this process, with a
canary at 50 % (every user is hashed) and with one version alone; that of a request is the CPU of all the
service's processes under a closed loop in the same run. See docs/rollouts.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.model import train_reference
from benchmarks.processes import measure_load, running_service
from benchmarks.rows import make_bodies, save_rows
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.models.core.manifest import Manifest
from serve_app.scoring.core.split import Split, canary_arms, dump_split, only_arm
from serve_app.scoring.service.traffic import Traffic
from serve_app.scoring.service.version_scorer import Score, VersionScorer

N_REQUESTS = 50_000
ROUNDS = 5


class Instant(VersionScorer):
    """A version that answers at once, so that only the way to it is measured."""

    def __init__(self, version: int, manifest: Manifest) -> None:
        super().__init__(version, manifest, None, None, None)
        self._answer = Score(0.03, "low", version, b"", ())

    async def score(self, values, deadline_at: float) -> Score:  # noqa: ARG002
        return self._answer


class Fixed:
    """A split record that never changes."""

    def __init__(self, split: Split) -> None:
        self._record = dump_split(split)

    def read(self):
        return self._record


async def time_requests(split: Split, manifest: Manifest) -> float:
    """Return the microseconds that choosing and counting add to a call, median of rounds."""

    async def connect(_: str, version: int) -> VersionScorer:
        return Instant(version, manifest)

    traffic = Traffic(Fixed(split), connect)
    await traffic.refresh()
    users = [f"user-{k}" for k in range(N_REQUESTS)]
    added = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for user in users:
            await traffic.choose(user).score((), 0.0)
        between = time.process_time()
        for _user in users:
            await traffic.live.score((), 0.0)
        added.append((between - started) - (time.process_time() - between))
    return median(added) / N_REQUESTS * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--registry", type=Path, help="serve purchase@champion from here instead of training")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scorecat-bench-") as folder:
        work_dir = Path(folder)
        registry = DirectoryRegistry(options.registry or work_dir / "registry")
        if not registry.names():
            train_reference(registry)
        version = registry.resolve("purchase", "champion")
        manifest = registry.manifest("purchase", version)
        package = registry.locate("purchase", version)
        save_rows(package, make_bodies(package, 2_000), work_dir / "rows.json")
        with running_service(registry.root, work_dir, "laptop", state="off") as target:
            load = measure_load(target, work_dir / "rows.json", connections=64, seconds=6.0, warmup=1.0)
    request_us = sum(load["cpu_us"].values())
    splits = {
        "one version": Split("purchase", 1, only_arm(1)),
        "canary at 50 %": Split("purchase", 1, canary_arms(1, 2, 0.5), salt=b"salt"),
    }
    found = {name: asyncio.run(time_requests(split, manifest)) for name, split in splits.items()}
    if options.json:
        print(json.dumps({"request_us": request_us, "split_us": found}))
        return
    print(f"a request takes {request_us:,.0f} us of CPU in all processes of the service")
    for name, spent_us in found.items():
        print(f"{name}: choosing and counting take {spent_us:.1f} us, {spent_us / request_us:.2%} of it")


if __name__ == "__main__":
    main()
