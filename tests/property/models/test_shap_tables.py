"""Tables give the Shapley values that their definition gives, feature by feature, set by set."""

from __future__ import annotations

from itertools import combinations
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.models.core.shap_tables import ObliviousTree, ShapTables

pytestmark = pytest.mark.property

N_FEATURES = 4


@st.composite
def trees(draw):
    depth, k = draw(st.integers(0, 4)), 2
    players = tuple(
        tuple(sorted(draw(st.sets(st.integers(0, N_FEATURES - 1), min_size=1, max_size=2)))) for _ in range(depth)
    )
    values = draw(st.lists(st.floats(-9, 9), min_size=k << depth, max_size=k << depth))
    weights = draw(st.lists(st.integers(0, 9).map(float), min_size=1 << depth, max_size=1 << depth))
    return ObliviousTree(players, np.array(values).reshape(-1, k), np.array(weights))


def expectation(tree, known, leaf, level=None, prefix=0):
    """Walk down from the highest level: the row's way where its player is known, the rows' mean elsewhere."""
    level = len(tree.players) - 1 if level is None else level
    if level < 0:
        return tree.values[prefix]
    children = [prefix | bit << level for bit in (0, 1)]
    below = [expectation(tree, known, leaf, level - 1, child) for child in children]
    if tree.players[level] in known:
        return below[leaf >> level & 1]
    weights = [tree.weights[child : child + (1 << level)].sum() for child in children]
    shares = [w / sum(weights) for w in weights] if sum(weights) else [0.5, 0.5]
    return shares[0] * below[0] + shares[1] * below[1]


def shapley(tree, leaf):
    out = np.zeros((2, N_FEATURES + 1))
    players = sorted(set(tree.players))
    out[:, -1] = expectation(tree, set(), leaf)
    for player in players:
        others = [p for p in players if p != player]
        for size in range(len(others) + 1):
            factor = factorial(size) * factorial(len(others) - size) / factorial(len(players))
            for known in map(set, combinations(others, size)):
                added = expectation(tree, known | {player}, leaf) - expectation(tree, known, leaf)
                for feature in player:
                    out[:, feature] += factor * added / len(player)
    return out


@settings(max_examples=60, deadline=None)
@given(st.lists(trees(), min_size=1, max_size=4), st.data())
def test_tables_give_the_shapley_values_of_their_definition(forest, data):
    leaves = [[data.draw(st.integers(0, len(tree.weights) - 1)) for tree in forest] for _ in range(3)]
    scale, bias = 0.5, np.array([1.0, -2.0])
    found = ShapTables(forest, N_FEATURES, scale, bias).explain(np.array(leaves))
    for row, at in enumerate(leaves):
        expected = scale * sum(shapley(tree, leaf) for tree, leaf in zip(forest, at, strict=True))
        expected[:, -1] += bias
        np.testing.assert_allclose(found[row], expected, rtol=0, atol=1e-11)
        score = scale * sum(tree.values[leaf] for tree, leaf in zip(forest, at, strict=True)) + bias
        np.testing.assert_allclose(found[row].sum(axis=1), score, rtol=0, atol=1e-11)
