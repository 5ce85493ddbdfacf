"""A small real CatBoost package of the purchase features, trained on made-up rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.specs import PURCHASE_FEATURES, PURCHASE_NAMES, UNKNOWN_CLASS, FeatureSpec, arrow_schema
from serve_app.models.adapters.package_dir import save_package
from serve_app.models.catboost.scorer import train_classifier
from serve_app.models.core.manifest import Manifest
from serve_app.models.service.packaging import build_package
from serve_app.stats.profile import profile_table

VOCABULARIES: dict[str, list[str]] = {
    "brand": ["apple", "samsung", "unknown", "xiaomi", UNKNOWN_CLASS],
    "category_code": ["appliances.kitchen", "electronics.smartphone", "other", UNKNOWN_CLASS],
}
_UNSEEN = {"brand": "nobrand", "category_code": "garden.gnome"}


def random_rows(
    n: int, seed: int = 0, *, null_share: float = 0.2, features: Sequence[FeatureSpec] = PURCHASE_FEATURES
) -> pa.RecordBatch:
    """Return n rows that the purchase encoder accepts; what may be null or unseen sometimes is."""
    rng = np.random.default_rng(seed)
    columns = []
    for spec in features:
        values: list[float | str | None]
        if spec.kind == "categorical":
            labels = [*VOCABULARIES[spec.name][:-1], _UNSEEN[spec.name]]
            values = [labels[i] for i in rng.integers(0, len(labels), n).tolist()]
        elif spec.integer:
            values = [float(v) for v in rng.integers(int(spec.minimum or 0), int(spec.maximum or 0) + 1, n).tolist()]
        elif spec.maximum is not None:
            values = [float(v) for v in rng.uniform(0, spec.maximum, n).tolist()]
        else:
            values = [float(v) for v in (rng.lognormal(3, 1.5, n) + 0.01).tolist()]
        if spec.on_null != "reject":
            missing = (rng.random(n) < null_share).tolist()
            values = [None if gone else value for value, gone in zip(values, missing, strict=True)]
        columns.append(pa.array(values, arrow_schema((spec,)).field(0).type))
    return pa.RecordBatch.from_arrays(columns, schema=arrow_schema(features))


def make_package(
    directory: Path, n_trees: int = 40, *, seed: int = 0, features: Sequence[FeatureSpec] = PURCHASE_FEATURES
) -> Manifest:
    """Train on 2,000 made-up rows and write a whole package; about half a second."""
    encoder = FeatureEncoder(features, VOCABULARIES)
    matrix = encoder.encode(random_rows(2_000, seed, features=features)).matrix
    rng = np.random.default_rng(seed)
    price, hour = matrix[:, PURCHASE_NAMES.index("price")], matrix[:, PURCHASE_NAMES.index("hour")]
    brand = matrix[:, PURCHASE_NAMES.index("brand")]
    odds = 1.5 * (brand == 0) + 1.0 * (hour > 12) - 0.6 * (np.log(price) - 3)
    target = (rng.random(len(matrix)) < 1 / (1 + np.exp(-odds))).astype(np.int8)
    model = train_classifier(
        (matrix[:1_600], target[:1_600]), (matrix[1_600:], target[1_600:]), PURCHASE_NAMES,
        iterations=n_trees, depth=4, learning_rate=0.2, random_seed=seed, thread_count=2,
    )  # fmt: skip
    reference = profile_table(matrix, model.predict(matrix), PURCHASE_NAMES, VOCABULARIES, UNKNOWN_CLASS)
    package = build_package(
        manifest=Manifest(
            "purchase",
            "2026-01-01T00:00:00Z",
            "binary",
            tuple(features),
            training={"seed": seed},
            libraries={"scorecat": "0.1.0"},
        ),
        model=model,
        vocabularies=VOCABULARIES,
        golden_rows=random_rows(64, seed + 1, features=features),
        reference=reference,
    )
    return save_package(directory, package)
