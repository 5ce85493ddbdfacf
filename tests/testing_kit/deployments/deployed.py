"""``deployed_model.pkl`` files the way notebooks write them, and rows for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from catboost import CatBoostClassifier
from sklearn.preprocessing import LabelEncoder

from serve_app.features.core.specs import PURCHASE_FEATURES, PURCHASE_NAMES, UNKNOWN_CLASS, arrow_schema
from tests.testing_kit.models.package import VOCABULARIES, random_rows

CATEGORIES = ("brand", "category_code")
FILLS = {"brand": "unknown", "category_code": "other"}


@dataclass(frozen=True)
class Deployed:
    """The dict, and its author's own way of scoring."""

    document: dict[str, Any]

    def scores(self, rows: pd.DataFrame) -> np.ndarray:
        frame = encode_like_the_notebook(rows, self.document["label_encoders"])
        return self.document["model"].predict_proba(frame[self.document["feature_names"]])[:, 1]


def encode_like_the_notebook(rows: pd.DataFrame, encoders: dict[str, LabelEncoder]) -> pd.DataFrame:
    frame = rows.copy()
    for name, encoder in encoders.items():
        known = set(encoder.classes_)
        labels = frame[name].fillna(FILLS[name])
        if UNKNOWN_CLASS in known:
            labels = labels.where(labels.isin(known), UNKNOWN_CLASS)
        frame[name] = [list(encoder.classes_).index(label) for label in labels]
    return frame


def complete_rows(n: int, seed: int = 0) -> pd.DataFrame:
    """Rows of the 22 features with every number there; brands and categories may be null or unseen."""
    frame = random_rows(n, seed, null_share=0.0).to_pandas()
    gone = np.random.default_rng(seed).random(n) < 0.1
    frame["brand"] = frame["brand"].where(~gone, None)
    return frame


def to_batch(rows: pd.DataFrame) -> pa.RecordBatch:
    schema = arrow_schema(PURCHASE_FEATURES)
    table = pa.Table.from_pandas(rows[list(schema.names)], schema=schema, preserve_index=False)
    return table.combine_chunks().to_batches()[0]


def train_deployed(
    *, native: bool = True, unknown: bool = True, n_trees: int = 30, order: Sequence[str] = PURCHASE_NAMES, **extra: Any
) -> Deployed:
    encoders = {}
    for name in CATEGORIES:
        encoder = LabelEncoder().fit(VOCABULARIES[name][:-1])
        if unknown:
            encoder.classes_ = np.append(encoder.classes_, UNKNOWN_CLASS)
        encoders[name] = encoder
    rows = complete_rows(3_000, seed=3)
    if not unknown:
        known = rows.brand.isna() | rows.brand.isin(VOCABULARIES["brand"])
        rows = rows[known & rows.category_code.isin(VOCABULARIES["category_code"])]
    frame = encode_like_the_notebook(rows, encoders)
    target = (frame.price > 20) ^ (frame.brand == 1) ^ (frame.hour > 12)
    model = CatBoostClassifier(
        iterations=n_trees, depth=4, random_seed=0, verbose=0, allow_writing_files=False, thread_count=2
    )
    model.fit(frame[list(order)], target.astype(int), cat_features=list(CATEGORIES) if native else None)
    return Deployed(
        {
            "model": model,
            "label_encoders": encoders,
            "feature_names": list(order),
            "categorical_features": list(CATEGORIES),
            "model_metadata": {"model_type": "CatBoostClassifier", "trained_by": "a notebook"},
            "metrics": {"roc_auc": np.float64(0.75), "n": np.int64(3_000)},
            **extra,
        }
    )
