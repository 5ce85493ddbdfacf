"""Put the routes together: FastAPI for everything but the hot route."""

from __future__ import annotations

import functools
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from serve_app import __version__
from serve_app.errors import FieldError, InvalidRowError, InvariantError, ScorecatError, point_at
from serve_app.history.service.intake import EventSink
from serve_app.http.admission import HOT_PATH, AccessLog, Admission, Answer, Exchange, Meter
from serve_app.http.api_document import complete_document, name_operation
from serve_app.http.events import events as event_routes
from serve_app.http.operator import jobs as job_routes
from serve_app.http.operator import rollouts as rollout_routes
from serve_app.http.parameters import (
    DEFAULTS,
    HEALTH,
    IGNORED_HEADER,
    PIN,
    PREDICTIONS,
    REQUEST_ID,
    ROUTING_HEADERS,
    TAGS,
    TIMEOUT,
    describe_header,
    describe_parameter,
)
from serve_app.http.problems import document_problems, problem_members
from serve_app.http.row.fast_lane import FastLane
from serve_app.http.row.predict import PredictPurchase
from serve_app.http.schemas import DetailedResponse, Health, PurchaseResponse, Readiness
from serve_app.http.services import Services, exchange_of, services_of
from serve_app.http.tables import mlflow, oip
from serve_app.jobs.service.ports import Jobs
from serve_app.rollouts.service.ports import Rollouts
from serve_app.scoring.service.traffic import Traffic

_DESCRIPTION: Final = """Will this shopper buy this product?

Send what the shop knows of one row, get a probability and a recommendation. Errors are
RFC 9457 problem details that name the field and the rule. `503` and `429` carry `Retry-After`;
`X-Request-Timeout-Seconds` sets a deadline."""

_ROW_HEADERS: Final = {
    **describe_header("X-Prediction-Id", {"type": "string"}, "The prediction's id, as `?detail=true` has it."),
    **ROUTING_HEADERS,
    **describe_header(
        "X-Observed", {"type": "string"}, "With `observe`: whether the row was recorded as a view.", is_always=False
    ),
    **IGNORED_HEADER,
}


def create_app(
    traffic: Traffic,
    access_log: AccessLog,
    *,
    timeout_s: float,
    rollouts: Rollouts | None = None,
    jobs: Jobs | None = None,
    meter: Meter | None = None,
    events: EventSink | None = None,
) -> Front:
    """Return the ASGI application of the Gateway.

    Ray puts ``X-Request-Id`` on every answer, so nothing here does.

    Parameters
    ----------
    traffic : Traffic
    access_log : AccessLog
    timeout_s : float
        Deadline of requests that name none.
    rollouts : Rollouts or None
        The control app; without it the routes of rollouts answer 503.
    jobs : Jobs or None
        The same, for batch jobs.
    meter : Meter, optional
    events : EventSink, optional
        Records shop events; without it nothing is recorded.
    """
    meter = meter or Meter()
    return Front(Services(traffic, meter, events, rollouts, jobs), Admission(access_log, meter, timeout_s))


@functools.cache
def build_api() -> FastAPI:
    """Return the routes and their document, once for a process: what they work with comes beside each request."""
    # its documentation page loads nothing from elsewhere
    api = FastAPIOffline(
        title="scorecat",
        version=__version__,
        description=_DESCRIPTION,
        redirect_slashes=False,
        openapi_tags=TAGS,
        generate_unique_id_function=name_operation,
    )
    _document_predict(api)
    complete_document(api)
    _add_probes(api)
    for router in (mlflow.ROUTER, oip.ROUTER, event_routes.ROUTER, rollout_routes.ROUTER, job_routes.ROUTER):
        api.include_router(router)
    _add_errors(api)
    return api


