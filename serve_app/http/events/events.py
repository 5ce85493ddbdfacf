"""Shop history in: ``POST /v1/events``."""

from __future__ import annotations

import time
from typing import Any, Final

from fastapi import APIRouter, Request

from serve_app.errors import FieldError, InvalidRowError, NotReadyError, point_at
from serve_app.history.service.intake import Intake
from serve_app.http.bodies import ARROW, JSON, NDJSON
from serve_app.http.events.event_bodies import choose_event_media
from serve_app.http.parameters import BINARY, EVENTS, REQUEST_ID, TIMEOUT
from serve_app.http.problems import document_problems
from serve_app.http.schemas import EventsAnswer
from serve_app.http.services import exchange_of, services_of

ROUTE: Final = "/v1/events"
STATE_OFF: Final = "this service keeps no history: it was started with SCORECAT_STATE=off"
_EVENT: Final[dict[str, Any]] = {"$ref": "#/components/schemas/ShopEvent"}
_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        JSON: {"schema": {"anyOf": [_EVENT, {"type": "array", "items": _EVENT}]}},
        NDJSON: {"schema": {"type": "string"}},
        ARROW: BINARY,
    },
}


ROUTER: Final = APIRouter(tags=[EVENTS])


@ROUTER.post(
    ROUTE,
    status_code=202,
    summary="Record shop events",
    response_model=EventsAnswer,
    response_model_exclude_unset=True,
    responses=document_problems(400, 413, 415, 422, 500, 503, 504),
    openapi_extra={"requestBody": _BODY, "parameters": [TIMEOUT, REQUEST_ID]},
)
async def record_events(request: Request) -> Any:
    """Record views, carts and purchases, in order and in one commit; what is answered with 202 is on disk.

    An event with an `event_id` counts once however often it is sent. An event that breaks a rule is
    named in `errors`; the others are recorded.
    """
    services, exchange = services_of(request), exchange_of(request)
    deadline_at = exchange.find_deadline()
    media = choose_event_media(request.headers.get("content-type", ""))
    if services.events is None:
        raise NotReadyError(STATE_OFF, 60.0)
    body = await exchange.read_body(request.receive, deadline_at)
    intake = await services.events.record(media, body, deadline_at)
    _refuse_if_all_rejected(intake, is_one=media == JSON and body.lstrip()[:1] == b"{")
    for kind, n in intake.counts.items():
        if n:
            services.meter.count_events(ROUTE, kind, n)
    if intake.newest_s is not None:
        services.meter.note_delay(ROUTE, max(0.0, time.time() - intake.newest_s))
    return intake.to_json()


def _refuse_if_all_rejected(intake: Intake, *, is_one: bool) -> None:
    """Raise InvalidRowError when no event can be read; it points at their places, at the whole of a single one."""
    n = intake.counts["rejected"]
    if n and n == sum(intake.counts.values()):
        fields = tuple(FieldError("" if is_one else point_at(e.index), e.detail) for e in intake.errors)
        raise InvalidRowError(f"none of the {n} events can be read", fields)
