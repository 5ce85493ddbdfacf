"""``POST /predict_purchase``, the hot route: no framework between the socket and the micro-batch."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from operator import itemgetter
from typing import Any, Final

import orjson

from serve_app.errors import (
    BadRequestError,
    DeadlineExceededError,
    InvariantError,
    NotFoundError,
    NotReadyError,
    ScorecatError,
)
from serve_app.features.core.sources import FROM_DEFAULT, FROM_STATE, SOURCE_NAMES, UNSEEN
from serve_app.features.core.specs import PURCHASE_NAMES
from serve_app.history.service.intake import EventSink
from serve_app.history.service.observing import Observer
from serve_app.http.asgi import (
    LONGEST_TIMEOUT_S,
    AccessLog,
    Exchange,
    Headers,
    Meter,
    Receive,
    Scope,
    Send,
    check_json,
    read_body,
    read_pin,
    read_timeout_s,
)
from serve_app.http.column_names import ignored_header
from serve_app.http.query import parse_query, read_defaults, read_flag
from serve_app.http.row.row_body import EVENT_ID, IGNORED, INPUTS, parse_row, read_keys
from serve_app.models.core.outputs import choose_reasons
from serve_app.scoring.service.route import Route
from serve_app.scoring.service.traffic import Traffic
from serve_app.scoring.service.version_scorer import Score, Values, VersionScorer

HOT_PATH: Final = "/predict_purchase"
MAX_ROW_BYTES: Final = 256 * 1024
"""Far above any row (the widest has 25 members and three ids of 512 characters)."""

logger = logging.getLogger("scorecat.http")
_get_features: Final = itemgetter(*PURCHASE_NAMES)


class PredictPurchase:
    """The route as an ASGI application.

    Parameters
    ----------
    traffic : Traffic
    access_log : AccessLog
    timeout_s : float
        Deadline of requests that name none, seconds.
    meter : Meter
    events : EventSink, optional
        Records rows that are to be observed.
    """

    def __init__(
        self, traffic: Traffic, access_log: AccessLog, timeout_s: float, meter: Meter, events: EventSink | None = None
    ) -> None:
        self._traffic = traffic
        self._access_log = access_log
        self._timeout_s = timeout_s
        self._meter = meter
        self._observer = Observer(events)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; every outcome is an answer."""
        exchange = Exchange.open(scope, receive, send, self._access_log, self._meter)
        try:
            await self._answer(exchange)
        except ScorecatError as error:
            if not isinstance(error, (BadRequestError, NotReadyError)):
                logger.exception("request %s failed", exchange.request_id)
            await exchange.answer_error(error)
        except Exception:
            logger.exception("request %s failed", exchange.request_id)
            await exchange.answer_error(InvariantError("unexpected"))

    async def _answer(self, exchange: Exchange) -> None:
        timeout_s = read_timeout_s(exchange.headers, self._timeout_s, LONGEST_TIMEOUT_S)
        deadline_at = asyncio.get_running_loop().time() + timeout_s
        query = parse_query(exchange.scope["query_string"], "explain", "detail", "defaults")
        explain = read_flag(query, "explain")
        detail = explain or read_flag(query, "detail")
        defaults = read_defaults(query, INPUTS)
        check_json(exchange.headers)
        body = await read_body(exchange.receive, exchange.headers, MAX_ROW_BYTES)
        try:
            row = parse_row(body, defaults)
        except BadRequestError:
            with contextlib.suppress(NotReadyError):  # a row of another model is no malformed purchase
                _check_inputs(self._traffic.choose(None).scorer)
            raise
        user = row["user_id"]
        # a whole number stands for its text, so that 7 and "7" are one user
        route = self._traffic.choose(None if user is None else str(user), read_pin(exchange.headers))
        _check_inputs(route.scorer)
        exchange.version = route.scorer.version
        keys = read_keys(row)
        values = list_values(row, keys)
        score = await route.score(values, deadline_at)
        observed = await self._observe(row, keys, deadline_at) if row["observe"] else None
        prediction_id = os.urandom(16).hex()
        answer = describe_score(user, score)
        if detail:
            answer |= _describe(route, score, row) | {"prediction_id": prediction_id}
            if observed:
                answer["observed"] = observed
        if explain:
            complete = _fill_from_state(values, score)
            answer["explanation"] = await _explain(route.scorer, complete, answer["features"], deadline_at)
        headers: Headers = [
            (b"x-prediction-id", prediction_id.encode()),
            (b"x-model-version", str(score.version).encode()),
            (b"x-route-reason", route.reason.encode()),
        ]
        if IGNORED in row:
            headers.append(ignored_header(row[IGNORED]))
        if observed:
            headers.append((b"x-observed", observed["status"].encode()))
        await exchange.answer(200, orjson.dumps(answer), headers)

    async def _observe(self, row: dict[str, Any], keys: list[Any], deadline_at: float) -> dict[str, str]:
        status, detail = await self._observer.observe(keys, row["price"], deadline_at)
        self._meter.count_events(HOT_PATH, status, 1)
        return {"status": status, "detail": detail, "event_id": keys[EVENT_ID]}


def list_values(row: dict[str, Any], keys: list[Any]) -> list[Any]:
    """Return a parsed row as `VersionScorer.score` takes it; `keys` are those of `read_keys`."""
    return [*_get_features(row), *keys]


def describe_score(user_id: str | int | None, score: Score) -> dict[str, Any]:
    """Return the members that every answer has."""
    return {
        "user_id": user_id,
        "purchase_probability": score.probability,
        "recommendation": score.recommendation,
    }


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
