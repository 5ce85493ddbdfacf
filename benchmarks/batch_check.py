"""Whether a job's scores are those of the online service and of other ways, to the last bit."""

from __future__ import annotations

import http.client
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.bulk import ARROW, post
from serve_app.features.core.specs import PURCHASE_NAMES

N_DRAWN = 10_000


class Drawn:
    """Rows drawn from an input, and what the online service says of them.

    Parameters
    ----------
    source : Path
        Folder of the input's files.
    """

    def __init__(self, source: Path) -> None:
        rows = Parts(source)
        random = np.random.default_rng(0)
        self._numbers = np.sort(random.choice(rows.n_rows, min(N_DRAWN, rows.n_rows), replace=False))
        self._n_rows = rows.n_rows
        self._rows = rows.take(self._numbers)
        self._scores: np.ndarray | None = None
        self._bands: list[str] | None = None

    def ask(self, port: int) -> None:
        """Score the rows online."""
        self._scores = score_online(port, self._rows.select(PURCHASE_NAMES))

    def count_wrong(self, output: Path) -> int:
        """Return how many of the rows differ in an output from the online scores, or are other rows than these.

        Every way keeps the rows' order. The recommendations must be those of the first output that is checked.
        """
        scored = Parts(output)
        if scored.n_rows != self._n_rows:
            return max(1, abs(scored.n_rows - self._n_rows))
        found = scored.take(self._numbers)
        bands = found["recommendation"].to_pylist()
        self._bands = self._bands or bands
        right = (found["probability"].to_numpy() == self._scores) & np.equal(np.array(bands), np.array(self._bands))
        for name in self._rows.column_names:
            if name not in PURCHASE_NAMES:
                right &= np.equal(*(np.array(table[name].to_pylist()) for table in (self._rows, found)))
        return int((~right).sum())


def score_online(port: int, table: pa.Table) -> np.ndarray:
    """Return the probabilities the service gives a table."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    answer = post(connection, sink.getvalue().to_pybytes(), ARROW)
    return pa.ipc.open_stream(answer).read_all().column("probability").to_numpy()


class Parts:
    """Rows of the Parquet files of a folder, in the order of their names."""

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(folder.glob("*.parquet"))
        self._starts = np.cumsum([0, *(pq.read_metadata(path).num_rows for path in self._paths)])
        self.n_rows = int(self._starts[-1])

    def take(self, rows: np.ndarray) -> pa.Table:
        """Return rows by number, which ascend."""
        tables = []
        for path, first, end in zip(self._paths, self._starts[:-1], self._starts[1:], strict=True):
            here = rows[(rows >= first) & (rows < end)] - first
            if len(here):
                tables.append(pq.read_table(path).take(pa.array(here)))
        return pa.concat_tables(tables, promote_options="permissive").unify_dictionaries().combine_chunks()
