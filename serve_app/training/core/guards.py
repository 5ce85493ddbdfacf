"""What stops a model from being registered: a leak, or probabilities that are not probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serve_app.errors import FieldError, GuardError
from serve_app.stats.single_feature import FeatureRates

LEAK_AUC: Final = 0.90
"""An honest single feature of shopping behaviour stays far below; the best here reach about 0.7."""

NEVER_SHARE: Final = 0.10
NEVER_RATE: Final = 0.02
NEVER_EXPECTED: Final = 20.0
"""A feature leaks when it marks at least 10 % of the later rows where positives come at less than 2 % of
the base rate although at least 20 were to be expected (by chance below exp(-19))."""

ECE_FLOOR: Final = 0.01
ECE_OF_BASE_RATE: Final = 0.25
"""The lower end of the calibration error's interval may be 0.01, or a quarter of the base rate."""

CALIBRATION: Final = "calibration"


@dataclass(frozen=True, slots=True)
class Finding:
    """One tripped guard.

    Attributes
    ----------
    guard : str
        Name to override it by: ``leak:<feature>`` or ``calibration``.
    detail : str
        What was found.
    """

    guard: str
    detail: str


def find_leak(
    name: str, rates: FeatureRates, values: NDArray[np.float32], target: NDArray[np.bool_], roc_auc: float
) -> Finding | None:
    """Return a finding when one feature alone nearly decides the target.

    Parameters
    ----------
    name : str
    rates : FeatureRates
        Learned on earlier rows.
    values, target : ndarray, shape (n,)
        Later rows.
    roc_auc : float
        ROC-AUC of the feature's rates on the later rows.
    """
    if roc_auc >= LEAK_AUC:
        return Finding(
            f"leak:{name}",
            f"{name} alone ranks the outcome with ROC-AUC {roc_auc:.3f} on later rows (limit {LEAK_AUC:g})",
        )
    base = float(target.mean())
    bins = rates.find_bins(values)
    count = np.bincount(bins, minlength=len(rates.rates))
    positive = np.bincount(bins, target, minlength=len(rates.rates))
    # The values are chosen on the earlier rows: chosen on these, chance would find some.
    never = rates.rates < NEVER_RATE * base
    n_rows, n_found = int(count[never].sum()), int(positive[never].sum())
    expected = base * n_rows
    if n_rows < NEVER_SHARE * len(target) or expected < NEVER_EXPECTED or n_found > NEVER_RATE * expected:
        return None
    return Finding(
        f"leak:{name}",
        f"{name} alone rules the outcome out: for {n_rows} of {len(target)} later rows it takes values with "
        f"{n_found} positives where {expected:.0f} were to be expected; it looks computed from the outcome",
    )


def check_calibration(ece_low: float, base_rate: float) -> Finding | None:
    """Return a finding when even the lower end of the calibration error's interval is too large."""
    limit = max(ECE_FLOOR, ECE_OF_BASE_RATE * base_rate)
    if not ece_low > limit:
        return None
    return Finding(
        CALIBRATION,
        f"expected calibration error is at least {ece_low:.4f} with 95 % confidence (limit {limit:.4f} at a base "
        f"rate of {base_rate:.4f})",
    )


def refuse_findings(findings: Sequence[Finding], allowed: Sequence[str], metrics: Mapping[str, float]) -> None:
    """Raise GuardError for findings that are not allowed by name."""
    stopped = [finding for finding in findings if finding.guard not in allowed]
    if stopped:
        names = " ".join(f"--allow {finding.guard}" for finding in stopped)
        raise GuardError(
            f"the model was not registered (test ROC-AUC {metrics.get('roc_auc', float('nan')):.3f}); "
            f"fix the data, or override by name with {names}.",
            tuple(FieldError(f"/{finding.guard}", finding.detail) for finding in stopped),
        )
