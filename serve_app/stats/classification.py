"""How good probabilities are: ranking, sharpness, calibration, with intervals that respect users.

Rows of one user are not independent, so intervals come from a bootstrap that draws users, not rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serve_app.stats.intervals import TAIL

_FLOAT = NDArray[np.float64]

RELIABILITY_SHARES: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Bins of the reliability table, as shares of the rows by probability; finer where rare positives are."""

BOOTSTRAP_ROUNDS: Final = 200
_CLIP: Final = 1e-15


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Rows with their outcome and probability, sorted once for many weightings.

    Attributes
    ----------
    target : ndarray of float64, shape (n,)
        1 or 0, by falling probability.
    probability : ndarray of float64, shape (n,)
        Falling.
    cluster : ndarray of int64, shape (n,)
        Dense code of what is drawn in a bootstrap: the user.
    ends : ndarray of int64
        Last row of each run of equal probabilities.
    bins : ndarray of int64, shape (n,)
        Bin of the reliability table.
    log_losses : ndarray of float64, shape (n,)
        What each row adds to the log loss.
    """

    target: _FLOAT
    probability: _FLOAT
    cluster: NDArray[np.int64]
    ends: NDArray[np.int64]
    bins: NDArray[np.int64]
    log_losses: _FLOAT

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return int(self.cluster.max()) + 1 if len(self.cluster) else 0


def rank_rows(target: NDArray[Any], probability: _FLOAT, cluster: NDArray[np.int64] | None = None) -> ScoredRows:
    """Sort rows by falling probability; without clusters each row is its own."""
    n = len(probability)
    order = np.argsort(-probability, kind="stable")
    p = probability[order]
    ends = np.append(np.flatnonzero(p[1:] != p[:-1]), n - 1) if n else np.empty(0, dtype=np.int64)
    edges = np.unique(np.quantile(p, RELIABILITY_SHARES[1:-1])) if n else np.empty(0)
    groups = np.arange(n) if cluster is None else np.unique(cluster, return_inverse=True)[1]
    y, clipped = np.asarray(target, dtype=np.float64)[order], np.clip(p, _CLIP, 1 - _CLIP)
    return ScoredRows(
        target=y,
        probability=p,
        cluster=groups.astype(np.int64)[order],
        ends=ends,
        bins=np.searchsorted(edges, p, side="left"),
        log_losses=-np.where(y > 0, np.log(clipped), np.log1p(-clipped)),
    )


def compute_metrics(rows: ScoredRows, thresholds: Sequence[float], weight: _FLOAT | None = None) -> dict[str, float]:
    """Return all metrics as one flat dict; a metric that is not defined on these rows is NaN.

    Parameters
    ----------
    rows : ScoredRows
    thresholds : sequence of float
        A row is predicted positive when its probability is at least the threshold.
    weight : ndarray of float64, shape (n,), optional
        Weights in the order of `rows`; 1 each when left out.
    """
    y, p = rows.target, rows.probability
    w = np.ones(len(y)) if weight is None else weight
    total = w.sum()
    tp, seen = np.cumsum(w * y), np.cumsum(w)
    n_positive = tp[-1] if len(tp) else 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        out = {"base_rate": n_positive / total, "mean_probability": _weigh(w, p) / total}
        out |= _ranking(tp[rows.ends], seen[rows.ends])
        out["log_loss"] = _weigh(w, rows.log_losses) / total
        out["brier"] = _weigh(w, (p - y) ** 2) / total
        out["ece"] = np.abs(np.bincount(rows.bins, w * (p - y))).sum() / total
        for threshold in thresholds:
            k = int(np.searchsorted(-p, -threshold, side="right"))
            hit, chosen = (tp[k - 1], seen[k - 1]) if k else (0.0, 0.0)
            precision, recall = np.divide(hit, chosen), np.divide(hit, n_positive)
            out[f"precision@{threshold:g}"] = precision
            out[f"recall@{threshold:g}"] = recall
            out[f"f1@{threshold:g}"] = np.divide(2 * hit, chosen + n_positive)
    return {name: float(value) for name, value in out.items()}


def _weigh(weight: _FLOAT, values: _FLOAT) -> float:
    """Weighted sum; a product of matrices would wake BLAS's threads, which cost more than all else of a round."""
    return float(np.einsum("i,i->", weight, values))


