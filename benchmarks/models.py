"""Time what a package of 1,000 trees costs: to load and prove, to score, to explain. One thread.

Run: ``python -m benchmarks.models [N_TREES]``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from catboost import CatBoostClassifier, Pool

from serve_app.features.core.encoding import FeatureEncoder
from serve_app.models.adapters.package_dir import load_package, save_package
from serve_app.models.catboost.facts import read_facts
from serve_app.models.catboost.scorer import CatBoostScorer
from serve_app.models.catboost.vocabulary import read_borders
from serve_app.models.core.recommendation import Thresholds
from serve_app.models.core.schema_file import Schema
from serve_app.models.service.import_plan import plan_import
from serve_app.models.service.importing import build_import
from serve_app.models.service.packaging import golden_inputs, prove_encoder, prove_model

N_ROWS = 20_000
N_NUMBERS = 20
MOST_ROWS_ALONE = 1_000


def train(n_trees, *, native):
    """Return a classifier of 20 numbers and 2 categories, which are numbers to it unless native."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"x{i}": rng.normal(size=N_ROWS).astype(np.float32) for i in range(N_NUMBERS)})
    frame["brand"], frame["category"] = rng.integers(0, 500, N_ROWS), rng.integers(0, 120, N_ROWS)
    odds = frame.x0 * frame.x1 + (frame.brand % 7) / 3 - 1
    target = rng.random(N_ROWS) < 1 / (1 + np.exp(-odds))
    settings = {"iterations": n_trees, "depth": 6, "verbose": False, "allow_writing_files": False, "random_seed": 0}
    return CatBoostClassifier(**settings).fit(frame, target, cat_features=["brand", "category"] if native else None)


def build(model, folder):
    """Write a package the way an import does."""
    facts = read_facts(model)
    plan = plan_import(facts, {}, Schema())
    package, _ = build_import(
        name="timed", facts=facts, plan=plan, model=CatBoostScorer(model, plan.features), borders=read_borders(model),
        sample=None, document={}, imported_from={}, thresholds=Thresholds(), parent_version=None,
    )  # fmt: skip
    save_package(folder, package)


def load(folder):
    """Load a package and prove its golden rows, as replicas do before they are ready."""
    package = load_package(folder, CatBoostScorer.load)
    prove_encoder(package, FeatureEncoder(package.manifest.features, package.vocabularies))
    prove_model(package)
    return package


def time_ms(call, least_s=1.0):
    """Return the median time of a call over about a second of calls."""
    times = []
    while sum(times) < least_s:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times) * 1e3


def compare(package, n):
    """Time the ways on n rows and print one row of the table."""
    encoded = FeatureEncoder(package.manifest.features, package.vocabularies).encode(golden_inputs(package))
    at = np.resize(np.arange(len(encoded.rows)), n)
    matrix = np.asfortranarray(encoded.matrix[at])
    strings = encoded.strings.take(at) if encoded.strings is not None else None
    scorer = package.model
    pool = Pool(scorer._rows(matrix, strings), cat_features=list(scorer.facts.categorical) or None)  # noqa: SLF001
    calls = [lambda: scorer.predict(matrix, strings), lambda: scorer.explain(matrix, strings)] + [
        lambda mode=mode: scorer.model.get_feature_importance(pool, type="ShapValues", shap_mode=mode, thread_count=1)
        for mode in ("NoPreCalc", "UsePreCalc")
        if n < MOST_ROWS_ALONE or mode == "UsePreCalc"
    ]
    cells = [f"{time_ms(call):.2f}" for call in calls]
    if len(cells) < 4:  # row by row takes a minute
        cells.insert(2, "")
    print(f"| {n:,} | " + " | ".join(cells) + " |", flush=True)


def main():
    n_trees = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    for native in (False, True):
        with tempfile.TemporaryDirectory() as name:
            build(train(n_trees, native=native), Path(name) / "package")
            loaded_ms = time_ms(lambda: load(Path(name) / "package"))
            package = load(Path(name) / "package")
        start = time.perf_counter()
        package.model.prepare_explanations()
        built_ms = (time.perf_counter() - start) * 1e3
        print(f"\n{'native categories' if native else 'numbers only'}, {n_trees:,} trees, milliseconds:")
        golden = package.golden.num_rows
        print(f"loaded and proved {golden} golden rows {loaded_ms:.0f}; SHAP tables built {built_ms:.0f}\n")
        print("| rows | score | explain, tables | CatBoost, row by row | CatBoost, every leaf beforehand |")
        print("|---|---|---|---|---|")
        for n in (1, 64, 1_024):
            compare(package, n)


if __name__ == "__main__":
    main()
