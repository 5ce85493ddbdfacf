"""A model measured on later rows: metrics with intervals, baselines, slices, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serve_app.events.core.event_rows import CART, EVENT_TYPES
from serve_app.stats.classification import (
    BOOTSTRAP_ROUNDS,
    best_f1_threshold,
    bootstrap_intervals,
    compute_metrics,
    precision_recall_points,
    rank_rows,
    reliability_table,
)
from serve_app.stats.design_effect import effective_rows
from serve_app.stats.single_feature import fit_rates
from serve_app.training.core.guards import Finding, check_calibration, find_leak

PUBLISHED_GIVEN_CART_AUC: Final = 0.646
"""Purchase against cart-but-not-bought on seven months of this log, time split, XGBoost; by others."""

ENOUGH_POSITIVES: Final = 200
ENOUGH_AUC_WIDTH: Final = 0.1
SLICE_ROUNDS: Final = 100
FEWEST_USERS: Final = 2
"""Intervals redraw users: of one there is nothing to redraw."""
_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows of one slice of time.

    Attributes
    ----------
    matrix : ndarray of float32, shape (n, k)
    target : ndarray of bool, shape (n,)
    probability : ndarray of float64, shape (n,)
    user, time_s, event_type, cart_key : ndarray of int64, shape (n,)
        `cart_key` is a code of user, session and product.
    """

    matrix: NDArray[np.float32]
    target: NDArray[np.bool_]
    probability: NDArray[np.float64]
    user: NDArray[np.int64]
    time_s: NDArray[np.int64]
    event_type: NDArray[np.int64]
    cart_key: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Assessment:
    """What was measured, and which guards it trips."""

    metrics: dict[str, Any]
    findings: tuple[Finding, ...]


def assess_model(
    train: tuple[NDArray[np.float32], NDArray[np.bool_]],
    stop: Slice,
    test: Slice,
    names: Sequence[str],
    categorical: Sequence[str],
    thresholds: Sequence[float],
    rng: np.random.Generator,
) -> Assessment:
    """Measure a model on the test slice, beside two baselines.

    Parameters
    ----------
    train : (matrix, target)
        What the baselines are learned on.
    stop : Slice
        What the best single feature and the best threshold are chosen on.
    test : Slice
        Later than both; what everything is measured on.
    names, categorical : sequence of str
        The columns, and those of them that hold codes.
    thresholds : sequence of float
        The recommendation's thresholds.
    rng : Generator
        For the bootstrap.
    """
    chosen = float(f"{best_f1_threshold(rank_rows(stop.target, stop.probability)):.4g}")
    all_thresholds = (*thresholds, chosen)
    overall = measure(test, test.probability, all_thresholds, rng)
    singles, scores, findings = _single_features(train, stop, test, names, categorical)
    ranked = rank_rows(test.target, test.probability)
    metrics = {
        "measured_on": f"{_iso(test.time_s.min())} to {_iso(test.time_s.max())}, sessions begun after those trained on",
        "intervals": f"95 %, bootstrap over users, {BOOTSTRAP_ROUNDS} rounds ({SLICE_ROUNDS} for slices)",
        "chosen_threshold": chosen,
        "reference": {"n_rows": len(test.target), "n_effective_rows": effective_rows(test.user)},
        "overall": overall,
        "baselines": _baselines(test, float(train[1].mean()), singles, scores, rng),
        "by_event_type": {
            name: measure(part, part.probability, (), rng, SLICE_ROUNDS)
            for code, name in enumerate(EVENT_TYPES[:2])
            if len((part := take_rows(test, test.event_type == code)).target)
        },
        "by_day": _by_day(test, rng),
        "purchase_given_cart": _given_cart(test, rng),
        "single_features": singles,
        "reliability": reliability_table(ranked),
        "precision_recall": precision_recall_points(ranked),
        **_enough(overall),
    }
    found = (*findings, _find_miscalibration(overall))
    return Assessment(round_metrics(metrics), tuple(finding for finding in found if finding is not None))


