"""JSON bodies of the operator's routes: read, answered, documented."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import orjson
from fastapi import Request, Response

from serve_app.errors import MalformedBodyError
from serve_app.http.problems import document_problems
from serve_app.http.services import exchange_of

BODY_TIMEOUT_S: Final = 10.0


async def read_record(request: Request) -> dict[str, Any]:
    """Return the members of a JSON body, none of an empty one.

    Raises
    ------
    MalformedBodyError, UnsupportedMediaError, PayloadTooLargeError, DeadlineExceededError
    """
    exchange = exchange_of(request)
    due_at = asyncio.get_running_loop().time() + BODY_TIMEOUT_S
    body = await exchange.read_body(request.receive, due_at, f"within {BODY_TIMEOUT_S:g} s")
    if body:
        exchange.check_json()
    try:
        record = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as exc:
        raise MalformedBodyError(f"the body is not valid JSON: {exc}") from exc
    if not isinstance(record, dict):
        raise MalformedBodyError("the body must be one JSON object")
    return record


def answer_json(value: Mapping[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer with a JSON body."""
    return Response(orjson.dumps(value), status, headers, media_type="application/json")


def describe_answers(
    model: Any, *problems: int, status: int = 200, headers: Mapping[str, Any] | None = None
) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of a route: what it answers, with which headers, and with which problems."""
    return {status: {"model": model, "headers": dict(headers or {})}, **document_problems(*problems)}


def document_body(model: Any, *, is_required: bool) -> dict[str, Any]:
    """Return the OpenAPI description of a JSON body that the route reads itself."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": is_required, "content": {"application/json": {"schema": schema}}}}
