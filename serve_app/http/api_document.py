"""The OpenAPI document: what FastAPI says of the routes, with what it leaves out or says otherwise than they do."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute

from serve_app.http.operator.job_schemas import CANCEL, JOB
from serve_app.http.operator.rollout_schemas import COMMAND, START
from serve_app.http.parameters import REQUEST_ID_HEADER
from serve_app.http.records import Body
from serve_app.http.schemas import InferBody, Problem, PurchaseRequest, ShopEvent

_READ_BY_HAND: Final = (PurchaseRequest, InferBody, Problem, START, COMMAND, JOB, CANCEL, ShopEvent)
"""Bodies that the routes read themselves, so that FastAPI does not know of them."""
_NEVER_SENT: Final = ("HTTPValidationError", "ValidationError")


def complete_document(api: FastAPI) -> None:
    """Let the application's document name all bodies, and say of every member whether it has to be there."""
    original = api.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        schemas = document["components"]["schemas"]
        for model in _READ_BY_HAND:
            if isinstance(model, Body):
                schemas[model.name] = model.to_schema()
                continue
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        for name in _NEVER_SENT:
            schemas.pop(name, None)
        for schema in schemas.values():
            _free_optional(schema)
        for item in document["paths"].values():
            for operation in item.values():
                _complete_responses(operation["responses"])
        return document

    api.openapi = openapi  # type: ignore[method-assign]


def name_operation(route: APIRoute) -> str:
    """Return what generators call a route's function: its name, as ``getJob`` for ``get_job``."""
    first, *others = route.name.split("_")
    return first + "".join(map(str.capitalize, others))


def _free_optional(schema: dict[str, Any]) -> None:
    """Say a default in words: generators take a member that has one for a member that is always there."""
    for name, member in schema.get("properties", {}).items():
        if "default" in member and name not in schema.get("required", []):
            default = member.pop("default")
            if default not in (None, 0, "", [], {}):
                said = member.get("description", "").rstrip()
                member["description"] = f"{said} Default `{default}`.".strip()


def _complete_responses(responses: dict[str, Any]) -> None:
    for status, response in list(responses.items()):
        if any(name in str(response) for name in _NEVER_SENT):
            del responses[status]
        else:
            response.setdefault("headers", {}).update(REQUEST_ID_HEADER)
