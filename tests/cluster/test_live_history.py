"""A shopper's score follows what the shop sends, through the real service."""

from __future__ import annotations

import asyncio
import uuid

import httpx
import numpy as np
import orjson
import pytest

from tests.testing_kit.cluster.service_process import ROW, wait_for

pytestmark = pytest.mark.cluster


def shopper() -> dict:
    return {**ROW, "user_id": uuid.uuid4().hex, "session_id": "s-1"}


def to_event(row: dict, **changes) -> dict:
    event = {name: row[name] for name in ("product_id", "category_id", "price", "user_id")}
    return event | {"event_type": "view", "user_session": row["session_id"]} | changes


def send(service, events, **headers: str) -> dict:
    answer = httpx.post(f"{service.url}/v1/events", json=events, headers=headers, timeout=30)
    assert answer.status_code == 202, answer.text
    return answer.json()


def detail(service, row: dict) -> dict:
    return service.predict(row, params={"detail": "true"}).json()


def test_four_calls_show_a_score_that_follows_the_shopper(service):
    row = shopper()
    first = detail(service, row)
    assert first["history"] == {"status": "new"}
    assert send(service, to_event(row, event_id=f"{row['user_id']}-1", price=5.0))["recorded"] == 1
    purchase = to_event(row, event_id=f"{row['user_id']}-2", event_type="purchase", product_id="2", price=900.0)
    assert send(service, [purchase])["recorded"] == 1
    after = detail(service, row)
    assert after["history"] == {"status": "found"}
    assert after["purchase_probability"] != first["purchase_probability"]
    shown = {name: after["features"][name]["value"] for name in ("total_events_x", "max_price", "total_purchases")}
    assert shown == {"total_events_x": 3, "max_price": 900, "total_purchases": 1}
    assert after["features"]["max_price"]["source"] == "state"


def test_an_observed_row_counts_once_and_tables_see_it(service):
    row = shopper()
    answers = [service.predict({**row, "observe": True, "event_id": f"{row['user_id']}-{k % 2}"}) for k in range(4)]
    assert [a.headers["x-observed"] for a in answers] == ["recorded", "recorded", "duplicate", "duplicate"]
    assert send(service, to_event(row, event_id=f"{row['user_id']}-0"))["duplicate"] == 1
    found = detail(service, row)
    assert found["features"]["total_events_x"]["value"] == 3
    table = httpx.post(f"{service.url}/invocations", json={"dataframe_records": [row]}, timeout=30)
    assert table.json()["predictions"] == [found["purchase_probability"]]


def test_bulk_events_and_scores_side_by_side_lose_nothing(service):
    rows = [shopper() for _ in range(20)]

    async def run() -> list[float]:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:

            async def load(k: int) -> None:
                lines = [to_event(row, event_id=f"{row['user_id']}-{k}-{n}") for row in rows for n in range(10)]
                body = b"\n".join(map(orjson.dumps, lines))
                kind = {"content-type": "application/x-ndjson"}
                for _ in range(2):  # sent again: nothing counts twice
                    answer = await client.post("/v1/events", content=body, headers=kind)
                    assert answer.status_code == 202, answer.text

            async def score(row: dict) -> None:
                assert (await client.post("/predict_purchase", json=row)).status_code == 200

            await asyncio.gather(*(load(k) for k in range(5)), *(score(row) for row in rows for _ in range(10)))
            found = await asyncio.gather(*(client.post("/predict_purchase?detail=true", json=row) for row in rows))
            return [answer.json()["features"]["total_events_x"]["value"] for answer in found]

    np.testing.assert_array_equal(asyncio.run(run()), 51)


def test_what_became_of_events_and_look_ups_is_counted(service):
    row = shopper()
    detail(service, row)
    send(service, [to_event(row), to_event(row, price=0)])
    url = service.run("status", "--json").stdout
    metrics_url = orjson.loads(url)["metrics_url"]

    wanted = {
        ("ray_scorecat_events_total", 'kind="recorded"'),
        ("ray_scorecat_events_total", 'kind="dropped"'),
        ("ray_scorecat_history_rows_total", 'kind="new"'),
    }

    def find_counted() -> set[tuple[str, str]]:
        lines = httpx.get(metrics_url, timeout=10).text.splitlines()
        return {(name, label) for name, label in wanted for line in lines if line.startswith(name) and label in line}

    wait_for(lambda: find_counted() == wanted, 40, "the counts in Ray's metrics")
    assert find_counted() == wanted
