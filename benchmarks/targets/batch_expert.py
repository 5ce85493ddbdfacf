"""What an expert writes for many rows: one process, a thread for each core, pyarrow and CatBoost.

Run: ``python -m benchmarks.targets.batch_expert PACKAGE INPUT OUTPUT``. Prints one JSON line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from catboost import CatBoostClassifier

KEYS = ["event_time", "user_id", "user_session", "product_id"]
FILLS = {"brand": "unknown", "category_code": "other"}
BATCH_ROWS = 65_536


class Job:
    def __init__(self, package: Path, output: Path) -> None:
        self.model = CatBoostClassifier()
        self.model.load_model(str(package / "model.cbm"))
        manifest = json.loads((package / "manifest.json").read_bytes())
        self.names = [feature["name"] for feature in manifest["features"]]
        self.thresholds = manifest["thresholds"]
        vocabularies = json.loads((package / "vocabularies.json").read_bytes())
        self.classes = {name: pa.array(labels) for name, labels in vocabularies.items()}
        self.unknown = {name: labels.index("__unknown__") for name, labels in vocabularies.items()}
        self.output = output

    def score_file(self, path: Path) -> int:
        n_rows, writer = 0, None
        with pq.ParquetFile(path) as parquet:
            for batch in parquet.iter_batches(BATCH_ROWS, columns=[*KEYS, *self.names], use_threads=False):
                scored = self.score(batch)
                writer = writer or pq.ParquetWriter(self.output / path.name, scored.schema)
                writer.write_table(scored)
                n_rows += scored.num_rows
        if writer:
            writer.close()
        return n_rows

    def score(self, batch: pa.RecordBatch) -> pa.Table:
        matrix = np.empty((batch.num_rows, len(self.names)), dtype=np.float32, order="F")
        for j, name in enumerate(self.names):
            column = batch.column(name)
            if name in self.classes:
                codes = pc.index_in(column.fill_null(FILLS[name]), value_set=self.classes[name])
                matrix[:, j] = codes.fill_null(self.unknown[name]).to_numpy()
            else:
                matrix[:, j] = column.to_numpy(zero_copy_only=False)
        p = self.model.predict_proba(matrix, thread_count=1)[:, 1]
        high, medium = self.thresholds["high"], self.thresholds["medium"]
        bands = np.where(p > high, 2, np.where(p >= medium, 1, 0)).astype(np.int8)
        labels = pa.DictionaryArray.from_arrays(pa.array(bands), ["low", "medium", "high"])
        table = pa.Table.from_batches([batch.select(KEYS)])
        return table.append_column("probability", pa.array(p)).append_column("recommendation", labels)


def main() -> None:
    package, source, output = map(Path, sys.argv[1:])
    output.mkdir(parents=True)
    job = Job(package, output)
    started_s, cpu_s = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        n_rows = sum(threads.map(job.score_file, sorted(source.glob("*.parquet"))))
    seconds = time.perf_counter() - started_s
    print(json.dumps({"rows": n_rows, "seconds": seconds, "cpu_s": time.process_time() - cpu_s}))


if __name__ == "__main__":
    main()
