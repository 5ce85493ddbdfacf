"""What an expert writes after a week of profiling: FastAPI around `benchmarks.targets.expert`.

Run: ``BENCH_PACKAGE=<package directory> uvicorn benchmarks.targets.numpy_app:app --workers 2
--loop uvloop --http httptools --no-access-log``.
"""

from __future__ import annotations

import orjson
from fastapi import FastAPI, Request, Response

from benchmarks.targets import expert

app = FastAPI(openapi_url=None)


@app.post("/predict_purchase")
async def predict_purchase(request: Request) -> Response:
    try:
        row = orjson.loads(await request.body())
        user_id, values = row["user_id"], expert.encode(row)
    except (ValueError, TypeError, KeyError):
        return Response(b'{"detail":"bad row"}', 422, media_type="application/json")
    (probability,) = expert.predict([values])
    return Response(orjson.dumps(expert.describe(user_id, probability)), media_type="application/json")
