"""``POST /predict_purchase``, the hot route: no framework between the socket and the micro-batch."""

from __future__ import annotations

import asyncio
import contextlib
from operator import itemgetter
from typing import Any, Final

import orjson
from starlette.types import Receive

from serve_app.errors import BadRequestError, DeadlineExceededError, NotFoundError, NotReadyError
from serve_app.features.core.sources import FROM_DEFAULT, FROM_STATE, SOURCE_NAMES, UNSEEN
from serve_app.features.core.specs import PURCHASE_NAMES
from serve_app.history.service.intake import EventSink
from serve_app.history.service.observing import Observer
from serve_app.http.admission import HOT_PATH, JSON_TYPE, Answer, Exchange, Headers, Meter
from serve_app.http.bodies import read_body
from serve_app.http.column_names import ignored_header
from serve_app.http.query import parse_query, read_defaults, read_flag
from serve_app.http.row.row_body import EVENT_ID, IGNORED, INPUTS, parse_row, read_keys
from serve_app.models.core.outputs import choose_reasons
from serve_app.scoring.service.route import Route
from serve_app.scoring.service.traffic import Traffic
from serve_app.scoring.service.version_scorer import Score, Values, VersionScorer

_get_features: Final = itemgetter(*PURCHASE_NAMES)


class PredictPurchase:
    """The handler of the route.

    Parameters
    ----------
    traffic : Traffic
    meter : Meter
    events : EventSink, optional
        Records rows that are to be observed.
    """

    def __init__(self, traffic: Traffic, meter: Meter, events: EventSink | None = None) -> None:
        self._traffic = traffic
        self._meter = meter
        self._observer = Observer(events)

    async def answer(self, exchange: Exchange, query_string: bytes, receive: Receive) -> Answer:
        """Return the answer; raises ScorecatError."""
        deadline_at = exchange.find_deadline()
        query = parse_query(query_string, "explain", "detail", "defaults")
        explain = read_flag(query, "explain")
        detail = explain or read_flag(query, "detail")
        defaults = read_defaults(query, INPUTS)
        exchange.check_json()
        body = await read_body(receive, exchange.headers, exchange.max_body_bytes)
        try:
            row = parse_row(body, defaults)
        except BadRequestError:
            with contextlib.suppress(NotReadyError):  # a row of another model is no malformed purchase
                _check_inputs(self._traffic.choose(None).scorer)
            raise
        user = row["user_id"]
        # a whole number stands for its text, so that 7 and "7" are one user
        route = self._traffic.choose(None if user is None else str(user), exchange.read_pin())
        _check_inputs(route.scorer)
        exchange.version = route.scorer.version
        keys = read_keys(row)
        values = list_values(row, keys)
        score = await route.score(values, deadline_at)
        observed = await self._observe(row, keys, deadline_at) if row["observe"] else None
        members, headers = describe_answer(row, route, score)
        if detail:
            members |= _describe(route, score, row)
            if observed:
                members["observed"] = observed
        if explain:
            complete = _fill_from_state(values, score)
            members["explanation"] = await _explain(route.scorer, complete, members["features"], deadline_at)
        if observed:
            headers.append((b"x-observed", observed["status"].encode()))
        return 200, orjson.dumps(members), headers

    async def _observe(self, row: dict[str, Any], keys: list[Any], deadline_at: float) -> dict[str, str]:
        status, detail = await self._observer.observe(keys, row["price"], deadline_at)
        self._meter.count_events(HOT_PATH, status, 1)
        return {"status": status, "detail": detail, "event_id": keys[EVENT_ID]}


def list_values(row: dict[str, Any], keys: list[Any]) -> list[Any]:
    """Return a parsed row as `VersionScorer.score` takes it; `keys` are those of `read_keys`."""
    return [*_get_features(row), *keys]


def describe_answer(row: dict[str, Any], route: Route, score: Score) -> tuple[dict[str, Any], Headers]:
    """Return the members and the headers that every answer for a row has."""
    members = {
        "user_id": row["user_id"],
        "purchase_probability": score.probability,
        "recommendation": score.recommendation,
    }
    headers: Headers = [
        (b"content-type", JSON_TYPE),
        (b"x-prediction-id", route.prediction_id.encode()),
        (b"x-model-version", b"%d" % score.version),
        (b"x-route-reason", route.reason.encode()),
    ]
    if IGNORED in row:
        headers.append(ignored_header(row[IGNORED]))
    return members, headers


def _describe(route: Route, score: Score, row: dict[str, Any]) -> dict[str, Any]:
    manifest = route.scorer.manifest
    features: dict[str, dict[str, Any]] = {}
    for spec, source, value in zip(manifest.features, score.sources, score.values, strict=True):
        shown: float | str | None = value
        if spec.kind == "categorical":
            shown = spec.fill if row[spec.name] is None else row[spec.name]
        features[spec.name] = {"value": shown, "source": SOURCE_NAMES[source]}
        if source == UNSEEN:
            features[spec.name]["unseen"] = True
    return {
        "model": manifest.name,
        "version": score.version,
        "route_reason": route.reason,
        "n_defaulted": score.sources.count(FROM_DEFAULT),
        "history": {"status": score.history or "off"},
        "features": features,
        "ignored": row.get(IGNORED, []),
        "prediction_id": route.prediction_id,
    }


def _check_inputs(scorer: VersionScorer) -> None:
    """Raise NotFoundError when the served model takes other rows than this route."""
    if not scorer.is_purchase:
        name = scorer.manifest.name
        raise NotFoundError(
            f"the served model is {name}, which does not have the inputs of /predict_purchase: send its rows to POST "
            f"/invocations, or to POST /v2/models/{name}/infer; GET /v2/models/{name} lists its inputs"
        )


def _fill_from_state(values: Values, score: Score) -> Values:
    """Return the row with what the state said of it, so that what is explained is what was scored."""
    filled = list(values)
    for k, source in enumerate(score.sources):
        if source == FROM_STATE:
            filled[k] = score.values[k]
    return filled


async def _explain(
    scorer: VersionScorer, values: Values, features: dict[str, Any], deadline_at: float
) -> dict[str, Any]:
    try:
        async with asyncio.timeout_at(deadline_at):
            shap = await scorer.explain(values, deadline_at)
    except TimeoutError as exc:
        raise DeadlineExceededError("the explanation was not ready before the request's deadline", 1.0) from exc
    reasons = choose_reasons(scorer.manifest.feature_names, shap)
    return {
        "raw_score": float(shap.sum()),
        "bias": float(shap[-1]),
        "reasons": [
            {"feature": r.feature, "value": features[r.feature]["value"], "contribution": r.contribution}
            for r in reasons
        ],
    }
