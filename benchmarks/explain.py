"""Compare ways to explain scores of a model of 1,000 trees: one thread, milliseconds a call.

Run: ``python -m benchmarks.explain [N_TREES]``.
"""

from __future__ import annotations

import sys
import time
from statistics import median

import numpy as np
from catboost import CatBoostClassifier, Pool

from serve_app.adapters.catboost_model import CatBoostScorer

N_FEATURES = 22


def train(n_trees):
    """Return a classifier of noise and a signal, depth 6, and its training rows."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, N_FEATURES)).astype(np.float32)
    y = rng.random(len(x)) < 1 / (1 + np.exp(-x[:, 0] * x[:, 1]))
    settings = {"iterations": n_trees, "depth": 6, "verbose": False, "allow_writing_files": False, "random_seed": 0}
    return CatBoostClassifier(**settings).fit(x, y), np.asfortranarray(x)


def time_ms(call):
    """Return the median time of a call over about a second of calls."""
    times = []
    while sum(times) < 1.0:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times) * 1e3


def compare(model, scorer, rows):
    """Time the ways on some rows and print one row of the table."""
    calls = [lambda: scorer.predict(rows), lambda: scorer.explain(rows)] + [
        lambda mode=mode: model.get_feature_importance(Pool(rows), type="ShapValues", shap_mode=mode, thread_count=1)
        for mode in ("NoPreCalc", "UsePreCalc")
    ]
    times = [time_ms(call) for call in calls]
    print(f"| {len(rows):,} | " + " | ".join(f"{t:.1f}" if t >= 1 else f"{t:.2f}" for t in times) + " |", flush=True)


def main():
    model, x = train(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
    scorer = CatBoostScorer(model)
    start = time.perf_counter()
    scorer.prepare_explanations()
    print(f"tables built in {(time.perf_counter() - start) * 1e3:.0f} ms; then, ms a call:\n")
    print("| rows | score only | tables | CatBoost, row by row | CatBoost, every leaf beforehand |")
    print("|---|---|---|---|---|")
    for n in (1, 16, 64, 1_024):
        compare(model, scorer, np.asfortranarray(x[:n]))


if __name__ == "__main__":
    main()
