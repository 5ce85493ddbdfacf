"""What routes share in the OpenAPI document: groups of operations, headers and query parameters."""

from __future__ import annotations

from typing import Any, Final

PREDICTIONS, TABLES, INFERENCE, EVENTS, ROLLOUTS, JOBS, HEALTH = (
    "predictions", "tables", "inference protocol", "events", "rollouts", "jobs", "health",
)  # fmt: skip

TAGS: Final[list[dict[str, Any]]] = [
    {"name": PREDICTIONS, "description": "One row of a shop: will this shopper buy this product?"},
    {"name": TABLES, "description": "Many rows as JSON, CSV, Arrow or Parquet: MLflow's scoring protocol."},
    {"name": INFERENCE, "description": "Many rows as tensors, and what the model is: the Open Inference Protocol v2."},
    {"name": EVENTS, "description": "What shoppers did, for the history that later scores look up."},
    {
        "name": ROLLOUTS,
        "description": "Which versions answer whom: canaries, A/B tests, shadows, and how they end.",
    },
    {"name": JOBS, "description": "Tables that are scored in the background, file by file."},
    {"name": HEALTH, "description": "Whether the process lives, and whether it can score."},
]
"""Groups of operations; every operation has one."""


BINARY: Final[dict[str, Any]] = {"schema": {"type": "string", "format": "binary"}}
"""A body of bytes."""


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


def describe_header(name: str, schema: dict[str, Any], description: str, *, is_always: bool = True) -> dict[str, Any]:
    """Return a header of an answer as OpenAPI writes it; the parts of several are one mapping."""
    return {name: {"required": is_always, "schema": schema, "description": description}}


REQUEST_ID_HEADER: Final = describe_header(
    "X-Request-Id", {"type": "string"}, "The request's id, for whoever looks into the logs.", is_always=False
)
ROUTING_HEADERS: Final = {
    **describe_header("X-Model-Version", {"type": "integer", "minimum": 1}, "The version that answered."),
    **describe_header(
        "X-Route-Reason",
        {"type": "string", "enum": ["pin", "allow-list", "user-hash", "random", "only-version"]},
        "Why that version answered.",
    ),
}
"""Of every answer with scores."""
RETRY_HEADER: Final = describe_header(
    "Retry-After", {"type": "integer", "minimum": 1}, "Seconds after which another try is worth it."
)
ENCODING_HEADER: Final = describe_header(
    "Accept-Encoding",
    {"type": "string"},
    "Content encodings that are read, when it is the encoding that is not.",
    is_always=False,
)
LOCATION_HEADER: Final = describe_header("Location", {"type": "string"}, "Path of what was begun.")
IGNORED_COLUMNS: Final = "X-Ignored-Columns"
IGNORED_HEADER: Final = describe_header(
    IGNORED_COLUMNS,
    {"type": "string"},
    "What the request had and no one reads: percent-encoded names with commas between them, at most 20 and 1 KiB, "
    "then `;more=` and how many others there are.",
    is_always=False,
)
