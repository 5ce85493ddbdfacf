"""The body of ``POST /predict_purchase``: one row, and what is said of a bad one."""

from __future__ import annotations

import json
import math
import os
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from serve_app.core.cells import show_value
from serve_app.core.errors import FieldError, InvalidRowError, MalformedBodyError
from serve_app.core.features import PURCHASE_FEATURES
from serve_app.core.history_keys import CATEGORY_KEY, KEY_NAMES, NO_CATEGORY, TIME_KEY
from serve_app.core.numeric_columns import describe_required, describe_rule
from serve_app.http.json_bodies import has_constants, load_json
from serve_app.http.schemas import ID_NUMBER_RULE, PurchaseRequest


def parse_row(body: bytes) -> dict[str, Any]:
    """Parse and validate the body of ``POST /predict_purchase``; NaN is null.

    Raises
    ------
    MalformedBodyError
        Not JSON, or not an object; a number beyond a double.
    InvalidRowError
        A member is missing, has another type or breaks a bound; each is named.
    """
    try:
        parsed = PurchaseRequest.__pydantic_validator__.validate_json(body)
    except ValidationError as exc:
        parsed = _parse_again(body, exc)
    row: dict[str, Any] = parsed.__dict__
    if row[CATEGORY_KEY] is None and CATEGORY_KEY in parsed.__pydantic_fields_set__:
        row[CATEGORY_KEY] = NO_CATEGORY
    return row


def _parse_again(body: bytes, found: ValidationError) -> BaseModel:
    """Parse a body that was refused as the routes of many rows do; what they do not read is said in their words."""
    value = load_json(body)
    if not has_constants(body):
        raise _explain(found) from found
    try:
        return PurchaseRequest.__pydantic_validator__.validate_json(json.dumps(value))
    except ValidationError as exc:
        raise _explain(exc) from exc
    except RecursionError as exc:
        raise MalformedBodyError("the body is not valid JSON: it is nested too deeply") from exc


EVENT_ID: Final = KEY_NAMES.index("event_id")


def read_keys(row: dict[str, Any]) -> list[Any]:
    """Return what a parsed row says beside its features, as `serve_app.core.history_keys.KEY_SCHEMA` has it.

    A row that is to be observed without an `event_id` of its own gets one, so that whoever looks it up later (an
    explanation, a shadow) counts it once.
    """
    keys = [None if (value := row[name]) is None else str(value) for name in KEY_NAMES[:-1]]
    time = row[TIME_KEY]
    if row["observe"] and keys[EVENT_ID] is None:
        keys[EVENT_ID] = os.urandom(16).hex()
    return [*keys, None if time is None else math.floor(time.timestamp())]


def _explain(exc: ValidationError) -> InvalidRowError | MalformedBodyError:
    found: dict[str, str] = {}
    for error in exc.errors(include_url=False, include_context=True):
        if error["type"] == "json_invalid":  # to pydantic alone
            return MalformedBodyError(f"the body is not valid JSON: {error['ctx']['error']}")
        if error["type"] == "model_type":
            return MalformedBodyError("the body must be one JSON object")
        if not error["loc"]:
            found.setdefault("", error["msg"])
            continue
        name = str(error["loc"][0])
        if error["type"] == "missing" or (error["input"] is None and name in _REQUIRED):
            rule = _REQUIRED.get(name, error["msg"])
        else:
            rule = _RULES.get(name, error["msg"])
        shown = "" if error["type"] == "missing" else f", got {show_value(error['input'])}"
        found.setdefault(f"/{name}", f"{rule}{shown}")
    errors = tuple(FieldError(pointer, detail) for pointer, detail in found.items())
    return InvalidRowError("the row cannot be scored", errors)


_ID: Final = f"must be a string of 1 to 512 characters or {ID_NUMBER_RULE}"
_LABEL: Final = "must be a string of at most 512 characters, a whole number, or null"
_RULES: Final = {
    "user_id": f"{_ID}, or null",
    **dict.fromkeys(("session_id", "product_id", "event_id", "category_id"), _ID),
    **{f.name: _LABEL if f.kind == "categorical" else describe_rule(f) for f in PURCHASE_FEATURES},
    "event_time": "must be an ISO 8601 time with a zone, for example 2019-10-01T12:00:00Z",
}
_REQUIRED: Final = {
    "user_id": f"is required and {_ID}, or null",
    **dict.fromkeys(("session_id", "product_id"), f"is required and {_ID}"),
    **{f.name: describe_required(f) for f in PURCHASE_FEATURES if f.on_null == "reject"},
}
