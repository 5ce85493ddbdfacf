"""The service that `tests.real_clients` started, rows, and what it answers for them sent as plain JSON."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Row = dict[str, Any]
TEXTS = {
    "brand": ("samsung", "apple", "xiaomi", "", "nobody's", "Ünsinn 電"),
    "category_code": ("electronics.smartphone", "appliances.kitchen", "other", "garden.gnome"),
}
COUNTS = ("total_events_x", "unique_products", "unique_categories", "total_events_y", "total_products_viewed")
COUNTS += ("total_purchases", "total_sessions")
AMOUNTS = ("avg_price", "max_price", "total_price_viewed", "session_duration", "avg_events_per_session")
AMOUNTS += ("avg_products_per_session", "avg_session_duration", "avg_price_viewed")


@pytest.fixture(scope="session")
def service_url() -> str:
    """Where the service answers."""
    return os.environ["SERVICE_URL"]


def make_rows(n: int, *, null_share: float) -> list[Row]:
    """Return rows of the purchase model's features; those that may be missing sometimes are."""
    rng = random.Random(17)
    rows = []
    for _ in range(n):
        known: Row = {name: rng.choice(values) for name, values in TEXTS.items()}
        known |= {name: rng.randrange(1, 50) for name in COUNTS}
        known |= {name: round(rng.lognormvariate(3, 1), 2) for name in AMOUNTS} | {"conversion_rate": rng.random()}
        row = {"price": rng.lognormvariate(3, 1), "hour": rng.randrange(24), "day_of_week": rng.randrange(7)}
        row["is_weekend"] = int(row["day_of_week"] > 4)
        rows.append(row | {name: None if rng.random() < null_share else value for name, value in known.items()})
    return rows


@pytest.fixture(scope="session")
def rows() -> list[Row]:
    """Rows with missing values."""
    return make_rows(300, null_share=0.2)


@pytest.fixture(scope="session")
def whole_rows() -> list[Row]:
    """Rows without."""
    return make_rows(300, null_share=0.0)


@pytest.fixture(scope="session")
def send(service_url: str) -> Callable[..., httpx.Response]:
    """Send a body to `/invocations`, or elsewhere."""

    def send(body: bytes, media: str, path: str = "/invocations", **headers: str) -> httpx.Response:
        answer = httpx.post(service_url + path, content=body, headers={"Content-Type": media, **headers}, timeout=60)
        assert answer.is_success, (answer.status_code, answer.text)
        return answer

    return send


@pytest.fixture(scope="session")
def plain(service_url: str) -> Callable[[list[Row]], list[float]]:
    """Return what the service answers for rows as plain JSON."""

    def plain(rows: list[Row]) -> list[float]:
        answer = httpx.post(f"{service_url}/invocations", json={"dataframe_records": rows}, timeout=60)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert "errors" not in body
        return body["predictions"]

    return plain


@pytest.fixture(scope="session")
def expected(plain: Callable[[list[Row]], list[float]], rows: list[Row]) -> list[float]:
    """The answers for `rows`."""
    return plain(rows)


@pytest.fixture(scope="session")
def expected_whole(plain: Callable[[list[Row]], list[float]], whole_rows: list[Row]) -> list[float]:
    """The answers for `whole_rows`."""
    return plain(whole_rows)


@pytest.fixture
def score(tmp_path: Path) -> Callable[[Path], pa.Table]:
    """Run ``scorecat score`` on a folder and return the table it wrote."""

    def score(folder: Path) -> pa.Table:
        command = [os.environ["SCORECAT"], "score", str(folder), str(tmp_path / "scores")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        return pa.concat_tables(pq.read_table(path) for path in sorted((tmp_path / "scores").glob("part-*.parquet")))

    return score
