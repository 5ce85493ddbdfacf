"""A CatBoost model's trees, read from its own JSON form."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from catboost import CatBoost

from serve_app.models.catboost.facts import count_outputs
from serve_app.models.catboost.files import save_catboost
from serve_app.models.core.shap_tables import ObliviousTree, ShapTables, can_have_tables

Players = dict[int, tuple[int, ...]]
"""Positions of the features a split looks at, by the split's number."""


def read_json(model: CatBoost) -> dict[str, Any]:
    """Return the model in CatBoost's JSON form."""
    with tempfile.TemporaryDirectory(prefix="scorecat-model-") as folder:
        path = Path(folder) / "model.json"
        save_catboost(model, path, "json")
        content: dict[str, Any] = json.loads(path.read_bytes())
    return content


def build_shap_tables(model: CatBoost) -> ShapTables | None:
    """Build a model's tables, or return None when its trees are not oblivious, too large or without weights."""
    if not can_have_tables([int(n) for n in model.get_tree_leaf_counts()], count_outputs(model)):
        return None
    content = read_json(model)
    trees = content.get("oblivious_trees")
    if trees is None or not all(tree.get("leaf_weights") for tree in trees):
        return None
    players = _read_players(content["features_info"])
    scale, bias = content["scale_and_bias"]
    parsed = []
    for tree in trees:
        weights = np.array(tree["leaf_weights"], dtype=np.float64)
        values = np.array(tree["leaf_values"], dtype=np.float64).reshape(len(weights), -1)
        parsed.append(ObliviousTree(tuple(players[s["split_index"]] for s in tree["splits"] or ()), values, weights))
    return ShapTables(parsed, len(model.feature_names_), float(scale), np.atleast_1d(np.array(bias, dtype=np.float64)))


def _read_players(info: dict[str, Any]) -> Players:
    """Number the splits as CatBoost does: borders of numbers, then single categories, then statistics of categories."""
    numbers = info.get("float_features") or ()
    categories = info.get("categorical_features") or ()
    position_of = {f["feature_index"]: f["flat_feature_index"] for f in categories}
    found: list[tuple[int, ...]] = []
    for feature in numbers:
        found += [(feature["flat_feature_index"],)] * len(feature.get("borders") or ())
    for feature in categories:
        found += [(feature["flat_feature_index"],)] * len(feature.get("values") or ())
    for ctr in info.get("ctrs") or ():
        # Like CatBoost: a statistic of categories within a range of a number counts for the categories only.
        parts = [e["cat_feature_index"] for e in ctr["elements"] if e["combination_element"] == "cat_feature_value"]
        positions = {position_of[part] for part in parts}
        found += [tuple(sorted(positions))] * len(ctr["borders"])
    return dict(enumerate(found))
