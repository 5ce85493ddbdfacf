"""Which categories a CatBoost model knows.

A model keeps no names of its native categories, only hashes: of single categories it splits at, and as
keys of the statistics it learned. The same hashes of any label can be had from a tiny model trained on
it, so that a vocabulary can be held against what the model knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from catboost import CatBoost, CatBoostClassifier

from serve_app.models.catboost.trees import read_json

_MAGIC: Final = 0x4906BA494954CB65
_MASK: Final = (1 << 64) - 1
_EMPTY: Final = _MASK
_ROWS: Final = 8


def read_borders(model: CatBoost) -> dict[int, tuple[float, ...]]:
    """Return the split points of numeric features by position, ascending."""
    return {int(at): tuple(map(float, borders)) for at, borders in model.get_borders().items()}


def read_known(model: CatBoost) -> dict[int, frozenset[int]]:
    """Return the hashes of the categories that a model knows, by the position of their feature.

    A feature that occurs in combinations only has none.
    """
    content = read_json(model)
    position_of = {}
    known: dict[int, set[int]] = {}
    for feature in content["features_info"].get("categorical_features") or ():
        position_of[feature["feature_index"]] = feature["flat_feature_index"]
        single = {_MAGIC * (_MAGIC * (value & _MASK)) & _MASK for value in feature.get("values") or ()}
        known[feature["flat_feature_index"]] = single
    for index, keys in _read_keys(content).items():
        known[position_of[index]] |= keys
    return {at: frozenset(keys) for at, keys in known.items()}


def hash_labels(labels: Sequence[str]) -> frozenset[int]:
    """Return the hashes that CatBoost gives these labels, and those of two more that it needs to be trained."""
    padded = [*labels, "\0one", "\0other"]  # a model needs something to tell apart
    rows = np.array([label for label in padded for _ in range(_ROWS)], dtype=object).reshape(-1, 1)
    target = np.repeat(np.arange(len(padded)) % 2, _ROWS)
    tiny = CatBoostClassifier(
        iterations=1, depth=1, max_ctr_complexity=1, one_hot_max_size=1, random_seed=0, thread_count=1,
        logging_level="Silent", allow_writing_files=False,
    )  # fmt: skip
    tiny.fit(rows, target, cat_features=[0])
    return frozenset().union(*_read_keys(read_json(tiny)).values())


def _read_keys(content: Mapping[str, Any]) -> dict[int, set[int]]:
    """Return the keys of all statistics of one category each, by the category's own number."""
    found: dict[int, set[int]] = {}
    for identifier, table in (content.get("ctr_data") or {}).items():
        elements = json.loads(identifier)["identifier"]
        if len(elements) == 1 and elements[0]["combination_element"] == "cat_feature_value":
            keys = {int(key) for key in table["hash_map"][:: table["hash_stride"]]} - {_EMPTY}
            found.setdefault(elements[0]["cat_feature_index"], set()).update(keys)
    return found
