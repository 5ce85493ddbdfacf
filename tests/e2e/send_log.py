"""Run as a script: send the view and cart rows of an event log as requests, print counts by status.

Arguments: CSV file, service URL.
"""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import httpx

N_CONNECTIONS = 32


def make_row(event: dict[str, str]) -> dict[str, object]:
    at = datetime.strptime(event["event_time"], "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    return {
        "user_id": event["user_id"],
        "session_id": event["user_session"],
        "product_id": event["product_id"],
        "category_code": event["category_code"] or None,
        "brand": event["brand"] or None,
        "price": float(event["price"]),
        "hour": at.hour,
        "day_of_week": at.weekday(),
        "is_weekend": int(at.weekday() >= 5),
        "event_time": event["event_time"],
    }


def read_rows(path: Path) -> list[dict[str, object]]:
    with path.open(newline="") as file:
        return [make_row(e) for e in csv.DictReader(file) if e["event_type"] in {"view", "cart"}]


async def send(path: str, url: str) -> Counter[str]:
    rows = iter(read_rows(Path(path)))
    counts: Counter[str] = Counter()

    async def work(client: httpx.AsyncClient) -> None:
        for row in rows:
            answer = await client.post(f"{url}/predict_purchase", json=row)
            counts[str(answer.status_code)] += 1

    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=N_CONNECTIONS), timeout=30) as client:
        await asyncio.gather(*(work(client) for _ in range(N_CONNECTIONS)))
    return counts


print(json.dumps(dict(asyncio.run(send(sys.argv[1], sys.argv[2])))))
