"""The expert's encoding and scoring of one row: no DataFrame, no pydantic, one thread for CatBoost.

`numpy_app` and the apps under other frameworks share it, so that they differ in how they serve only.
``BENCH_PACKAGE`` names the package directory.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import orjson
from catboost import CatBoostClassifier

PACKAGE = Path(os.environ["BENCH_PACKAGE"])
FEATURES = orjson.loads((PACKAGE / "manifest.json").read_bytes())["features"]
CODES = {
    column: {label: float(code) for code, label in enumerate(classes)}
    for column, classes in orjson.loads((PACKAGE / "vocabularies.json").read_bytes()).items()
}
PRICE = next(i for i, feature in enumerate(FEATURES) if feature["name"] == "price")

REQUIRED = [
    (i, f["name"])
    for i, f in enumerate(FEATURES)
    if f["kind"] == "numeric" and f.get("on_null", "reject") == "reject" and i != PRICE
]
OPTIONAL = [
    (i, f["name"], f.get("fill"))
    for i, f in enumerate(FEATURES)
    if f["kind"] == "numeric" and f.get("on_null", "reject") != "reject"
]
CATEGORIES = [
    (i, f["name"], f["fill"], CODES[f["name"]], CODES[f["name"]]["__unknown__"])
    for i, f in enumerate(FEATURES)
    if f["kind"] == "categorical"
]

model = CatBoostClassifier()
model.load_model(str(PACKAGE / "model.cbm"))


def encode(row: dict) -> list[float]:
    """Return the features of a row in the model's order; ValueError, TypeError or KeyError when it is a bad one."""
    values = [0.0] * len(FEATURES)
    values[PRICE] = price = float(row["price"])
    if not 0.0 < price < float("inf"):
        raise ValueError("price")
    for i, name in REQUIRED:
        values[i] = row[name]
    for i, name, default in OPTIONAL:
        value = row.get(name)
        if value is None:
            value = price if default is None else default
        values[i] = value
    for i, name, default, codes, unknown in CATEGORIES:
        label = row.get(name)
        values[i] = codes.get(default if label is None else label, unknown)
    return values


def predict(rows: list[list[float]]) -> list[float]:
    """Return the probability of each encoded row."""
    return model.predict_proba(np.array(rows, dtype=np.float32), thread_count=1)[:, 1].tolist()


def describe(user_id: str, probability: float) -> dict:
    """Return the answer."""
    recommendation = "high" if probability > 0.7 else "medium" if probability >= 0.5 else "low"
    return {"user_id": user_id, "purchase_probability": probability, "recommendation": recommendation}
