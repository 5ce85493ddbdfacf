"""Whether a CatBoost model's parts fit together; CatBoost does not look when it loads one.

Run in the process that tries a model first (`serve_app.models.untrusted.model_trial`): reading a damaged model can
end it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from catboost import CatBoost, CatBoostError

from serve_app.errors import InvalidDataError


def check_structure(model: CatBoost) -> None:
    """Check that trees, leaves and weights have each other's sizes, and that no sum of leaves is infinite.

    Raises
    ------
    InvalidDataError
        A row could reach a leaf that is not there, or the score of one could be infinite.

    Notes
    -----
    The weights of leaves are checked for models of one output; CatBoost gives no access to those of others.
    """
    scale, bias = model.get_scale_and_bias()
    biases = np.atleast_1d(np.asarray(bias, dtype=np.float64))
    values = np.asarray(model.get_leaf_values(), dtype=np.float64)
    counts = [int(n) for n in model.get_tree_leaf_counts()]
    if not counts:
        raise InvalidDataError("it has no trees")
    if len(values) != sum(counts) * len(biases):
        raise InvalidDataError(f"damaged: {len(values)} leaf values for {sum(counts)} leaves of {len(biases)} outputs")
    try:
        _check_trees(model, counts)
    except CatBoostError as exc:
        raise InvalidDataError(f"damaged: {exc}") from exc
    if len(biases) == 1:
        _check_weights(model)
    with np.errstate(over="ignore"):
        largest = np.abs(values).sum() * abs(scale) + np.abs(biases).max()
    if not np.isfinite(largest):
        raise InvalidDataError("its leaf values, scale or bias are not finite, or add up to an infinite score")


def _check_trees(model: CatBoost, counts: list[int]) -> None:
    if model._object._is_oblivious():  # noqa: SLF001
        _check_last(model, counts[-1])
    else:
        for at, n_leaves in enumerate(counts):
            _check_nodes(model, at, n_leaves)


def _check_last(model: CatBoost, n_leaves: int) -> None:
    """Check the last oblivious tree: CatBoost counts the leaves of those before it by their depth."""
    last = model.copy()
    last.shrink(ntree_start=model.tree_count_ - 1, ntree_end=model.tree_count_)
    trees: Any = last._object  # noqa: SLF001
    trees._convert_oblivious_to_asymmetric()  # noqa: SLF001
    n_needed = (len(trees._get_tree_step_nodes(0)) + 1) // 2  # noqa: SLF001
    if n_leaves != n_needed:
        raise InvalidDataError(f"damaged: its last tree has {n_leaves} leaves and splits for {n_needed}")


def _check_nodes(model: CatBoost, at: int, n_leaves: int) -> None:
    trees: Any = model._object  # noqa: SLF001  (what CatBoost's own plot_tree reads)
    steps, leaves = trees._get_tree_step_nodes(at), trees._get_tree_node_to_leaf(at)  # noqa: SLF001
    for node, children in enumerate(steps):
        for step in children:
            if node + step >= len(steps) or (step == 0 and leaves[node] >= n_leaves):
                raise InvalidDataError(f"damaged: node {node} of tree {at} leads out of the tree")


def _check_weights(model: CatBoost) -> None:
    try:
        weights = np.asarray(model.get_leaf_weights(), dtype=np.float64)
    except (AssertionError, IndexError) as exc:
        raise InvalidDataError("damaged: it has other numbers of leaf weights and of leaves") from exc
    if not np.all(np.isfinite(weights)) or np.any(weights < 0):
        raise InvalidDataError("damaged: a leaf's weight is negative or not finite")
