"""What a trained package says of its training, and the rows that prove it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.features.core.specs import PURCHASE_FEATURES, PURCHASE_NAMES, arrow_schema
from serve_app.training.core.bands import BandRule
from serve_app.training.core.guards import Finding
from serve_app.training.core.target import SLICE_NAMES, TEST
from serve_app.training.service.options import TrainingOptions
from serve_app.training.service.rows import TrainingRows

N_GOLDEN: Final = 128


def pick_golden_rows(rows: TrainingRows, probability: NDArray[np.float64]) -> pa.RecordBatch:
    """Pick rows over the whole range of scores, and add nulls, unseen classes and missing history."""
    test = np.flatnonzero(rows.split.slices == TEST)
    order = np.argsort(probability, kind="stable")
    at = test[order[np.linspace(0, len(order) - 1, N_GOLDEN - 4).astype(np.int64)]]
    schema = arrow_schema(PURCHASE_FEATURES)
    picked = rows.table.select(PURCHASE_NAMES).take(pa.array(at)).cast(schema)
    plain = {name: picked.column(name)[0].as_py() for name in PURCHASE_NAMES}
    odd = [
        {**plain, "brand": None, "category_code": None},
        {**plain, "brand": "a brand nobody sells", "category_code": "no.such.category"},
        {name: plain[name] for name in ("price", "hour", "day_of_week", "is_weekend")},
        {**plain, "price": 0.01, "brand": ""},
    ]
    extra = pa.Table.from_pylist(odd, schema=schema)
    batch: pa.RecordBatch = pa.concat_tables([picked, extra]).combine_chunks().to_batches()[0]
    return batch


def describe_training(
    rows: TrainingRows,
    rule: BandRule,
    findings: Sequence[Finding],
    options: TrainingOptions,
    *,
    is_continued: bool,
) -> dict[str, Any]:
    """Return the `training` member of a manifest: what was read, how it was split, what it was made with."""
    slices, target, summary = rows.split.slices, rows.target, rows.summary
    counts = {
        name: {"n_rows": int((slices == code).sum()), "n_positive": int(target[slices == code].sum())}
        for code, name in enumerate(SLICE_NAMES)
    }
    return {
        "fingerprint": rows.fingerprint(),
        "target": "this user purchases this product later in this session (views and carts)",
        "n_lines": summary.n_lines,
        "n_events": summary.n_events,
        "dropped": dict(sorted(summary.dropped.items())),
        "first_s": summary.first_s,
        "last_s": summary.last_s,
        "slices": counts,
        "n_left_out_open_session": rows.n_open,
        "stop_from_s": rows.split.stop_from_s,
        "test_from_s": rows.split.test_from_s,
        "user_share": round(rows.user_share, 6),
        "seed": options.seed,
        "params": dict(options.params),
        "category_codes": "the parent's" if is_continued else "by name",
        "bands": rule.to_json(),
        "overridden_guards": [dataclasses.asdict(finding) for finding in findings],
    }
