"""Many rows in one request, against the same rows in one process without any service."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.rows import make_batch, make_bodies
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.models.adapters.package_dir import load_package
from serve_app.models.catboost.scorer import CatBoostScorer

ROUTE = "/invocations"
ARROW = "application/vnd.apache.arrow.stream"
RAW_1 = "predict_proba alone, 1 thread"
RAW_2 = "predict_proba alone, 2 threads"
PANDAS = "json.loads + DataFrame + encode + predict_proba, one process"
ARROW_HERE = "read Arrow + encode + predict_proba, one process"
SERVICE_ARROW = "service, Arrow stream"
SERVICE_JSON = "service, JSON dataframe_records"
TURN = 8
"""Calls of one form before the next has its turn: most find caches and threads warm, as in a stream of tables."""


class Bulk:
    """The forms of one batch of rows, each checked to the last bit at every call.

    Parameters
    ----------
    package_dir : Path
    n_rows : int
    """

    def __init__(self, package_dir: Path, n_rows: int) -> None:
        package = load_package(package_dir, CatBoostScorer.load)
        self._features = package.manifest.features
        self._codes = {
            name: {label: code for code, label in enumerate(classes)} for name, classes in package.vocabularies.items()
        }
        batch = make_batch(make_bodies(package_dir, n_rows, seed=1))
        self._encoder = FeatureEncoder(self._features, package.vocabularies)
        encoded = self._encoder.encode(batch)
        self.n_rows = n_rows
        self._matrix = encoded.matrix
        self._model = package.model.classifier
        self._expected = self._model.predict_proba(self._matrix, thread_count=1)[:, 1]
        with pa.BufferOutputStream() as sink:
            with pa.ipc.new_stream(sink, batch.schema) as writer:
                writer.write_batch(batch)
            self._arrow = sink.getvalue().to_pybytes()
        self._json = json.dumps({"dataframe_records": batch.to_pylist()}).encode()

    def forms(self, port: int) -> dict[str, Callable[[], np.ndarray]]:
        """Return what is timed: calls that return the probabilities in row order."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        return {
            RAW_1: lambda: self._model.predict_proba(self._matrix, thread_count=1)[:, 1],
            RAW_2: lambda: self._model.predict_proba(self._matrix, thread_count=2)[:, 1],
            PANDAS: self._predict_frame,
            ARROW_HERE: self._predict_arrow,
            SERVICE_ARROW: lambda: self._post_arrow(connection),
            SERVICE_JSON: lambda: self._post_json(connection),
        }

    def measure(self, port: int, seconds: float) -> dict[str, dict]:
        """Time the forms in turn, a few calls each, for about `seconds`: what disturbs one disturbs all."""
        forms = self.forms(port)
        times: dict[str, list[float]] = {form: [] for form in forms}
        wrong = dict.fromkeys(forms, 0)
        ended_s = time.perf_counter() + seconds
        for call in forms.values():
            call()
        while time.perf_counter() < ended_s or len(times[RAW_1]) < 2 * TURN:
            for form, call in forms.items():
                for _ in range(TURN):
                    started_s = time.perf_counter()
                    found = call()
                    times[form].append(time.perf_counter() - started_s)
                    wrong[form] += not np.array_equal(found, self._expected)
        return {form: self._describe(spent_s, wrong[form]) for form, spent_s in times.items()}

    def _describe(self, times_s: list[float], wrong: int) -> dict:
        middle_s = median(times_s)
        rate = self.n_rows / middle_s
        return {"calls": len(times_s), "wrong": wrong, "p50_ms": 1e3 * middle_s, "rows_per_second": rate}

    def _predict_frame(self) -> np.ndarray:
        frame = pd.DataFrame(json.loads(self._json)["dataframe_records"])
        for feature in self._features:
            column = frame[feature.name]
            if feature.kind == "categorical":
                codes = self._codes[feature.name]
                frame[feature.name] = column.fillna(feature.fill).map(codes).fillna(codes["__unknown__"])
            elif feature.on_null == "fill_from":
                frame[feature.name] = column.fillna(frame[feature.fill_from])
            elif feature.on_null == "fill":
                frame[feature.name] = column.fillna(feature.fill)
        return self._model.predict_proba(frame[[feature.name for feature in self._features]])[:, 1]

    def _predict_arrow(self) -> np.ndarray:
        (batch,) = pa.ipc.open_stream(self._arrow)
        return self._model.predict_proba(self._encoder.encode(batch).matrix, thread_count=1)[:, 1]

    def _post_arrow(self, connection: http.client.HTTPConnection) -> np.ndarray:
        answer = post(connection, self._arrow, ARROW)
        return pa.ipc.open_stream(answer).read_all().column("probability").to_numpy()

    def _post_json(self, connection: http.client.HTTPConnection) -> np.ndarray:
        predictions = json.loads(post(connection, self._json, "application/json"))["predictions"]
        if predictions and isinstance(predictions[0], dict):
            predictions = [p["probability"] for p in predictions]
        return np.array(predictions, dtype=np.float64)


def has_route(port: int) -> bool:
    """Return whether the service documents the route for many rows."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/openapi.json")
    paths = json.loads(connection.getresponse().read()).get("paths", {})
    connection.close()
    return ROUTE in paths


def post(connection: http.client.HTTPConnection, body: bytes, media: str) -> bytes:
    connection.request("POST", ROUTE, body, {"Content-Type": media, "Accept": media})
    answer = connection.getresponse()
    data = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{ROUTE} answered {answer.status} to {media}: {data[:500]!r}")
    return data
