"""Headers and query parameters that routes share, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final


def describe_parameter(name: str, place: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    """Return a parameter as OpenAPI writes it."""
    return {"name": name, "in": place, "required": False, "schema": schema, "description": description}


TIMEOUT: Final = describe_parameter(
    "X-Request-Timeout-Seconds",
    "header",
    {"type": "number", "exclusiveMinimum": 0},
    "Deadline, at most 60; answered shortly before it.",
)
REQUEST_ID: Final = describe_parameter(
    "X-Request-Id", "header", {"type": "string", "maxLength": 128}, "Echoed and logged."
)
PIN: Final = describe_parameter(
    "X-Model-Version",
    "header",
    {"type": "integer", "minimum": 1, "maximum": 999_999_999},
    "The version that is to answer; refused with 400 unless pins are allowed (`SCORECAT_PINS`).",
)
USER: Final = describe_parameter(
    "X-User-Id",
    "header",
    {"type": "string"},
    "The user by whom the version is chosen for the whole request; without it chance chooses.",
)
"""For many rows; a single row names its user in the body."""
MANY_ROWS: Final = [USER, PIN, TIMEOUT, REQUEST_ID]
