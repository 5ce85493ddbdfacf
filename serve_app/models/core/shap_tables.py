"""SHAP values of oblivious trees by look-up: what each feature adds in each leaf is computed once.

All rows in one leaf of an oblivious tree took the same way at every split, so they share their SHAP
values of that tree. There are few leaves (64 at depth 6), so a table of them makes an explanation a
sum of look-ups: 2.5 ms for 64 rows of 1,000 trees, where CatBoost needs 17 ms for each row, or 1 s
beforehand in every call (`python -m benchmarks.models`).

References
----------
Lundberg, Erion, Lee (2018), "Consistent individualized feature attribution for tree ensembles":
path-dependent expectations, as in CatBoost's ``shap_calc_type="Regular"``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from math import factorial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

CHUNK_VALUES: Final = 4_000_000
"""Values held at once while tables are built or rows explained (32 MB, some of them twice)."""
MAX_TREE_VALUES: Final = 1 << 24
"""Values that one tree of depth d and k outputs may cost, 4**d * k: depth 12 at one output, 134 MB for a moment."""
MAX_VALUES: Final = 1 << 28
"""Values that all trees may cost, some 10 s on one core: 65,000 trees of depth 6, 1,000 of depth 9, 256 of depth 10."""


@dataclass(frozen=True, slots=True)
class ObliviousTree:
    """One tree whose levels each have one split.

    Attributes
    ----------
    players : tuple of tuple of int
        For each split, lowest bit of the leaf's index first, the positions of the features it looks
        at: one, or several for a combination of categories. A combination's share is divided equally.
    values : ndarray of float64, shape (2**depth, k)
        Leaf values of k outputs.
    weights : ndarray of float64, shape (2**depth,)
        Training rows in each leaf.
    """

    players: tuple[tuple[int, ...], ...]
    values: NDArray[np.float64]
    weights: NDArray[np.float64]


def can_have_tables(n_leaves: Sequence[int], n_outputs: int) -> bool:
    """Return whether tables of trees with so many leaves each can be built in the time before a replica is ready."""
    costs = [n * n * n_outputs for n in n_leaves]
    return max(costs, default=0) <= MAX_TREE_VALUES and sum(costs) <= MAX_VALUES


class ShapTables:
    """What each feature adds in each leaf of a model.

    Parameters
    ----------
    trees : sequence of ObliviousTree
    n_features : int
    scale : float
        Factor on the sum of the trees.
    bias : ndarray of float64, shape (k,)
        Added to the scaled sum.
    """

    def __init__(
        self, trees: Sequence[ObliviousTree], n_features: int, scale: float, bias: NDArray[np.float64]
    ) -> None:
        self.n_outputs = len(bias)
        self.n_features = n_features
        sizes = [len(tree.weights) for tree in trees]
        self._offsets = np.cumsum([0, *sizes[:-1]])
        self._n_leaves = sum(sizes)
        self._bias = np.array(bias, dtype=np.float64)
        rows, columns, values = [], [], []
        for at, tree, found in _explain_trees(trees):
            self._bias += scale * found[0, 0]
            players = list(dict.fromkeys(tree.players))
            leaves = self._offsets[at] + np.arange(sizes[at])
            for player, added in zip(players, found[1:], strict=True):
                for feature in player:
                    for k in range(self.n_outputs):
                        rows.append(leaves)
                        columns.append(np.full(len(leaves), k * n_features + feature))
                        values.append(added[:, k] * (scale / len(player)))
        shape = (self._n_leaves, self.n_outputs * n_features)
        parts = [np.concatenate(part) if part else np.empty(0) for part in (values, rows, columns)]
        self._table = sparse.csr_array((parts[0], (parts[1], parts[2])), shape=shape)

    def explain(self, leaves: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return SHAP values of rows by their leaves.

        Parameters
        ----------
        leaves : ndarray of int, shape (n, n_trees)
            For each row its leaf in each tree.

        Returns
        -------
        ndarray of float64, shape (n, k, n_features + 1)
            The last column is the bias.
        """
        out = np.empty((len(leaves), self.n_outputs, self.n_features + 1))
        out[:, :, -1] = self._bias
        step = max(1, CHUNK_VALUES // max(1, leaves.shape[1]))
        for start in range(0, len(leaves), step):
            part = out[start : start + step, :, :-1]
            part[:] = self._sum_up(leaves[start : start + step]).reshape(part.shape)
        return out

    def _sum_up(self, leaves: NDArray[np.integer]) -> NDArray[np.float64]:
        n, n_trees = leaves.shape
        picked = sparse.csr_array(
            (np.ones(n * n_trees), (leaves + self._offsets).ravel(), np.arange(n + 1) * n_trees),
            shape=(n, self._n_leaves),
        )
        return np.asarray((picked @ self._table).toarray())


def _explain_trees(trees: Sequence[ObliviousTree]) -> Iterator[tuple[int, ObliviousTree, NDArray[np.float64]]]:
    """Yield (position, tree, values (1 + players, leaves, k)); the first value is the mean, then one a player."""
    by_depth = sorted(range(len(trees)), key=lambda at: (len(trees[at].players), at))
    for depth, group in groupby(by_depth, key=lambda at: len(trees[at].players)):
        positions = list(group)
        step = max(1, CHUNK_VALUES // (4**depth * trees[positions[0]].values.shape[1]))
        for start in range(0, len(positions), step):
            part = positions[start : start + step]
            expected = _expectations(
                np.stack([trees[at].values for at in part]), np.stack([trees[at].weights for at in part]), depth
            )
            for at, values in zip(part, expected, strict=True):
                # Players are numbered in order of appearance: trees of one pattern share their factors.
                numbers = {player: i for i, player in enumerate(dict.fromkeys(trees[at].players))}
                factors = _shapley_factors(tuple(numbers[player] for player in trees[at].players))
                yield at, trees[at], np.tensordot(factors, values, axes=1)


def _expectations(values: NDArray[np.float64], weights: NDArray[np.float64], depth: int) -> NDArray[np.float64]:
    """Return what trees say on average when only some levels are known.

    Parameters
    ----------
    values : ndarray, shape (t, leaves, k)
    weights : ndarray, shape (t, leaves)
    depth : int

    Returns
    -------
    ndarray of float64, shape (t, 2**depth, leaves, k)
        By the set of known levels (bit d is level d) and the leaf that the row is in.
    """
    t, n_leaves, k = values.shape
    found = values[:, None]
    for level in range(depth):
        # Split off this level's bit of the leaf: (t, sets, higher bits, bit, lower bits, k).
        parts = found.reshape(t, -1, n_leaves >> (level + 1), 2, 1 << level, k)
        rows = weights.reshape(t, n_leaves >> (level + 1), 2, 1 << level).sum(axis=3)
        total = rows.sum(axis=2, keepdims=True)
        share = np.divide(rows, total, out=np.full_like(rows, 0.5), where=total > 0)[:, None, :, :, None, None]
        mean = np.broadcast_to((parts * share).sum(axis=3, keepdims=True), parts.shape)
        found = np.concatenate([mean, parts], axis=1).reshape(t, -1, n_leaves, k)
    return found


@lru_cache(maxsize=4096)
def _shapley_factors(levels: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the factors (1 + players, 2**depth) from expectations to the mean and each player's value.

    `levels` holds for each level the number of its player; levels of one player are known together.
    """
    n_players = max(levels, default=-1) + 1
    masks = [sum(1 << d for d, player in enumerate(levels) if player == p) for p in range(n_players)]
    factors = np.zeros((1 + n_players, 1 << len(levels)))
    factors[0, 0] = 1.0
    for known in range(1 << n_players):
        mask = sum(masks[p] for p in range(n_players) if known >> p & 1)
        n_known = known.bit_count()
        for p in range(n_players):
            if not known >> p & 1:
                factor = factorial(n_known) * factorial(n_players - n_known - 1) / factorial(n_players)
                factors[1 + p, mask | masks[p]] += factor
                factors[1 + p, mask] -= factor
    return factors
