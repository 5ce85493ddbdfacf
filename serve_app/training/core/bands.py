"""The bands behind a recommendation: how their thresholds are set, and what acting on them is worth.

A rule sets the thresholds: they are given, or follow from how many rows each band may hold, or from what
a purchase brings and an action costs. What a rule chooses it chooses on one slice of rows; what the
bands hold is measured on a later one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serve_app.errors import BadRequestError, InvalidDataError
from serve_app.models.core.recommendation import Thresholds
from serve_app.stats.classification import BOOTSTRAP_ROUNDS, draw_clusters, percentile_interval

_FLOAT = NDArray[np.float64]

BANDS: Final = ("high", "medium", "low")

HIGH_RETURN: Final = 2.0
"""By cost: the medium band begins where acting pays its cost, the high band where it pays it twice."""

MIN_COST_POSITIVES: Final = 50
"""Fewest positives to choose thresholds by cost on: with fewer, single rows decide where acting pays."""

_WHOLE: Final = 1e-9
"""0.29 x 100 is 28.999999999999996 and means 29 rows."""


@dataclass(frozen=True, slots=True)
class Worth:
    """What a purchase brings and an action costs, in one currency.

    Attributes
    ----------
    value_of_purchase : float
        Gained when a row that was acted on is followed by its purchase.
    cost_of_action : float
        Spent on every row that is acted on; above 0 and below the value.
    """

    value_of_purchase: float
    cost_of_action: float

    def __post_init__(self) -> None:
        if not 0 < self.cost_of_action < self.value_of_purchase < math.inf:
            raise BadRequestError(
                f"the cost of an action must be above 0 and below the value of a purchase, or acting never pays or "
                f"always does: got cost {self.cost_of_action:g}, value {self.value_of_purchase:g}"
            )


@dataclass(frozen=True, slots=True)
class Capacity:
    """The most rows each band may hold, as shares of all rows.

    Attributes
    ----------
    high, medium : float
        Of the band itself: medium takes the best rows that high leaves. 0 keeps a band empty.
    """

    high: float
    medium: float

    def __post_init__(self) -> None:
        if not (self.high >= 0 and self.medium >= 0 and 0 < self.high + self.medium <= 1):
            raise BadRequestError(
                f"the capacities of the bands are shares of all rows, at least 0 and together above 0 and at most 1: "
                f"got high={self.high:g}, medium={self.medium:g}"
            )


@dataclass(frozen=True, slots=True)
class BandRule:
    """How thresholds are set.

    Attributes
    ----------
    thresholds : Thresholds
        Used as they are when neither `capacity` nor `is_by_cost` says otherwise.
    capacity : Capacity or None
        Set them so that no band holds more than this.
    worth : Worth or None
        What the report values the bands by; needed for `is_by_cost`.
    is_by_cost : bool
        Set them where acting pays.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    capacity: Capacity | None = None
    worth: Worth | None = None
    is_by_cost: bool = False

    def __post_init__(self) -> None:
        if self.is_by_cost and (self.worth is None or self.capacity is not None):
            raise BadRequestError("thresholds by cost need a value and a cost, and no capacity beside them")

    @property
    def kind(self) -> str:
        """One word: ``cost``, ``capacity`` or ``given``."""
        if self.is_by_cost:
            return "cost"
        return "given" if self.capacity is None else "capacity"

    def to_json(self) -> dict[str, Any]:
        """Return the rule as a JSON object, without the thresholds."""
        value: dict[str, Any] = {"kind": self.kind}
        if self.capacity is not None:
            value["capacity"] = {"high": self.capacity.high, "medium": self.capacity.medium}
        if self.worth is not None:
            value["value_of_purchase"] = self.worth.value_of_purchase
            value["cost_of_action"] = self.worth.cost_of_action
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any], thresholds: Thresholds) -> BandRule:
        """Build a rule from `to_json`'s form and the thresholds it chose."""
        worth = Worth(value["value_of_purchase"], value["cost_of_action"]) if "cost_of_action" in value else None
        capacity = Capacity(**value["capacity"]) if "capacity" in value else None
        return cls(thresholds, capacity, worth, is_by_cost=value["kind"] == "cost")


def check_rule(rule: BandRule, n_rows: int, n_positive: int) -> None:
    """Raise InvalidDataError when a rule cannot choose on a slice of this size."""
    if rule.capacity is not None:
        for band, share in (("high", rule.capacity.high), ("medium", rule.capacity.medium)):
            if share > 0 and _whole_rows(share, n_rows) == 0:
                raise InvalidDataError(
                    f"a capacity of {share:g} for the {band} band is less than one of the {n_rows} rows of the "
                    f"early-stopping slice: give at least {1 / n_rows:.2g}, or a longer log"
                )
    if rule.is_by_cost and rule.worth is not None and n_positive < MIN_COST_POSITIVES:
        pays = rule.worth.cost_of_action / rule.worth.value_of_purchase
        raise InvalidDataError(
            f"thresholds by cost need {MIN_COST_POSITIVES} purchases in the early-stopping slice, there are "
            f"{n_positive}: give a longer log, or the thresholds at which calibrated probabilities pay: "
            f"--threshold-medium {pays:.4g} --threshold-high {min(1.0, HIGH_RETURN * pays):.4g}"
        )