class Front:
    """Sends the hot route past FastAPI, answers HEAD as GET without its body, and gives every answer its log line.

    Attributes
    ----------
    api : FastAPI
    lane : FastLane
        Answers plain requests to the hot route for a server that knows of it, see `serve_app.http.row.fast_protocol`.
    """

    def __init__(self, services: Services, admission: Admission) -> None:
        self.api = build_api()
        self.lane = FastLane(services.traffic, admission)
        self._services = services
        self._admission = admission
        self._predict = PredictPurchase(services.traffic, services.meter, services.events)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI request."""
        if scope["type"] != "http":
            await self.api(scope, receive, send)
            return
        exchange = self._admission.open(scope["method"], scope["path"], dict(scope["headers"]))
        is_hot = exchange.path == HOT_PATH and exchange.method == "POST"
        try:
            self._admission.admit(exchange)
            answer = await self._predict.answer(exchange, scope["query_string"], receive) if is_hot else None
        except Exception as exc:  # noqa: BLE001 - every outcome is an answer
            answer = exchange.refuse(exc)
        if answer is None:
            await self._call_api(exchange, scope, receive, send)
        else:
            await _send(answer, send)
            exchange.log(answer[0])

    async def _call_api(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        is_head = exchange.method == "HEAD"
        state = {**scope.get("state", {}), "services": self._services, "exchange": exchange}
        scope = {**scope, "state": state, "method": "GET" if is_head else exchange.method}
        status = 500

        async def note_status(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        try:
            await self.api(scope, receive, note_status)
        finally:
            exchange.route = find_route(scope)
            exchange.log(status)


async def _send(answer: Answer, send: Send) -> None:
    status, body, headers = answer
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _document_predict(api: FastAPI) -> None:
    @api.post(
        HOT_PATH,
        tags=[PREDICTIONS],
        response_model=PurchaseResponse | DetailedResponse,
        responses={
            200: {"headers": _ROW_HEADERS},
            **document_problems(400, 404, 413, 415, 422, 500, 503, 504),
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PurchaseRequest"}}},
            },
            "parameters": [
                describe_parameter("detail", "query", {"type": "boolean"}, "Say where every feature came from."),
                describe_parameter("explain", "query", {"type": "boolean"}, "Say which features moved the score most."),
                DEFAULTS,
                PIN,
                TIMEOUT,
                REQUEST_ID,
            ],
        },
        summary="Will this shopper buy this product?",
    )
    async def predict_purchase(request: Request) -> Response:
        """Score one row.

        The answer's headers name the prediction, the model version and why that version answered.
        """
        raise InvariantError(f"{request.url.path} is answered before FastAPI")  # documented here only


def _add_probes(api: FastAPI) -> None:
    @api.get("/livez", tags=[HEALTH], summary="Is the process alive?")
    async def check_liveness() -> Health:
        """Answer as long as the process can answer anything."""
        return Health(status="ok")

    @api.get("/readyz", tags=[HEALTH], responses=document_problems(503), summary="Can it score?")
    async def check_readiness(request: Request) -> Readiness:
        """Answer 200 when a model version has answered and has not just been lost."""
        traffic = services_of(request).traffic
        await traffic.check_ready()
        return Readiness(status="ok", model=traffic.split.model, version=traffic.live.version)


def _add_errors(api: FastAPI) -> None:
    async def on_error(request: Request, exc: Exception) -> Response:
        return _respond(_find_exchange(request).refuse(exc))

    async def on_http(request: Request, exc: Exception) -> Response:
        exchange = _find_exchange(request)
        status = exc.status_code if isinstance(exc, HTTPException) else 500
        detail = {
            404: f"there is no route {exchange.path}; /docs lists them",
            405: f"{exchange.method} is not allowed on {exchange.path}; /docs lists what is",
        }.get(status, str(getattr(exc, "detail", "")))
        code = {404: "not-found", 405: "method-not-allowed"}.get(status, "bad-request")
        headers = dict(getattr(exc, "headers", None) or {})
        if "GET" in headers.get("Allow", ""):
            headers["Allow"] += ", HEAD"
        members = problem_members(status, code, detail, exchange.request_id)
        extra = [(name.encode(), value.encode()) for name, value in headers.items()]
        return _respond(exchange.answer_problem(status, code, members, extra))

    async def on_invalid(request: Request, exc: Exception) -> Response:
        errors = exc.errors() if isinstance(exc, RequestValidationError) else []
        fields = tuple(FieldError(point_at(*e["loc"]), e["msg"]) for e in errors)
        return await on_error(request, InvalidRowError("the request is not as documented", fields))

    api.add_exception_handler(ScorecatError, on_error)
    api.add_exception_handler(HTTPException, on_http)
    api.add_exception_handler(RequestValidationError, on_invalid)
    api.add_exception_handler(Exception, on_error)


def _find_exchange(request: Request) -> Exchange:
    """Return the exchange of a request that FastAPI has found the route of, when there is one."""
    exchange = exchange_of(request)
    exchange.route = find_route(request.scope)
    return exchange


def _respond(answer: Answer) -> Response:
    status, body, headers = answer
    return Response(body, status, {name.decode(): value.decode() for name, value in headers})


def find_route(scope: Scope) -> str:
    """Return the route as it is documented, which has few values, unlike a request's path."""
    return str(getattr(scope.get("route"), "path_format", "other"))
