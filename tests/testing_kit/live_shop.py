"""The live service in one object behind `httpx.MockTransport`: real parsers, history, encoder and model, no Ray."""

from __future__ import annotations

import json

import httpx
import pyarrow as pa

from serve_app.core.encoding import SOURCE_NAMES, UNSEEN, FeatureEncoder
from serve_app.core.features import HISTORY_NAMES, PURCHASE_NAMES, arrow_schema
from serve_app.core.history_keys import KEY_NAMES
from serve_app.core.pseudonyms import Pseudonyms
from serve_app.http.event_bodies import parse_events
from serve_app.http.row_body import parse_row, read_keys
from serve_app.service.event_intake import summarize
from serve_app.service.live_history import LiveHistory, ScoredRow, ShopEvent
from tests.testing_kit.memory_states import MemoryStateStore

NAMES = Pseudonyms(bytes(range(32)))


class LiveShop:
    """Answers rows and events; tests change `spoil` (an answer) or `misses` (look-ups that fail) to be found out."""

    def __init__(self, package, now_s: float) -> None:
        self.package = package
        self.store = MemoryStateStore()
        self.history = LiveHistory(self.store, NAMES, lambda: now_s, retention_s=None)
        self.encoder = FeatureEncoder(package.manifest.features, package.vocabularies)
        self.spoil = lambda answer: answer
        self.misses = 0
        self.n_requests = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.n_requests += 1
        if request.url.path == "/v1/events":
            parsed = parse_events(request.headers["content-type"], request.content)
            return httpx.Response(202, json=summarize(parsed, self.history.record(parsed.events)).to_json())
        row = parse_row(request.content)
        keys = dict(zip(KEY_NAMES, read_keys(row), strict=True))
        if self.misses:
            self.misses -= 1
            return self._answer(row, None, "unavailable")
        scored = ScoredRow(
            keys["user_id"], keys["session_id"], keys["product_id"], row["price"],
            keys["event_time"], keys["category_id"], keys["event_id"],
        )  # fmt: skip
        found = self.history.lookup([scored])
        state = dict(zip(HISTORY_NAMES, found.features, strict=True))
        event = ShopEvent(
            scored.user_id, scored.session_id, scored.product_id, "view", scored.price,
            scored.time_s, scored.category_id, scored.event_id, is_row=True,
        )  # fmt: skip
        (outcome,) = self.history.record([event])
        return self._answer(row, state, outcome.status)

    def _answer(self, row, state, observed) -> httpx.Response:
        specs = self.package.manifest.features
        fields = [
            pa.array([row[spec.name]], field.type) for spec, field in zip(specs, arrow_schema(specs), strict=True)
        ]
        encoded = self.encoder.encode(pa.RecordBatch.from_arrays(fields, list(PURCHASE_NAMES)), state)
        if encoded.errors:
            errors = [{"pointer": f"/{e.feature}", "detail": e.detail} for e in encoded.errors]
            return httpx.Response(422, json={"type": "urn:scorecat:problem:invalid-row", "errors": errors})
        features = {}
        for spec, value, source in zip(specs, encoded.matrix[0].tolist(), encoded.sources[0].tolist(), strict=True):
            label = spec.fill if row[spec.name] is None else row[spec.name]
            features[spec.name] = {"value": label if spec.kind == "categorical" else value}
            features[spec.name] |= {"source": SOURCE_NAMES[source]} | ({"unseen": True} if source == UNSEEN else {})
        answer = self.spoil(
            {
                "user_id": row["user_id"],
                "purchase_probability": float(self.package.model.predict(encoded.matrix)[0]),
                "recommendation": "low",
                "features": features,
                "history": {"status": "found" if state else "unavailable"},
                "observed": {"status": observed, "detail": ""},
            }
        )
        return httpx.Response(200, content=json.dumps(answer), headers={"x-model-version": "1"})
