"""Many different rows, and the answers a package gives them, computed in this process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.specs import HISTORY_NAMES, PURCHASE_FEATURES, arrow_schema
from serve_app.models.adapters.package_dir import load_package
from serve_app.models.catboost.scorer import CatBoostScorer
from serve_app.models.service.ports import Package

HISTORY_SHARE = 1 / 3
"""Share of the rows that bring all 16 history features; the others take the defaults."""
STRANGE_SHARE = 0.02
"""Share of the rows with a brand the model never saw, and as many without one."""


def make_bodies(package_dir: Path, n: int, seed: int = 0, history_share: float = HISTORY_SHARE) -> list[dict]:
    """Return `n` request bodies, shopper ids and all, over the package's own brands and categories."""
    random = np.random.default_rng(seed)
    vocabularies = json.loads((package_dir / "vocabularies.json").read_bytes())
    brands, categories = (
        random.choice([c for c in vocabularies[name] if c != "__unknown__"], n).tolist()
        for name in ("brand", "category_code")
    )
    odd = random.random(n)
    bodies = []
    for k, price in enumerate(np.round(np.exp(random.normal(4.5, 1.3, n)) + 0.5, 2).tolist()):
        day = int(random.integers(7))
        body = {
            "user_id": str(512_000_000 + k * 37),
            "session_id": f"{k:08x}-8bb3-4e00-8c23-a032dfed738c",
            "product_id": str(1_000_000 + int(random.integers(60_000))),
            "category_code": None if odd[k] > 1 - 2 * STRANGE_SHARE else categories[k],
            "brand": "never-seen" if odd[k] < STRANGE_SHARE else None if odd[k] < 2 * STRANGE_SHARE else brands[k],
            "price": price,
            "hour": int(random.integers(24)),
            "day_of_week": day,
            "is_weekend": int(day >= 5),
        }
        bodies.append(body | _make_history(random, price) if random.random() < history_share else body)
    return bodies


def _make_history(random: np.random.Generator, price: float) -> dict[str, float]:
    history = dict.fromkeys(HISTORY_NAMES, 0.0)
    for name in HISTORY_NAMES:
        if "price" in name:
            history[name] = round(price * float(random.uniform(0.5, 3.0)), 2)
        elif "duration" in name:
            history[name] = round(float(random.exponential(8.0)), 2)
        else:
            history[name] = float(random.integers(1, 30))
    history["total_purchases"] = float(random.integers(0, 3))
    history["conversion_rate"] = round(float(random.random()), 3)
    return history


def make_batch(bodies: list[dict]) -> pa.RecordBatch:
    """Return the features of the bodies as a record batch."""
    schema = arrow_schema(PURCHASE_FEATURES)
    columns = [pa.array([body.get(field.name) for body in bodies], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def expect_answers(package_dir: Path, bodies: list[dict]) -> list[dict]:
    """Return the exact answers to `POST /predict_purchase`."""
    package = load_package(package_dir, CatBoostScorer.load)
    matrix = _encode(package, bodies)
    return [
        {
            "user_id": body["user_id"],
            "purchase_probability": probability,
            "recommendation": package.manifest.thresholds.recommend(probability),
        }
        for body, probability in zip(bodies, package.model.predict(matrix).tolist(), strict=True)
    ]


def encode_bodies(package_dir: Path, bodies: list[dict]) -> list[list[float]]:
    """Return the encoded features of each body, as the model takes them."""
    return _encode(load_package(package_dir, CatBoostScorer.load), bodies).tolist()


def _encode(package: Package, bodies: list[dict]) -> np.ndarray:
    encoded = FeatureEncoder(package.manifest.features, package.vocabularies).encode(make_batch(bodies))
    if encoded.errors:
        raise ValueError(f"a generated row breaks a rule: {encoded.errors[0]}")
    return encoded.matrix


def save_rows(package_dir: Path, bodies: list[dict], path: Path, complete: list[dict] | None = None) -> None:
    """Write bodies with their answers, or those of `complete` ones, where `benchmarks.load` reads them."""
    answers = expect_answers(package_dir, complete or bodies)
    path.write_text(json.dumps([{"body": b, "answer": a} for b, a in zip(bodies, answers, strict=True)]))
