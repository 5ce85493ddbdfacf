"""What people would write instead of a batch job: ``python -m benchmarks.batch_ways WAY PACKAGE INPUT OUTPUT``.

``expert_threads``: one process, pyarrow by row groups, `predict_proba` on all cores. ``expert_processes``: the
same loop in one process for each core, one thread each. ``pandas``: a frame for each file. All of them write
the columns that are no feature, the probability and the recommendation. Prints one JSON object: rows, and
when the first file was begun and the last one ended; imports, the model and starting processes are before that.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from catboost import CatBoostClassifier

CATEGORIES = ("brand", "category_code")
UNKNOWN = "__unknown__"
BANDS = pa.array(["low", "medium", "high"])


class Package:
    """A package as any script would read it: no code of this project."""

    def __init__(self, folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        self.names = [feature["name"] for feature in manifest["features"]]
        self.fills = {feature["name"]: feature.get("fill") for feature in manifest["features"]}
        self.classes = json.loads((folder / "vocabularies.json").read_bytes())
        self.medium, self.high = (manifest["thresholds"][name] for name in ("medium", "high"))
        self.model = CatBoostClassifier()
        self.model.load_model(str(folder / "model.cbm"))


def score_by_row_groups(package: Package, paths: list[Path], output: Path, n_threads: int) -> int:
    """Score files row group by row group, and return the number of rows."""
    value_sets = {name: pa.array(package.classes[name]) for name in CATEGORIES}
    n_rows = 0
    for path in paths:
        # Strings that repeat stay codes from the file to the matrix, and to the file that is written.
        with pq.ParquetFile(path, read_dictionary=[*CATEGORIES, "user_session"]) as file:
            kept = [name for name in file.schema_arrow.names if name not in package.names]
            writer = None
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, use_threads=n_threads > 1)
                matrix = np.empty((table.num_rows, len(package.names)), dtype=np.float32, order="F")
                for j, name in enumerate(package.names):
                    matrix[:, j] = (
                        _encode(table[name].combine_chunks(), value_sets[name], package.fills[name])
                        if name in value_sets
                        else table[name].to_numpy()
                    )
                probability = package.model.predict_proba(matrix, thread_count=n_threads)[:, 1]
                done = table.select(kept)
                done = done.append_column("probability", pa.array(np.ascontiguousarray(probability)))
                done = done.append_column("recommendation", _recommend(package, probability))
                if writer is None:
                    repeated = [name for name in done.schema.names if name != "probability"]
                    writer = pq.ParquetWriter(output / path.name, done.schema, use_dictionary=repeated)
                writer.write_table(done)
                n_rows += table.num_rows
            if writer is not None:
                writer.close()
    return n_rows


def _encode(column: pa.Array, value_set: pa.Array, fill: str) -> np.ndarray:
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0)
    codes = pc.fill_null(pc.index_in(column.dictionary, value_set=value_set), len(value_set) - 1).to_numpy()
    null_code = value_set.index(fill).as_py()
    return np.append(codes, null_code)[column.indices.fill_null(-1).to_numpy()]


def _recommend(package: Package, probability: np.ndarray) -> pa.Array:
    band = (probability >= package.medium).astype(np.int8) + (probability > package.high).astype(np.int8)
    return pa.DictionaryArray.from_arrays(band, BANDS)


def score_by_frames(package: Package, paths: list[Path], output: Path) -> int:
    """Score files as data frames."""
    codes = {name: {label: code for code, label in enumerate(package.classes[name])} for name in CATEGORIES}
    n_rows = 0
    for path in paths:
        frame = pd.read_parquet(path)
        features = frame[package.names].copy()
        for name in CATEGORIES:
            filled = features[name].fillna(package.fills[name])
            features[name] = filled.map(codes[name]).fillna(codes[name][UNKNOWN])
        frame["probability"] = package.model.predict_proba(features)[:, 1]
        frame["recommendation"] = "low"
        frame.loc[frame["probability"] >= package.medium, "recommendation"] = "medium"
        frame.loc[frame["probability"] > package.high, "recommendation"] = "high"
        frame.drop(columns=package.names).to_parquet(output / path.name)
        n_rows += len(frame)
    return n_rows


def _score_share(folder: Path, tasks, results, output: Path) -> None:
    package = Package(folder)
    pa.set_cpu_count(1)
    results.put(None)
    while (path := tasks.get()) is not None:
        results.put(score_by_row_groups(package, [path], output, 1))


def score_in_processes(folder: Path, paths: list[Path], output: Path) -> tuple[int, float, float]:
    """Score files in a process for each core, and return rows, begin and end."""
    context = multiprocessing.get_context("spawn")
    tasks, results = context.Queue(), context.Queue()
    n = os.cpu_count() or 1
    processes = [context.Process(target=_score_share, args=(folder, tasks, results, output)) for _ in range(n)]
    for process in processes:
        process.start()
    for _ in processes:
        results.get()  # it is ready
    began_at = time.time()
    for path in paths:
        tasks.put(path)
    n_rows = sum(results.get() for _ in paths)
    ended_at = time.time()
    for _ in processes:
        tasks.put(None)
    for process in processes:
        process.join()
    return n_rows, began_at, ended_at


def main() -> None:
    way, package_dir, source, output = sys.argv[1], *map(Path, sys.argv[2:5])
    paths = sorted(source.glob("*.parquet"))
    output.mkdir(parents=True)
    if way == "expert_processes":
        n_rows, began_at, ended_at = score_in_processes(package_dir, paths, output)
    else:
        package = Package(package_dir)
        began_at = time.time()
        if way == "pandas":
            n_rows = score_by_frames(package, paths, output)
        else:
            n_rows = score_by_row_groups(package, paths, output, os.cpu_count() or 1)
        ended_at = time.time()
    print(json.dumps({"rows": n_rows, "began_at": began_at, "ended_at": ended_at}))


if __name__ == "__main__":
    main()
