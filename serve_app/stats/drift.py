"""How far the rows of today are from the rows a package was measured on.

The population stability index of a sample is judged against what chance alone gives, see `serve_app.stats.psi`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.stats.profile import SCORE
from serve_app.stats.psi import count_ranges, expected_psi, measure_psi, psi_p_value, smallest_visible_psi

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
    sizes, found = (n_reference, n_new), []
    for (name, is_score), bins in _bins_by_feature(reference).items():
        if (name, is_score) not in columns:
            continue
        column, is_categorical = columns[name, is_score], bins[0]["kind"] == "categorical"
        classes = vocabularies.get(name, ())
        new = count_classes(bins, column, classes, unseen) if is_categorical else count_numbers(bins, column)
        psi, n_bins = measure_psi(np.array([row["count"] for row in bins], dtype=np.float64), new)
        before, last = (new[-2:] / max(new.sum(), 1.0)).tolist()  # a profile's last bins
        missing, outside, strange = (0.0, 0.0, last) if is_categorical else (last, before, 0.0)
        p_value = psi_p_value(psi, n_bins, *sizes)
        expected = expected_psi(n_bins, *sizes)
        found.append(Drift(name, psi, expected, p_value, n_bins, missing, outside, strange, "none"))
    if not found:
        return []
    is_beyond_chance = find_discoveries([one.p_value for one in found], FALSE_DISCOVERY_SHARE)
    drifts = []
    for one, is_real in zip(found, is_beyond_chance, strict=True):
        visible = smallest_visible_psi(one.n_bins, *sizes, FALSE_DISCOVERY_SHARE)
        verdict = judge_psi(one.psi, one.expected_psi, visible, is_beyond_chance=is_real)
        drifts.append(replace(one, verdict=verdict))
    return sorted(drifts, key=lambda drift: (drift.feature != SCORE, -drift.psi))


def _bins_by_feature(reference: pa.Table) -> dict[tuple[str, bool], list[dict[str, Any]]]:
    """Return the bins by name, and whether they are of scores: a feature may be called as they are."""
    out: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for row in reference.to_pylist():
        out.setdefault((row["feature"], row["kind"] == SCORE), []).append(row)
    return out
