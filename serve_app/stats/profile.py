"""The distribution of features and scores, kept in a package to measure drift against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.stats.psi import count_ranges, decile_edges

SCORE: Final = "score"
TOP_CLASSES: Final = 20
OUT_OF_RANGE: Final = "out of range"
MISSING: Final = "missing"
OTHER_CLASSES: Final = "(other classes)"
UNSEEN: Final = "(unseen)"
PROFILE_SCHEMA: Final = pa.schema(
    [
        pa.field("feature", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("bin", pa.int32(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("share", pa.float64(), nullable=False),
    ]
)
"""One row for each bin. Kind is ``numeric``, ``categorical`` or ``score``. Labels: ``range`` (above `low`,
up to `high`; the first one includes `low`), ``out of range``, ``missing``; or a class, ``(other classes)``,
``(unseen)``."""


def profile_numbers(feature: str, values: NDArray[Any], *, kind: str = "numeric") -> list[dict[str, Any]]:
    """Return the bins of one numeric column: its deciles, then out of range and missing."""
    known = values[~np.isnan(values)].astype(np.float64)
    edges = decile_edges(known) if len(known) else np.empty(0)
    counts = count_ranges(edges, known).tolist()
    ranges = [("range", n, low, high) for n, low, high in zip(counts, edges.tolist(), edges[1:].tolist(), strict=False)]
    odd = [(OUT_OF_RANGE, 0, None, None), (MISSING, len(values) - len(known), None, None)]
    return _describe_bins(feature, kind, len(values), [*ranges, *odd])


def profile_classes(feature: str, codes: NDArray[Any], classes: Sequence[str], unseen: str) -> list[dict[str, Any]]:
    """Return the bins of one categorical column: its most frequent classes, the others, the unseen."""
    counts = np.bincount(codes.astype(np.int64), minlength=len(classes))
    seen = [k for k in np.argsort(-counts, kind="stable").tolist() if counts[k] and classes[k] != unseen]
    top, others = seen[:TOP_CLASSES], seen[TOP_CLASSES:]
    counted = [(classes[k], int(counts[k])) for k in top]
    n_unseen = int(counts[list(classes).index(unseen)]) if unseen in classes else 0
    counted += [(OTHER_CLASSES, int(counts[others].sum())), (UNSEEN, n_unseen)]
    return _describe_bins(feature, "categorical", len(codes), [(label, n, None, None) for label, n in counted])


def profile_table(
    matrix: NDArray[np.float32],
    scores: NDArray[np.float64],
    names: Sequence[str],
    vocabularies: Mapping[str, Sequence[str]],
    unseen: str,
    labels: Sequence[str] = (),
) -> pa.Table:
    """Profile encoded rows and their scores in the form of `PROFILE_SCHEMA`.

    Scores (n,) are named `SCORE`; scores (n, k) of k classes ``score.<label>``, one for each.
    """
    rows: list[dict[str, Any]] = []
    for j, name in enumerate(names):
        column = matrix[:, j]
        if name in vocabularies:
            rows += profile_classes(name, column, vocabularies[name], unseen)
        else:
            rows += profile_numbers(name, column)
    if scores.ndim == 1:
        rows += profile_numbers(SCORE, scores, kind="score")
    else:
        for k, label in enumerate(labels):
            rows += profile_numbers(f"{SCORE}.{label}", scores[:, k], kind="score")
    return pa.Table.from_pylist(rows, schema=PROFILE_SCHEMA)


def _describe_bins(
    feature: str, kind: str, n_rows: int, bins: Iterable[tuple[str, int, float | None, float | None]]
) -> list[dict[str, Any]]:
    """Return the rows of bins, each given as label, count and limits."""
    return [
        {
            "feature": feature, "kind": kind, "bin": number, "label": label, "low": low, "high": high, "count": count,
            "share": count / n_rows if n_rows else 0.0,
        }
        for number, (label, count, low, high) in enumerate(bins)
    ]  # fmt: skip
