"""Compare ways to give categories to CatBoost: quality on later rows, and speed of one thread.

Run: ``python -m benchmarks.categories [N_EVENTS]``.
"""

from __future__ import annotations

import sys
import time
from statistics import median

import numpy as np
from catboost import CatBoostClassifier, FeaturesData, Pool

from serve_app.events.adapters.spill import EventSpill
from serve_app.events.service.synthetic import GeneratedLog
from serve_app.features.core.specs import PURCHASE_NAMES
from serve_app.stats.classification import compute_metrics, rank_rows
from serve_app.training.core.target import STOP, TEST, TRAIN
from serve_app.training.service.options import DEFAULT_PARAMS
from serve_app.training.service.rows import choose_vocabularies, collect_rows, encode_rows

CATEGORIES = [PURCHASE_NAMES.index(name) for name in ("brand", "category_code")]
NUMBERS = [j for j in range(len(PURCHASE_NAMES)) if j not in CATEGORIES]
PRIOR_ROWS = 200.0


def ordered_statistics(codes, target, is_train):
    """Return each row's smoothed rate of positives: over earlier training rows, or all of them for later rows."""
    base = target[is_train].mean()
    order = np.argsort(codes, kind="stable")  # rows are sorted by time already
    y, known = (target * is_train)[order].astype(float), is_train[order].astype(float)
    start = np.searchsorted(codes[order], codes[order], side="left")
    seen, positive = np.cumsum(known) - known, np.cumsum(y) - y
    out = np.empty(len(codes), dtype=np.float32)
    out[order] = (positive - positive[start] + PRIOR_ROWS * base) / (seen - seen[start] + PRIOR_ROWS)
    return out


def as_native(matrix):
    """Return rows in the fastest form CatBoost takes native categories in."""
    codes = matrix[:, CATEGORIES].astype(np.int64).astype(str).astype(object)
    names = np.char.encode(codes.astype(str)).astype(object)
    return FeaturesData(num_feature_data=np.ascontiguousarray(matrix[:, NUMBERS]), cat_feature_data=names)


def speed(predict, n):
    """Return the median seconds of a call, over about a second of calls."""
    times = []
    while sum(times) < 1.0 or len(times) < 5:
        start = time.perf_counter()
        predict(n)
        times.append(time.perf_counter() - start)
    return median(times)


def compare(name, fit, predict, slices, target):
    """Fit, measure, time and print one row of the table."""
    start = time.perf_counter()
    fit()
    fit_s = time.perf_counter() - start
    found = compute_metrics(rank_rows(target[slices == TEST], predict(None)), ())
    one, many = speed(predict, 1), speed(predict, 20_000)
    print(
        f"| {name} | {found['roc_auc']:.4f} | {found['pr_auc']:.4f} | {found['log_loss']:.5f} | {found['ece']:.4f} | "
        f"{fit_s:.0f} | {one * 1e6:.0f} | {20_000 / many / 1e6:.2f} |",
        flush=True,
    )


def numeric(name, matrix, slices, target, params):
    model = CatBoostClassifier(**params)
    test = np.asfortranarray(matrix[slices == TEST])
    few = {n: np.ascontiguousarray(test[:n]) for n in (1, 20_000)}

    def fit():
        train, stop = (Pool(matrix[slices == code], target[slices == code]) for code in (TRAIN, STOP))
        model.fit(train, eval_set=stop, early_stopping_rounds=50)

    compare(name, fit, lambda n: model.predict_proba(few[n] if n else test, thread_count=1)[:, 1], slices, target)


def native(matrix, slices, target, params):
    model = CatBoostClassifier(**params)
    parts = {code: as_native(matrix[slices == code]) for code in (TRAIN, STOP, TEST)}
    few = {n: as_native(matrix[slices == TEST][:n]) for n in (1, 20_000)}

    def fit():
        train, stop = (Pool(parts[code], target[slices == code]) for code in (TRAIN, STOP))
        model.fit(train, eval_set=stop, early_stopping_rounds=50)

    compare(
        "native categories",
        fit,
        lambda n: model.predict_proba(few[n] if n else parts[TEST], thread_count=1)[:, 1],
        slices,
        target,
    )


def order_by_rate(classes, codes, target):
    """The classes by their smoothed rate of positives, the last one, for unseen ones, last."""
    n, positive = np.bincount(codes, minlength=len(classes)), np.bincount(codes, target, minlength=len(classes))
    rates = (positive + PRIOR_ROWS * target.mean()) / (n + PRIOR_ROWS)
    return [*sorted(classes[:-1], key=lambda name: rates[classes.index(name)]), classes[-1]]


def main():
    n_events = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with EventSpill() as spill:
        rows = collect_rows(GeneratedLog(n_events), spill, max_rows=n_events)
    slices, target = rows.split.slices, rows.target.astype(np.int8)
    params = {**DEFAULT_PARAMS, "verbose": False, "allow_writing_files": False, "random_seed": 0}
    params.pop("early_stopping_rounds")
    print("| categories as | ROC-AUC | PR-AUC | log loss | ECE | fit, s | 1 row, us | 20,000 rows, M rows/s |")
    print("|---|---|---|---|---|---|---|---|")
    vocabularies = choose_vocabularies(rows)
    matrix = encode_rows(rows, vocabularies)
    for j in CATEGORIES:
        vocabularies[PURCHASE_NAMES[j]] = order_by_rate(
            vocabularies[PURCHASE_NAMES[j]], matrix[:, j][slices == TRAIN].astype(int), target[slices == TRAIN]
        )
    numeric("label codes by name", matrix, slices, target, params)
    numeric("label codes by rate", encode_rows(rows, vocabularies), slices, target, params)
    ordered = matrix.copy(order="F")
    for j in CATEGORIES:
        ordered[:, j] = ordered_statistics(matrix[:, j], target, slices == TRAIN)
    numeric("ordered target statistics", ordered, slices, target, params)
    without = np.asfortranarray(matrix[:, NUMBERS])
    numeric("no categories", without, slices, target, params)
    native(matrix, slices, target, params)


if __name__ == "__main__":
    main()
