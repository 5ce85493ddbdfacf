"""JSON bodies of the operator's routes: read, answered, documented."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from fastapi import Request, Response

from serve_app.errors import FieldError, InvalidDataError, MalformedBodyError
from serve_app.http.problems import document_problems
from serve_app.http.services import exchange_of
from serve_app.runtime.read_values import Member, read_members, text_of

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


@dataclass(frozen=True, slots=True)
class Body:
    """A JSON object that a route reads itself: its members say how, and what is documented.

    It is named `name` in the document, and titled so without a `title`; `examples` are those of members.
    """

    name: str
    description: str
    members: Mapping[str, Member]
    example: Mapping[str, Any]
    title: str = ""
    required: tuple[str, ...] = ()
    examples: Mapping[str, Any] = field(default_factory=dict)

    def document(self, *, is_required: bool) -> dict[str, Any]:
        """Return the OpenAPI description of a request with such a body."""
        schema = {"$ref": f"#/components/schemas/{self.name}"}
        return {"requestBody": {"required": is_required, "content": {"application/json": {"schema": schema}}}}

    def to_schema(self) -> dict[str, Any]:
        """Return the JSON schema."""
        properties = {name: member.to_schema(name) for name, member in self.members.items()}
        for name, example in self.examples.items():
            properties[name]["examples"] = [example]
        schema = {
            "additionalProperties": False,
            "description": self.description,
            "examples": [self.example],
            "properties": {name: _sort(schema) for name, schema in properties.items()},
            "required": list(self.required),
            "title": self.title or self.name,
            "type": "object",
        }
        return {name: value for name, value in schema.items() if value != []}


def _sort(schema: Mapping[str, Any]) -> Any:
    """Return a schema with its keys in order, as pydantic writes those of all other bodies."""
    return orjson.loads(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS))


REASON: Final[Mapping[str, Member]] = {
    "who": Member(text_of(200), "For the history. Default `http`.", may_be_null=False),
    "why": Member(text_of(2_000), "For the history.", may_be_null=False),
}
"""What a command may say of itself."""


def read_reason(record: Mapping[str, Any], body: Body) -> tuple[str, str]:
    """Return who tells something and why; raises InvalidDataError when the body says anything else."""
    errors: list[FieldError] = []
    found = read_members(record, body.members, errors)
    if errors:
        raise InvalidDataError(f"the body of a command says {' and '.join(body.members)}", tuple(errors))
    return found.get("who") or "http", found.get("why", "")
