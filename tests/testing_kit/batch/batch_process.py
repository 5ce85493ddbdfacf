"""Batch jobs on a real service: many small files, a driver in a process of its own, what must come out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.testing_kit.batch.batch_jobs import make_rows, read_output
from tests.testing_kit.cluster.service_process import ServiceProcess, wait_for

ARROW = "application/vnd.apache.arrow.stream"


def score_online(service: ServiceProcess, table: pa.Table) -> np.ndarray:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    answer = httpx.post(
        f"{service.url}/invocations",
        content=sink.getvalue().to_pybytes(),
        headers={"Content-Type": ARROW, "Accept": ARROW},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    return pa.ipc.open_stream(answer.content).read_all().column("probability").to_numpy()


def start_job(service: ServiceProcess, source: Path, output: Path, *options: str) -> subprocess.Popen[str]:
    """Start a job in a driver of its own, and wait until part of it is done."""
    driver = subprocess.Popen(
        [sys.executable, "-m", "batch.score", str(source), str(output), *options],
        env={**service.environment, "RAY_TMPDIR": str(output.parent / "ray")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: len(list(output.glob("_job/commits/*"))) >= 3 or driver.poll() is not None, 60, "three commits")
    assert driver.poll() is None, driver.communicate()[1]
    return driver


def write_many(folder: Path) -> pa.Table:
    """Write sixty files of 20,000 rows and return their rows."""
    folder.mkdir()
    table = make_rows(20_000)
    tables = []
    for number in range(60):
        ids = pa.array(np.arange(number * 20_000, (number + 1) * 20_000))
        tables.append(table.set_column(0, "order_id", ids))
        pq.write_table(tables[-1], folder / f"rows-{number:02d}.parquet")
    return pa.concat_tables(tables)


def check_complete(output: Path, table: pa.Table, expected: np.ndarray) -> None:
    found = read_output(output)
    assert found.column("order_id").equals(table.column("order_id"))
    assert np.array_equal(found.column("probability").to_numpy(), np.tile(expected, table.num_rows // len(expected)))
