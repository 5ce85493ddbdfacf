"""From a probability to the word a shop acts on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from serve_app.errors import BadRequestError

Recommendation = Literal["high", "medium", "low"]
BANDS: Final = np.array(["low", "medium", "high"])
"""The words in ascending order."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Bounds of the bands: ``low < medium <= medium band <= high < high band``.

    Attributes
    ----------
    medium : float
        Lowest probability of the medium band, inclusive.
    high : float
        Highest probability of the medium band, inclusive; above it is high.
    """

    medium: float = 0.5
    high: float = 0.7

    def __post_init__(self) -> None:
        if not 0.0 <= self.medium <= self.high <= 1.0:
            raise BadRequestError(
                f"thresholds must satisfy 0 <= medium <= high <= 1, got medium={self.medium}, high={self.high}"
            )

    def recommend(self, probability: float) -> Recommendation:
        """Return the band of one probability."""
        if probability > self.high:
            return "high"
        return "medium" if probability >= self.medium else "low"

    def band_many(self, probabilities: NDArray[np.float64]) -> NDArray[np.int8]:
        """Return the bands of an (n,) array as an (n,) array of indices into `BANDS`; NaN is the lowest."""
        return (probabilities >= self.medium).astype(np.int8) + (probabilities > self.high)
