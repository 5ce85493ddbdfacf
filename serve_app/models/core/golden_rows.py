"""Rows for a model nobody gave rows for: on both sides of every split point, every class, unseen ones, nulls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd
from typing import Any, Final

import numpy as np
import pyarrow as pa

from serve_app.features.core.specs import FeatureSpec, arrow_schema

MAX_VALUES: Final = 1024
"""Values tried of one feature; more split points or classes are thinned evenly."""
MAX_NULL_ROWS: Final = 256
"""Rows for nulls of single features; more nullable features share them."""
UNSEEN_LABEL: Final = "a class that no row of training had"


def design_rows(
    features: Sequence[FeatureSpec],
    vocabularies: Mapping[str, Sequence[str]],
    borders: Mapping[str, Sequence[float]],
    n_least: int,
) -> pa.RecordBatch:
    """Return rows that keep every rule of the features.

    Parameters
    ----------
    features : sequence of FeatureSpec
    vocabularies : mapping of str to sequence of str
    borders : mapping of str to sequence of float
        The model's split points by feature.
    n_least : int
        Least number of rows; there are as many as the feature with most values needs.

    Notes
    -----
    Each feature walks through its values at a pace of its own, so that they meet in many ways. The
    last rows are for nulls: of each feature that may be null (of several at once, when there are more
    than `MAX_NULL_ROWS`), and of all of them.
    """
    values = [_values_of(spec, vocabularies.get(spec.name, ()), borders.get(spec.name, ())) for spec in features]
    n_rows = max([n_least, *map(len, values)])
    columns = [_walk(of_one, j, n_rows) for j, of_one in enumerate(values)]
    nullable = [j for j, spec in enumerate(features) if spec.on_null != "reject"]
    n_groups = min(len(nullable), MAX_NULL_ROWS)
    for group in [set(nullable[at::n_groups]) for at in range(n_groups)] + ([set(nullable)] if nullable else []):
        for j, column in enumerate(columns):
            column.append(None if j in group else column[len(group) % n_rows])
    schema = arrow_schema(tuple(features))
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _walk(values: list[Any], j: int, n_rows: int) -> list[Any]:
    n = len(values)
    steps = [step for step in range(1, n + 1) if gcd(step, n) == 1]
    step = steps[(int(len(steps) * 0.38) + j) % len(steps)]
    return [values[(i * step + j) % n] for i in range(n_rows)]


def _values_of(spec: FeatureSpec, classes: Sequence[str], borders: Sequence[float]) -> list[Any]:
    if spec.kind == "categorical":
        labels = list(classes[: MAX_VALUES - 1])
        if spec.on_unseen == "class":
            labels += [UNSEEN_LABEL, ""]
        return labels
    candidates: list[float] = [0.0, 1.0, float(spec.minimum or 0), float(spec.maximum or 0)]
    if isinstance(spec.fill, int | float):
        candidates.append(float(spec.fill))
    for border in borders:
        below = np.float32(border)
        candidates += (
            [np.floor(below), np.floor(below) + 1.0]
            if spec.integer
            else [float(below), float(np.nextafter(below, np.float32(np.inf)))]
        )
    kept = sorted({float(value) for value in candidates if _is_allowed(spec, float(value))})
    if not kept:
        kept = [_any_allowed(spec)]
    if len(kept) > MAX_VALUES:
        kept = [kept[int(at)] for at in np.linspace(0, len(kept) - 1, MAX_VALUES)]
    return kept


def _is_allowed(spec: FeatureSpec, value: float) -> bool:
    seen = np.float32(value)
    return bool(
        np.isfinite(seen)
        and (spec.above is None or seen > spec.above)
        and (spec.minimum is None or value >= spec.minimum)
        and (spec.maximum is None or value <= spec.maximum)
        and (not spec.integer or value.is_integer())
    )


def _any_allowed(spec: FeatureSpec) -> float:
    low = spec.minimum if spec.minimum is not None else spec.above
    if low is not None and spec.maximum is not None:
        return float(np.ceil((low + spec.maximum) / 2) if spec.integer else (low + spec.maximum) / 2)
    return float(np.floor(low) + 1.0 if low is not None else spec.maximum or 0.0)
