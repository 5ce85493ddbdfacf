"""How long single rows take while one client sends large tables to the same Gateway.

Run: ``python -m benchmarks.mixed [--seconds 6] [--registry DIR]``. One connection sends a row every
10 ms; beside it another sends tables one after the other, form by form. Latencies are what the
first one saw; the first line is without tables.
"""

from __future__ import annotations

import argparse
import http.client
import json
import tempfile
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from benchmarks.model import train_reference
from benchmarks.processes import running_service
from benchmarks.rows import make_batch, make_bodies
from serve_app.models.adapters.registry_folder import DirectoryRegistry

N_ROWS = 20_000
ROW_EVERY_S = 0.01


def make_tables(bodies: list[dict]) -> dict[str, tuple[str, bytes]]:
    """Return bodies of the most rows a request may have, and of a fifth of that, by form."""
    batch = make_batch(bodies)
    records, names = batch.to_pylist(), batch.schema.names
    most = pa.table(pa.concat_batches([batch] * 5))
    arrow, csv, parquet = (pa.BufferOutputStream() for _ in range(3))
    with pa.ipc.new_stream(arrow, most.schema) as writer:
        writer.write_table(most)
    pacsv.write_csv(most, csv)
    pq.write_table(most, parquet)
    split = {"columns": names, "data": [[record[name] for name in names] for record in records * 5]}
    return {
        "100,000 rows, Arrow": ("application/vnd.apache.arrow.stream", arrow.getvalue().to_pybytes()),
        "100,000 rows, Parquet": ("application/vnd.apache.parquet", parquet.getvalue().to_pybytes()),
        "100,000 rows, CSV": ("text/csv", csv.getvalue().to_pybytes()),
        "100,000 rows, JSON": ("application/json", json.dumps({"dataframe_split": split}).encode()),
        "20,000 rows, JSON": ("application/json", json.dumps({"dataframe_records": records}).encode()),
    }


def post(connection: http.client.HTTPConnection, route: str, media: str, body: bytes) -> None:
    connection.request("POST", route, body, {"Content-Type": media, "X-Request-Timeout-Seconds": "30"})
    answer = connection.getresponse()
    data = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{route} answered {answer.status}: {data[:500]!r}")


class Tables(threading.Thread):
    """Sends a table again and again until told to stop; counts the answers."""

    def __init__(self, port: int, media: str, body: bytes) -> None:
        super().__init__(daemon=True)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._table = media, body
        self._ended = threading.Event()
        self.n_answered = 0

    def run(self) -> None:
        while not self._ended.is_set():
            post(self._connection, "/invocations", *self._table)
            self.n_answered += 1

    def end(self) -> None:
        self._ended.set()
        self.join()


def time_rows(port: int, bodies: list[dict], seconds: float) -> list[float]:
    """Return the sorted latencies of single rows, in ms."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    spent_ms: list[float] = []
    ended_s = time.perf_counter() + seconds
    while time.perf_counter() < ended_s:
        body = json.dumps(bodies[len(spent_ms) % len(bodies)]).encode()
        started_s = time.perf_counter()
        post(connection, "/predict_purchase", "application/json", body)
        spent_ms.append(1e3 * (time.perf_counter() - started_s))
        time.sleep(ROW_EVERY_S)
    return sorted(spent_ms)


def show(label: str, spent_ms: list[float], n_tables: int) -> None:
    p50, p99 = (spent_ms[int(len(spent_ms) * q)] for q in (0.5, 0.99))
    print(f"| {label} | {n_tables} | {p50:.1f} | {p99:.1f} | {spent_ms[-1]:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each form")
    parser.add_argument("--registry", type=Path, help="serve purchase@champion from here instead of training")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scorecat-bench-") as folder:
        registry = DirectoryRegistry(options.registry or Path(folder) / "registry")
        if not registry.names():
            train_reference(registry)
        package = registry.locate("purchase", registry.resolve("purchase", "champion"))
        bodies = make_bodies(package, N_ROWS, seed=1)
        with running_service(registry.root, Path(folder), "laptop", state="off") as target:
            time_rows(target.port, bodies, 1.0)
            print("| beside | tables answered | p50 of a row, ms | p99 | longest |\n|---|---|---|---|---|")
            show("nothing", time_rows(target.port, bodies, options.seconds), 0)
            for label, (media, body) in make_tables(bodies).items():
                tables = Tables(target.port, media, body)
                tables.start()
                time.sleep(1.0)
                spent_ms = time_rows(target.port, bodies, options.seconds)
                tables.end()
                show(f"{label} ({len(body) / 1e6:.1f} MB)", spent_ms, tables.n_answered)


if __name__ == "__main__":
    main()
