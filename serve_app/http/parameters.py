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
DEFAULTS: Final = describe_parameter(
    "defaults",
    "query",
    {"type": "string", "examples": ["max_price,brand"]},
    "Inputs, with commas between them, that are not there on purpose: what stands for null is taken for each, and "
    "nothing that is nearly called so is refused.",
)
MANY_ROWS: Final = [DEFAULTS, USER, PIN, TIMEOUT, REQUEST_ID]
IGNORED_COLUMNS: Final = "X-Ignored-Columns"
IGNORED_HEADER: Final[dict[str, Any]] = {
    IGNORED_COLUMNS: {
        "schema": {"type": "string"},
        "description": "What the request had and no one reads: percent-encoded names with commas between them, at "
        "most 20 and 1 KiB, then `;more=` and how many others there are.",
    }
}