def _ranking(tp: _FLOAT, seen: _FLOAT) -> dict[str, float]:
    """ROC-AUC by the trapezoid rule, and average precision, from running sums at the ends of ties."""
    fp = seen - tp
    if len(tp) == 0 or tp[-1] <= 0 or fp[-1] <= 0:
        return {"roc_auc": float("nan"), "pr_auc": float("nan")}
    before = np.concatenate([[0.0], tp[:-1]])
    roc = np.sum(np.diff(fp, prepend=0.0) * (tp + before)) / (2 * tp[-1] * fp[-1])
    precision = np.divide(tp, seen, out=np.zeros_like(tp), where=seen > 0)
    return {"roc_auc": float(roc), "pr_auc": float(np.sum((tp - before) * precision) / tp[-1])}


def bootstrap_intervals(
    rows: ScoredRows, thresholds: Sequence[float], rng: np.random.Generator, *, n_rounds: int = BOOTSTRAP_ROUNDS
) -> dict[str, tuple[float, float]]:
    """Return the 95 % percentile interval of each metric under redrawing of clusters.

    Notes
    -----
    A round draws as many clusters as there are and weights each row by how often its cluster came; the
    rows stay sorted, so a round costs a few passes. Rounds in which a metric is undefined are left out.
    """
    found: dict[str, list[float]] = {}
    for weight in draw_clusters(rows.n_clusters, n_rounds, rng):
        for name, value in compute_metrics(rows, thresholds, weight[rows.cluster]).items():
            found.setdefault(name, []).append(value)
    return {name: percentile_interval(values) for name, values in found.items()}


def paired_intervals(
    first: ScoredRows, second: ScoredRows, rng: np.random.Generator, *, n_rounds: int = BOOTSTRAP_ROUNDS
) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of each metric's difference, first minus second, on the same rows.

    Parameters
    ----------
    first, second : ScoredRows
        The same rows under two models, ranked with the same clusters.
    rng : Generator
    n_rounds : int

    Notes
    -----
    Both are measured on the same redrawn clusters in each round, so what is hard for both models cancels:
    the interval of the difference is much narrower than the two intervals suggest.
    """
    found: dict[str, list[float]] = {}
    for weight in draw_clusters(first.n_clusters, n_rounds, rng):
        one = compute_metrics(first, (), weight[first.cluster])
        other = compute_metrics(second, (), weight[second.cluster])
        for name, value in one.items():
            found.setdefault(name, []).append(value - other[name])
    return {name: percentile_interval(values) for name, values in found.items()}


def draw_clusters(n_clusters: int, n_rounds: int, rng: np.random.Generator) -> Iterator[_FLOAT]:
    """Yield, for each round, how often each of the clusters was drawn, (n_clusters,)."""
    for _ in range(n_rounds if n_clusters else 0):
        yield np.bincount(rng.integers(0, n_clusters, n_clusters), minlength=n_clusters).astype(np.float64)


def percentile_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % percentile interval of the values that are finite; NaN when none is."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if len(known) == 0:
        return math.nan, math.nan
    low, high = np.quantile(known, [TAIL, 1 - TAIL])
    return float(low), float(high)


def reliability_table(rows: ScoredRows) -> list[dict[str, float]]:
    """Return, from low to high probability, each bin's rows, mean probability and rate of positives."""
    n = np.bincount(rows.bins)
    p, y = np.bincount(rows.bins, rows.probability), np.bincount(rows.bins, rows.target)
    return [
        {
            "n": int(n[k]),
            "mean_probability": float(p[k] / n[k]),
            "rate": float(y[k] / n[k]),
            "n_positive": int(y[k]),
        }
        for k in np.flatnonzero(n)
    ]


def precision_recall_points(rows: ScoredRows, n_points: int = 100) -> list[tuple[float, float]]:
    """Return about `n_points` points (recall, precision) along the curve."""
    tp, seen = np.cumsum(rows.target)[rows.ends], (rows.ends + 1).astype(np.float64)
    if len(tp) == 0 or tp[-1] == 0:
        return []
    recall, precision = tp / tp[-1], tp / seen
    at = np.unique(np.searchsorted(recall, np.linspace(0.005, 1, n_points)).clip(0, len(tp) - 1))
    return [(float(recall[k]), float(precision[k])) for k in at]


def best_f1_threshold(rows: ScoredRows) -> float:
    """Return the probability at which predicting positives gives the highest F1."""
    tp, chosen = np.cumsum(rows.target)[rows.ends], rows.ends + 1
    f1 = 2 * tp / (chosen + rows.target.sum())
    return float(rows.probability[rows.ends[int(np.argmax(f1))]])
