"""Events a second from a log on disk to the table of 22 features, keys and target.

Run: ``python -m benchmarks.features [N_EVENTS] [ROUNDS]``.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from serve_app.events.adapters.log_files import EventLog
from serve_app.events.adapters.log_writer import LogWriter
from serve_app.events.adapters.spill import EventSpill
from serve_app.events.service.partitions import MEMORY_ROWS, LogSummary
from serve_app.events.service.synthetic import generate_events
from serve_app.training.service.features_table import build_features


def measure(path, memory_rows):
    start = time.perf_counter()
    summary = LogSummary()
    with EventSpill() as spill:
        for _ in build_features(EventLog(path), spill, summary, memory_rows=memory_rows):
            pass
    return summary.n_events / (time.perf_counter() - start)


def main():
    n_events = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory() as folder:
        for name, memory_rows in (
            ("a.parquet", MEMORY_ROWS),
            ("a.csv", MEMORY_ROWS),
            ("a.parquet", min(200_000, n_events // 2)),
        ):
            path = Path(folder) / name
            if not path.exists():
                with LogWriter(path) as writer:
                    for batch in generate_events(n_events):
                        writer.write(batch)
            rates = [measure(path, memory_rows) for _ in range(rounds)]
            how = "spilled" if memory_rows < n_events else "in memory"
            print(
                f"{name[2:]}, {how}: median {median(rates):,.0f} events/s of {rounds} "
                f"({min(rates):,.0f} to {max(rates):,.0f})"
            )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


if __name__ == "__main__":
    main()
