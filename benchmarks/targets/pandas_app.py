"""The first version most people write: FastAPI, a pydantic model, a pandas DataFrame per request.

Run: ``BENCH_PACKAGE=<package directory> uvicorn benchmarks.targets.pandas_app:app --workers 2``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
from catboost import CatBoostClassifier
from fastapi import FastAPI
from pydantic import BaseModel, Field

PACKAGE = Path(os.environ["BENCH_PACKAGE"])
FEATURES = json.loads((PACKAGE / "manifest.json").read_text())["features"]
NAMES = [feature["name"] for feature in FEATURES]
ENCODERS = {
    column: {label: code for code, label in enumerate(classes)}
    for column, classes in json.loads((PACKAGE / "vocabularies.json").read_text()).items()
}

model = CatBoostClassifier()
model.load_model(str(PACKAGE / "model.cbm"))
app = FastAPI()


class PurchaseRequest(BaseModel):
    user_id: str
    session_id: str
    product_id: str
    category_code: str | None = None
    brand: str | None = None
    price: float = Field(gt=0)
    hour: int = Field(ge=0, le=23)
    day_of_week: int = Field(ge=0, le=6)
    is_weekend: int = Field(ge=0, le=1)
    total_events_x: float | None = None
    unique_products: float | None = None
    unique_categories: float | None = None
    avg_price: float | None = None
    max_price: float | None = None
    total_price_viewed: float | None = None
    session_duration: float | None = None
    avg_events_per_session: float | None = None
    total_events_y: float | None = None
    avg_products_per_session: float | None = None
    total_products_viewed: float | None = None
    avg_session_duration: float | None = None
    total_purchases: float | None = None
    total_sessions: float | None = None
    avg_price_viewed: float | None = None
    conversion_rate: float | None = None


class PurchaseAnswer(BaseModel):
    user_id: str
    purchase_probability: float
    recommendation: str


@app.post("/predict_purchase")
async def predict_purchase(request: PurchaseRequest) -> PurchaseAnswer:
    row = request.model_dump()
    for feature in FEATURES:
        if row[feature["name"]] is None:
            row[feature["name"]] = row["price"] if feature["on_null"] == "fill_from" else feature["fill"]
    frame = pd.DataFrame([row])
    for column, codes in ENCODERS.items():
        frame[column] = frame[column].map(lambda label, codes=codes: codes.get(label, codes["__unknown__"]))
    probability = float(model.predict_proba(frame[NAMES])[0, 1])
    recommendation = "high" if probability > 0.7 else "medium" if probability >= 0.5 else "low"
    return PurchaseAnswer(user_id=request.user_id, purchase_probability=probability, recommendation=recommendation)