def _baselines(
    test: Slice,
    rate: float,
    singles: Sequence[dict[str, Any]],
    scores: Mapping[str, NDArray[np.float64]],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Return the metrics of a constant and of the best single feature."""
    best = max(singles, key=lambda single: single["stop_roc_auc"])["feature"]
    return {
        "base_rate": measure(test, np.full(len(test.target), rate), (), rng),
        "best_single_feature": {"feature": best, **measure(test, scores[best], (), rng, SLICE_ROUNDS)},
    }


def _find_miscalibration(overall: Mapping[str, Any]) -> Finding | None:
    # Resampling adds as much error to the calibration error as sampling did, so its lower end comes from
    # the reflected ("basic") interval; the percentile one never reaches 0 on few rows.
    if overall["ece"]["high"] is None:
        return None
    ece_low = 2 * overall["ece"]["value"] - overall["ece"]["high"]
    return check_calibration(ece_low, overall["base_rate"]["value"])


def measure(
    part: Slice,
    probability: NDArray[np.float64],
    thresholds: Sequence[float],
    rng: np.random.Generator,
    n_rounds: int = BOOTSTRAP_ROUNDS,
) -> dict[str, Any]:
    """Return counts, and each metric with its interval; what is undefined is None, as intervals of one user are."""
    ranked = rank_rows(part.target, probability, part.user)
    values = compute_metrics(ranked, thresholds)
    n_users = len(np.unique(part.user))
    bounds = bootstrap_intervals(ranked, thresholds, rng, n_rounds=n_rounds) if n_users >= FEWEST_USERS else {}
    out: dict[str, Any] = {"n_rows": len(part.target), "n_positive": int(part.target.sum()), "n_users": n_users}
    for name, value in values.items():
        low, high = bounds.get(name, (math.nan, math.nan))
        out[name] = {"value": _known(value), "low": _known(low), "high": _known(high)}
    return out


def _single_features(
    train: tuple[NDArray[np.float32], NDArray[np.bool_]],
    stop: Slice,
    test: Slice,
    names: Sequence[str],
    categorical: Sequence[str],
) -> tuple[list[dict[str, Any]], Mapping[str, NDArray[np.float64]], list[Finding]]:
    singles, scores, findings = [], {}, []
    for j, name in enumerate(names):
        rates = fit_rates(train[0][:, j], train[1], is_category=name in categorical)
        aucs = []
        for part in (stop, test):
            scores[name] = rates.score(part.matrix[:, j])
            aucs.append(compute_metrics(rank_rows(part.target, scores[name]), ())["roc_auc"])
        singles.append({"feature": name, "stop_roc_auc": aucs[0], "roc_auc": aucs[1]})
        finding = find_leak(name, rates, test.matrix[:, j], test.target, aucs[1])
        if finding:
            findings.append(finding)
    return sorted(singles, key=lambda single: -single["roc_auc"]), scores, findings


def take_rows(rows: Slice, mask: NDArray[np.bool_]) -> Slice:
    """Return some rows of a slice, without their matrix, which no metric needs."""
    columns = {field.name: getattr(rows, field.name)[mask] for field in fields(Slice) if field.name != "matrix"}
    return Slice(matrix=rows.matrix[:0], **columns)


def _by_day(test: Slice, rng: np.random.Generator) -> dict[str, Any]:
    day = test.time_s // _DAY_S
    out = {}
    for number in np.unique(day).tolist():
        part = take_rows(test, day == number)
        out[_iso(number * _DAY_S)[:10]] = measure(part, part.probability, (), rng, SLICE_ROUNDS)
    return out


def _given_cart(test: Slice, rng: np.random.Generator) -> dict[str, Any]:
    """Measure on the first cart of each product in each session: bought, or left in the cart."""
    carts = np.flatnonzero(test.event_type == CART)
    _, first = np.unique(test.cart_key[carts], return_index=True)
    mask = np.zeros(len(test.target), dtype=bool)
    mask[carts[first]] = True
    part = take_rows(test, mask)
    out = measure(part, part.probability, (), rng, SLICE_ROUNDS) if len(part.target) else {"n_rows": 0}
    return {**out, "published_roc_auc": PUBLISHED_GIVEN_CART_AUC}


def _enough(overall: Mapping[str, Any]) -> dict[str, Any]:
    auc, notes = overall["roc_auc"], []
    if overall["n_positive"] < ENOUGH_POSITIVES:
        notes.append(f"only {overall['n_positive']} positives in the test slice (want {ENOUGH_POSITIVES})")
    if auc["low"] is None or auc["high"] - auc["low"] > ENOUGH_AUC_WIDTH:
        notes.append(f"the interval of ROC-AUC is wider than {ENOUGH_AUC_WIDTH:g}: {auc['low']} to {auc['high']}")
    return {"enough_data": not notes, "notes": [f"too little data for a good model: {note}" for note in notes]}


def _iso(time_s: int) -> str:
    return datetime.fromtimestamp(int(time_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def round_metrics(value: Any) -> Any:
    """Return a JSON value with its floats rounded to six decimals; what is not finite becomes None."""
    if isinstance(value, dict):
        return {key: round_metrics(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [round_metrics(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