def choose_thresholds(rule: BandRule, target: NDArray[Any], probability: _FLOAT) -> Thresholds:
    """Choose the thresholds a rule asks for.

    Parameters
    ----------
    rule : BandRule
    target, probability : ndarray, shape (n,)
        Rows to choose on; not those the bands are measured on.

    Notes
    -----
    Rows of equal probability stay together, so a band holds fewer rows than its capacity rather than more. So do
    rows of neighbouring floats where both thresholds would have to lie between them, and by cost.

    By cost, acting on the best k rows brings the sum of (value x purchase - cost) over them. The medium band
    begins after the k with the largest sum; the high band where the same is true of a cost `HIGH_RETURN`
    times as large. This is the threshold cost / value on probabilities calibrated by isotonic regression on
    these rows [1]_, so a model that is too sure of itself does not make actions pay on paper only. When
    acting never pays, both thresholds are 1.

    References
    ----------
    .. [1] Fawcett, Niculescu-Mizil: PAV and the ROC convex hull. Machine Learning 68 (2007).
    """
    order = np.argsort(-probability, kind="stable")
    falling = probability[order]
    parted = _ends_of_runs(falling, np.nextafter(falling, 1.0))
    if rule.capacity is not None:
        ends = _ends_of_runs(falling, falling)
        n_high = _last_end(ends, _whole_rows(rule.capacity.high, len(falling)))
        n_medium = _last_end(ends, n_high + _whole_rows(rule.capacity.medium, len(falling)))
        if n_medium == n_high:
            n_medium = n_high = _last_end(parted, n_high)
    elif rule.is_by_cost and rule.worth is not None:
        y = np.asarray(target, dtype=np.float64)[order]
        value, cost = rule.worth.value_of_purchase, rule.worth.cost_of_action
        n_medium = _count_that_pays(parted, value * y - cost)
        n_high = _count_that_pays(parted, value * y - HIGH_RETURN * cost)
    else:
        return rule.thresholds
    return _thresholds_between(falling, n_high, n_medium)


def _whole_rows(share: float, n_rows: int) -> int:
    return math.floor(share * n_rows + _WHOLE)


def _ends_of_runs(falling: _FLOAT, least: _FLOAT) -> NDArray[np.int64]:
    """Return the counts of best rows, all last, of which the last one is above the `least` of the row below it."""
    return np.append(np.flatnonzero(falling[:-1] > least[1:]) + 1, len(falling))


def _last_end(ends: NDArray[np.int64], n_rows: int) -> int:
    """Return the largest end that is no more than `n_rows`, or 0."""
    return int(ends[ends <= n_rows].max(initial=0))


def _count_that_pays(ends: NDArray[np.int64], gain: _FLOAT) -> int:
    """Return how many of the best rows bring the most together; 0 when they bring nothing."""
    total = np.cumsum(gain)[ends - 1]
    best = int(np.argmax(total))
    return int(ends[best]) if total[best] > 0 else 0


def _thresholds_between(falling: _FLOAT, n_high: int, n_medium: int) -> Thresholds:
    """Put thresholds half-way between the last row of a band and the first one below it.

    Between neighbouring floats a threshold is the one that has the same rows on its side: high keeps what is above
    it, medium what is not below it.
    """
    return Thresholds(_half_way(falling, n_medium, step=-1), _half_way(falling, n_high, step=0))


def _half_way(falling: _FLOAT, n_rows: int, step: int) -> float:
    if n_rows == 0:
        return 1.0
    if n_rows == len(falling):
        return 0.0
    above, below = float(falling[n_rows - 1]), float(falling[n_rows])
    middle = below + (above - below) / 2
    return middle if below < middle < above else float(falling[n_rows + step])


def measure_bands(
    thresholds: Thresholds,
    target: NDArray[Any],
    probability: _FLOAT,
    cluster: NDArray[np.int64],
    rng: np.random.Generator,
    worth: Worth | None = None,
) -> list[dict[str, Any]]:
    """Return what each band holds, from high to low.

    Parameters
    ----------
    thresholds : Thresholds
    target, probability : ndarray, shape (n,)
        Rows that nothing was chosen on.
    cluster : ndarray of int64, shape (n,)
        What the bootstrap draws: the user.
    rng : Generator
    worth : Worth, optional
        Without it `expected_value` is None.

    Returns
    -------
    list of dict
        ``band``, ``n_rows``, ``n_positive`` and, each with its 95 % interval, ``share`` of all rows,
        ``precision`` (share of the band's rows followed by the purchase), ``captured`` (share of all
        positives that are in the band) and ``expected_value`` (of acting on one row of the band).
    """
    band = np.where(probability > thresholds.high, 0, np.where(probability >= thresholds.medium, 1, 2))
    codes = np.unique(cluster, return_inverse=True)[1]
    n_clusters = int(codes.max()) + 1
    cells = codes * len(BANDS) + band
    shape = (n_clusters, len(BANDS))
    rows = np.bincount(cells, minlength=n_clusters * len(BANDS)).reshape(shape).astype(np.float64)
    positive = np.bincount(cells, np.asarray(target, dtype=np.float64), minlength=rows.size).reshape(shape)
    found = _band_figures(rows.sum(axis=0), positive.sum(axis=0), worth)
    drawn = [
        _band_figures(weight @ rows, weight @ positive, worth)
        for weight in draw_clusters(n_clusters, BOOTSTRAP_ROUNDS, rng)
    ]
    out = []
    for k, name in enumerate(BANDS):
        entry: dict[str, Any] = {
            "band": name,
            "n_rows": int(rows[:, k].sum()),
            "n_positive": int(positive[:, k].sum()),
        }
        for figure, values in found.items():
            low, high = percentile_interval([one[figure][k] for one in drawn])
            entry[figure] = {"value": float(values[k]), "low": low, "high": high}
        out.append({"expected_value": None, **entry})
    return out


def _band_figures(rows: _FLOAT, positive: _FLOAT, worth: Worth | None) -> dict[str, _FLOAT]:
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = positive / rows
        figures = {"share": rows / rows.sum(), "precision": precision, "captured": positive / positive.sum()}
    if worth is not None:
        figures["expected_value"] = worth.value_of_purchase * precision - worth.cost_of_action
    return figures
