"""Parquet files of many rows that carry every feature, for `benchmarks.batch`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FILE_ROWS = 1_000_000
POOL = 250_000
"""Different session ids; a session of the real log has about five events."""


def write_files(package_dir: Path, folder: Path, n_rows: int) -> list[Path]:
    """Write files of at most a million rows: the columns of a shop's log, then the 22 features."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabularies = json.loads((package_dir / "vocabularies.json").read_bytes())
    sessions = pa.array([f"{k:08x}-8bb3-4e00-8c23-a032dfed738c" for k in range(POOL)])
    paths = []
    for number, start in enumerate(range(0, n_rows, FILE_ROWS)):
        path = folder / f"rows-{number:04d}.parquet"
        if not path.exists():
            table = make_table(vocabularies, sessions, min(FILE_ROWS, n_rows - start), number)
            pq.write_table(table, path.with_suffix(".partial"), row_group_size=1 << 18)
            path.with_suffix(".partial").rename(path)
        paths.append(path)
    return paths


def make_table(vocabularies: dict[str, list[str]], sessions: pa.Array, n: int, seed: int) -> pa.Table:
    """Return n rows; 2 % of the brands are null and 2 % of them unseen, as in `benchmarks.rows`."""
    random = np.random.default_rng(seed)
    labels = {name: pa.array([c for c in classes if c != "__unknown__"]) for name, classes in vocabularies.items()}
    at = np.sort(random.integers(0, POOL, n))
    price = np.round(np.exp(random.normal(4.5, 1.3, n)) + 0.5, 2)
    day, odd = random.integers(0, 7, n), random.random(n)
    events = random.integers(1, 30, n)
    sessions_of_user, buys = random.integers(1, 12, n), random.integers(0, 3, n)
    brand = labels["brand"].take(pa.array(random.integers(0, len(labels["brand"]), n)))
    brand = pa.compute.if_else(pa.array(odd < 0.02), "never-seen", brand)
    brand = pa.compute.if_else(pa.array(odd > 0.98), pa.scalar(None, pa.string()), brand)
    category = labels["category_code"].take(pa.array(random.integers(0, len(labels["category_code"]), n)))

    def times_price() -> np.ndarray:
        return (price * random.uniform(0.5, 3.0, n)).astype(np.float32)

    def minutes() -> np.ndarray:
        return (random.integers(0, 3600, n) / 60).astype(np.float32)

    numbers = {
        "price": price,
        "hour": random.integers(0, 24, n).astype(np.int8),
        "day_of_week": day.astype(np.int8),
        "is_weekend": (day >= 5).astype(np.int8),
        "total_events_x": events.astype(np.int32),
        "unique_products": np.minimum(events, random.integers(1, 12, n)).astype(np.int32),
        "unique_categories": np.minimum(events, random.integers(1, 5, n)).astype(np.int32),
        "avg_price": times_price(),
        "max_price": times_price(),
        "total_price_viewed": times_price() * events.astype(np.float32),
        "session_duration": minutes(),
        "avg_events_per_session": (events / sessions_of_user).astype(np.float32),
        "total_events_y": (events * sessions_of_user).astype(np.int32),
        "avg_products_per_session": (random.integers(1, 40, n) / sessions_of_user).astype(np.float32),
        "total_products_viewed": random.integers(1, 60, n).astype(np.int32),
        "avg_session_duration": minutes(),
        "total_purchases": np.minimum(buys, sessions_of_user).astype(np.int32),
        "total_sessions": sessions_of_user.astype(np.int32),
        "avg_price_viewed": times_price(),
        "conversion_rate": (np.minimum(buys, sessions_of_user) / sessions_of_user).astype(np.float32),
    }
    return pa.table(
        {
            "event_time": pa.array(1_570_000_000 + seed * 86_400 + np.sort(random.integers(0, 86_400, n))).cast(
                pa.timestamp("s", "UTC")
            ),
            "user_id": pa.array(512_000_000 + at * 37),
            "user_session": sessions.take(pa.array(at)),
            "product_id": pa.array(1_000_000 + random.integers(0, 60_000, n)),
            **{name: pa.array(values) for name, values in numbers.items()},
            "brand": brand,
            "category_code": category,
        }
    )
