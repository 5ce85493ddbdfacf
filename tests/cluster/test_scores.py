from __future__ import annotations

import asyncio
import json

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pytest

from serve_app.cluster.processes import find_processes
from serve_app.cluster.spec import load_spec
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.specs import PURCHASE_NAMES
from serve_app.models.adapters.package_dir import load_package
from serve_app.models.catboost.scorer import CatBoostScorer
from tests.testing_kit.cluster.service_process import ROW, wait_for

pytestmark = pytest.mark.cluster


def make_rows(n: int) -> list[dict]:
    """Rows of shoppers that no other test of this service has sent an event of."""
    rng = np.random.default_rng(7)
    rows = []
    for i in range(n):
        row = {
            **ROW,
            "user_id": f"scores-{i}",
            "price": round(float(rng.lognormal(5, 1)), 2),
            "hour": int(rng.integers(24)),
        }
        if i % 2:
            row |= {"total_events_x": float(rng.integers(1, 30)), "conversion_rate": float(rng.random())}
        row["brand"] = [None, "samsung", "never-seen"][i % 3]
        rows.append(row)
    return rows


def expected_probabilities(package_dir, rows: list[dict]) -> list[float]:
    """CatBoost itself, in this process, on the encoded rows."""
    package = load_package(package_dir, CatBoostScorer.load)
    batch = pa.RecordBatch.from_pylist([{n: row.get(n) for n in PURCHASE_NAMES} for row in rows])
    encoded = FeatureEncoder(package.manifest.features, package.vocabularies).encode(batch)
    assert not encoded.errors
    return package.model.classifier.predict_proba(encoded.matrix)[:, 1].tolist()


def test_single_requests_answer_what_catboost_says_to_the_last_bit(service, package_dir):
    rows = make_rows(20)
    answers = [service.predict(row).json()["purchase_probability"] for row in rows]
    assert answers == expected_probabilities(package_dir, rows)


def test_concurrent_requests_answer_what_catboost_says_to_the_last_bit(service, package_dir):
    rows = make_rows(600)

    async def send_all() -> list[float]:
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=64), timeout=30) as client:
            answers = await asyncio.gather(*(client.post(f"{service.url}/predict_purchase", json=row) for row in rows))
        for row, answer in zip(rows, answers, strict=True):
            assert answer.json()["user_id"] == row["user_id"]
        return [answer.json()["purchase_probability"] for answer in answers]

    assert asyncio.run(send_all()) == expected_probabilities(package_dir, rows)


def test_a_bad_row_among_concurrent_ones_fails_alone(service):
    rows = make_rows(60)
    for i in range(0, 60, 5):
        rows[i] = {**rows[i], "total_purchases": 1e39}  # finite as JSON, infinite as float32: only the encoder sees it

    async def send_all() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=30) as client:
            return await asyncio.gather(*(client.post(f"{service.url}/predict_purchase", json=row) for row in rows))

    answers = asyncio.run(send_all())
    assert [a.status_code for a in answers] == [422 if i % 5 == 0 else 200 for i in range(60)]
    assert answers[0].json()["errors"][0]["pointer"] == "/total_purchases"


def test_answers_carry_ids_version_and_reason(service):
    answer = service.predict(headers={"X-Request-Id": "shop-42"})
    assert answer.headers["x-request-id"] == "shop-42"
    assert answer.headers["x-model-version"] == "1"
    assert answer.headers["x-route-reason"]
    assert len(answer.headers["x-prediction-id"]) == 32
    assert set(answer.json()) == {"user_id", "purchase_probability", "recommendation"}


def test_the_access_log_names_request_version_and_status(service):
    service.predict(headers={"X-Request-Id": "logged-request"})

    def find_line() -> dict | None:
        for path in (service.home / "logs").glob("access-*.jsonl"):
            for line in path.read_text().splitlines():
                if '"logged-request"' in line:
                    return json.loads(line)
        return None

    line = wait_for(find_line, 5, "the access log line")
    assert (line["status"], line["version"], line["path"]) == (200, 1, "/predict_purchase")
    assert "541312140" not in json.dumps(line)


def test_nothing_listens_beyond_loopback(service):
    ours = {p.pid for p in find_processes(load_spec(service.home))}
    listening = [c.laddr.ip for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.pid in ours]
    assert len(listening) > 5
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}


def count_callers(process: psutil.Process, folder: str) -> int:
    """Connections that other processes have to a replica's socket; the listening one is not counted."""
    return sum(c.laddr.startswith(folder) for c in process.net_connections("unix")) - 1


def test_replicas_of_one_machine_are_called_over_their_sockets(service):
    spec = load_spec(service.home)
    folder = f"{spec.run_dir}/calls/"
    names = (":purchase-v1:Encoder", ":purchase-v1:CatBoostModel")
    replicas = [p for p in find_processes(spec) if " ".join(p.cmdline()).strip().endswith(names)]
    assert len(replicas) == 2

    def are_called() -> bool:
        service.predict()
        return all(count_callers(p, folder) >= 1 for p in replicas)

    wait_for(are_called, 10, "connections to the replicas' sockets")


@pytest.mark.parametrize("size_bytes", [50 * 1024 * 1024])
def test_a_50_mb_body_is_refused_and_the_service_goes_on(service, size_bytes):
    answer = httpx.post(
        f"{service.url}/predict_purchase",
        content=b"0" * size_bytes,
        headers={"Content-Type": "application/json"},
        timeout=30,
    )
    assert answer.status_code == 413
    assert answer.json()["errors" if "errors" in answer.json() else "detail"]
    assert service.is_answering()


def test_the_deadline_header_is_answered_as_a_problem_before_the_proxy_does(service):
    answer = service.predict(headers={"X-Request-Timeout-Seconds": "0.021"})
    assert answer.status_code in {200, 504}
    answer = service.predict(headers={"X-Request-Timeout-Seconds": "0.001"})
    assert answer.status_code == 504
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "1"


def test_openapi_page_is_served(service):
    assert "/predict_purchase" in httpx.get(f"{service.url}/openapi.json").json()["paths"]
    assert httpx.get(f"{service.url}/docs").status_code == 200
