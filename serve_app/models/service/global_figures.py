"""What a model file says of itself, as plain values for pages and JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class GlobalFigures:
    """Global figures of a model.

    Attributes
    ----------
    n_trees : int
    importance : tuple of (str, float)
        Features and the share of the changes of prediction they cause, percent, falling.
    interactions : tuple of (str, str, float)
        Pairs of features and the strength of their interaction, percent of all pairs', falling.
    missing : tuple of str
        What could not be told, and why.
    """

    n_trees: int
    importance: tuple[tuple[str, float], ...]
    interactions: tuple[tuple[str, str, float], ...]
    missing: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the figures as a JSON object."""
        return {
            "n_trees": self.n_trees,
            "importance": dict(self.importance),
            "interactions": [{"features": [a, b], "strength": strength} for a, b, strength in self.interactions],
            "missing": list(self.missing),
        }
