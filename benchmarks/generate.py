"""Events a second of the generator, alone and writing Parquet.

Run: ``python -m benchmarks.generate [N_EVENTS] [ROUNDS]``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from serve_app.events.adapters.log_writer import LogWriter
from serve_app.events.service.synthetic import generate_events


def main():
    n_events = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    alone, written = [], []
    for seed in range(rounds):
        start = time.perf_counter()
        for _ in generate_events(n_events, seed=seed):
            pass
        alone.append(n_events / (time.perf_counter() - start))
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            with LogWriter(Path(folder) / "events.parquet") as writer:
                for batch in generate_events(n_events, seed=seed):
                    writer.write(batch)
            written.append(n_events / (time.perf_counter() - start))
    for name, rates in (("generated", alone), ("generated and written as Parquet", written)):
        print(f"{name}: median {median(rates):,.0f} events/s of {rounds} ({min(rates):,.0f} to {max(rates):,.0f})")


if __name__ == "__main__":
    main()
