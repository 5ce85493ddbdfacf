"""BentoML around `benchmarks.targets.expert`: ``bentoml serve benchmarks.targets.bentoml_app:Purchase``.

``BENCH_BATCH`` above 1 switches its adaptive batching on: a request is then ``{"rows": [row]}``, the answer a list.
"""

from __future__ import annotations

import os

import bentoml

from benchmarks.targets import expert

BATCH = int(os.environ.get("BENCH_BATCH", "1"))
OPTIONS = {
    "workers": int(os.environ.get("BENCH_WORKERS", "2")),
    "logging": {"access": {"enabled": False}},
    "metrics": {"enabled": True},
}


@bentoml.service(**OPTIONS)
class Purchase:
    if BATCH > 1:

        @bentoml.api(route="/predict_purchase", batchable=True, max_batch_size=BATCH, max_latency_ms=1000)
        def predict_purchase(self, rows: list[dict]) -> list[dict]:
            found = expert.predict([expert.encode(row) for row in rows])
            return [expert.describe(row["user_id"], probability) for row, probability in zip(rows, found, strict=True)]

    else:

        @bentoml.api(route="/predict_purchase")
        async def predict_purchase(self, row: dict) -> dict:
            (probability,) = expert.predict([expert.encode(row)])
            return expert.describe(row["user_id"], probability)
