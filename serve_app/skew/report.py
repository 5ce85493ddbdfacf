"""What a comparison of the live service with a log found, as it goes on and as it is kept between runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from serve_app.skew.expected import FeatureDifference

KEPT: Final = 100
"""Differences that are kept one by one; all are counted."""

_COUNTS: Final = ("n_rows", "n_purchases", "n_values", "n_rejected", "n_unavailable", "n_differences")


@dataclass(slots=True)
class SkewReport:
    """What was compared.

    Attributes
    ----------
    n_rows : int
        Views and carts that were answered as they must be, or otherwise.
    n_purchases : int
        Purchases that were recorded between them.
    n_values : int
        Comparisons of a value: features with the table and with the matrix, and scores.
    n_rejected : int
        Rows that the service rejects and must reject.
    n_unavailable : int
        Answers without history that were asked for again.
    n_differences : int
    by_feature : Counter
        Differences by feature.
    differences : list of FeatureDifference
        The first `KEPT`.
    versions : set of int
        Versions of the model that answered.
    """

    n_rows: int = 0
    n_purchases: int = 0
    n_values: int = 0
    n_rejected: int = 0
    n_unavailable: int = 0
    n_differences: int = 0
    by_feature: Counter[str] = field(default_factory=Counter)
    differences: list[FeatureDifference] = field(default_factory=list)
    versions: set[int] = field(default_factory=set)

    def add_row(self, n_values: int, found: Sequence[FeatureDifference]) -> None:
        """Count a row."""
        self.n_rows += 1
        self.n_values += n_values
        self.n_differences += len(found)
        self.by_feature.update(d.feature for d in found)
        self.differences += found[: max(0, KEPT - len(self.differences))]

    def add(self, other: SkewReport) -> None:
        """Add what another part of the log gave."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.by_feature.update(other.by_feature)
        self.differences += other.differences[: max(0, KEPT - len(self.differences))]
        self.versions |= other.versions

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {
            **{name.removeprefix("n_"): getattr(self, name) for name in _COUNTS if name != "n_differences"},
            "versions": sorted(self.versions),
            "different": self.n_differences,
            "different_by_feature": dict(self.by_feature),
            "differences": [asdict(d) for d in self.differences],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> SkewReport:
        """Build a report from `to_json`'s form."""
        counts = {name: int(value[name.removeprefix("n_")]) for name in _COUNTS if name != "n_differences"}
        return cls(
            **counts,
            n_differences=int(value["different"]),
            by_feature=Counter(value["different_by_feature"]),
            differences=[FeatureDifference(**d) for d in value["differences"]],
            versions=set(value["versions"]),
        )
