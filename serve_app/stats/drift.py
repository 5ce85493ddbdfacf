"""How far the rows of today are from the rows a package was measured on.

The population stability index of a sample is judged against what chance alone gives, see `serve_app.stats.psi`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.stats.bins import count_ranges
from serve_app.stats.profile import SCORE
from serve_app.stats.psi import expected_psi, measure_psi, psi_p_value, smallest_visible_psi

_COUNTS = NDArray[np.float64]

Verdict = Literal["none", "small", "moderate", "large", "too few rows"]

MODERATE_PSI: Final = 0.1
LARGE_PSI: Final = 0.25
"""Customary limits of credit scoring; here they apply to what is left when chance is taken off."""

FALSE_DISCOVERY_SHARE: Final = 0.01
"""Of the features called drifted, at most this share is expected to be chance (Benjamini-Hochberg)."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How far one feature, or the score, has moved.

    Attributes
    ----------
    feature : str
    psi : float
        Population stability index over the bins that hold rows.
    expected_psi : float
        What it is on average without drift.
    p_value : float
        Share of drift-free samples with an index at least as large.
    n_bins : int
    missing_share, out_of_range_share, unseen_share : float
        Of the new rows.
    verdict : str
        See `judge_psi`.
    """

    feature: str
    psi: float
    expected_psi: float
    p_value: float
    n_bins: int
    missing_share: float
    out_of_range_share: float
    unseen_share: float
    verdict: Verdict


def find_discoveries(p_values: Sequence[float], share: float) -> list[bool]:
    """Return which of many tests to believe, so that at most this share of them is expected to be chance.

    References
    ----------
    .. [1] Benjamini, Hochberg: Controlling the false discovery rate. J. R. Stat. Soc. B 57 (1995).
    """
    ordered = np.sort(np.asarray(p_values, dtype=np.float64))
    passed = np.flatnonzero(ordered <= share * np.arange(1, len(ordered) + 1) / len(ordered))
    limit = ordered[passed[-1]] if len(passed) else -1.0
    return [bool(p_value <= limit) for p_value in p_values]


def judge_psi(psi: float, expected: float, visible: float, *, is_beyond_chance: bool) -> Verdict:
    """Return what a PSI means.

    Parameters
    ----------
    psi, expected : float
    visible : float
        See `serve_app.stats.psi.smallest_visible_psi`. When that is a moderate drift already, nothing found does
        not mean nothing there.
    is_beyond_chance : bool
        Whether chance alone is ruled out.
    """
    if not is_beyond_chance:
        return "too few rows" if visible >= MODERATE_PSI else "none"
    excess = psi - expected
    if excess >= LARGE_PSI:
        return "large"
    return "moderate" if excess >= MODERATE_PSI else "small"


def count_numbers(bins: Sequence[Mapping[str, Any]], values: NDArray[Any]) -> _COUNTS:
    """Count values in a feature's bins of a profile, see `serve_app.stats.profile.profile_numbers`."""
    ranges = [row for row in bins if row["low"] is not None]
    counts = np.zeros(len(bins))
    known = values[~np.isnan(values)].astype(np.float64)
    if ranges:
        inside = known[(known >= ranges[0]["low"]) & (known <= ranges[-1]["high"])]
        counts[: len(ranges)] = count_ranges([ranges[0]["low"], *(row["high"] for row in ranges)], inside)
    counts[-2] = len(known) - counts.sum()
    counts[-1] = len(values) - len(known)
    return counts


def count_classes(
    bins: Sequence[Mapping[str, Any]], codes: NDArray[Any], classes: Sequence[str], unseen: str
) -> _COUNTS:
    """Count codes in a feature's bins of a profile, see `serve_app.stats.profile.profile_classes`.

    A code that is no place in `classes` counts as unseen.
    """
    known = codes.astype(np.int64)
    known = known[(known >= 0) & (known < len(classes))]
    n_of = dict(zip(classes, np.bincount(known, minlength=len(classes)).tolist(), strict=True))
    counts = np.array([n_of.get(row["label"], 0) for row in bins], dtype=np.float64)
    counts[-1] = n_of.get(unseen, 0) + len(codes) - len(known)
    counts[-2] = len(codes) - counts[:-2].sum() - counts[-1]
    return counts


def measure_drift(
    reference: pa.Table,
    matrix: NDArray[np.float32],
    scores: NDArray[np.float64],
    names: Sequence[str],
    vocabularies: Mapping[str, Sequence[str]],
    unseen: str,
    *,
    n_reference: float,
    n_new: float,
) -> list[Drift]:
    """Compare new rows with a package's reference profile, the score first, then by falling PSI.

    Parameters
    ----------
    reference : Table
        In the form of `serve_app.stats.profile.PROFILE_SCHEMA`.
    matrix, scores : ndarray, shapes (n, k) and (n,)
        New rows as the package encodes and scores them.
    names : sequence of str
        The k features.
    vocabularies, unseen
        Classes of the categorical features, and the one unseen values have.
    n_reference, n_new : float
        Independent rows behind the two samples, see `serve_app.stats.design_effect`.
    """
    columns = {(name, False): matrix[:, j] for j, name in enumerate(names)} | {(SCORE, True): scores}
    binned = [
        _bin_column(name, bins, columns[name, is_score], vocabularies.get(name, ()), unseen)
        for (name, is_score), bins in _bins_by_feature(reference).items()
        if (name, is_score) in columns
    ]
    if not binned:
        return []
    sizes = (n_reference, n_new)
    psis = [measure_psi(column.reference, column.new) for column in binned]
    p_values = [psi_p_value(psi, n_bins, *sizes) for psi, n_bins in psis]
    is_beyond_chance = find_discoveries(p_values, FALSE_DISCOVERY_SHARE)
    drifts = []
    for column, (psi, n_bins), p_value, beyond in zip(binned, psis, p_values, is_beyond_chance, strict=True):
        expected, visible = expected_psi(n_bins, *sizes), smallest_visible_psi(n_bins, *sizes, FALSE_DISCOVERY_SHARE)
        verdict = judge_psi(psi, expected, visible, is_beyond_chance=beyond)
        missing, outside, unseen_share = column.odd_shares()
        drifts.append(Drift(column.name, psi, expected, p_value, n_bins, missing, outside, unseen_share, verdict))
    return sorted(drifts, key=lambda drift: (drift.feature != SCORE, -drift.psi))


@dataclass(frozen=True, slots=True)
class _Binned:
    name: str
    is_categorical: bool
    reference: _COUNTS
    new: _COUNTS

    def odd_shares(self) -> tuple[float, float, float]:
        """Return the shares of the new rows that are missing, out of range, unseen: a profile's last bins."""
        last, before = (float(self.new[k] / max(self.new.sum(), 1.0)) for k in (-1, -2))
        return (0.0, 0.0, last) if self.is_categorical else (last, before, 0.0)


def _bins_by_feature(reference: pa.Table) -> dict[tuple[str, bool], list[dict[str, Any]]]:
    """Return the bins by name, and whether they are of scores: a feature may be called as they are."""
    out: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for row in reference.to_pylist():
        out.setdefault((row["feature"], row["kind"] == SCORE), []).append(row)
    return out


def _bin_column(
    name: str, bins: Sequence[Mapping[str, Any]], column: NDArray[Any], classes: Sequence[str], unseen: str
) -> _Binned:
    is_categorical = bins[0]["kind"] == "categorical"
    new = count_classes(bins, column, classes, unseen) if is_categorical else count_numbers(bins, column)
    return _Binned(name, is_categorical, np.array([row["count"] for row in bins], dtype=np.float64), new)
