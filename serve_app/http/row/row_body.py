"""The body of ``POST /predict_purchase``: one row, and what is said of a bad one."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from serve_app.errors import FieldError, InvalidRowError, MalformedBodyError
from serve_app.features.core.cells import show_value
from serve_app.features.core.near_names import find_near
from serve_app.features.core.numeric_columns import describe_required, describe_rule
from serve_app.features.core.row_keys import CATEGORY_KEY, KEY_NAMES, MAX_ID_LENGTH, NO_CATEGORY, TIME_KEY
from serve_app.features.core.specs import PURCHASE_FEATURES, PURCHASE_NAMES
from serve_app.http.column_names import describe_near, point_near
from serve_app.http.schemas import ID_NUMBER_RULE, PurchaseRequest
from serve_app.runtime.json_bodies import has_constants, load_json

IGNORED: Final = "ignored"
"""Under it a parsed row has the members that no one reads, where there are some; no member is called so."""
_MEMBERS: Final = tuple(PurchaseRequest.model_fields)
INPUTS: Final = (*PURCHASE_NAMES, *KEY_NAMES)
"""What a row may say of the shopper and the product: features and keys of the history."""


def parse_row(body: bytes, defaults: Collection[str] = ()) -> dict[str, Any]:
    """Parse and validate the body of ``POST /predict_purchase``; NaN is null.

    Parameters
    ----------
    body : bytes
    defaults : collection of str
        Members that may be absent, whatever the rest is called.

    Raises
    ------
    MalformedBodyError
        Not JSON, or not an object; a number beyond a double.
    InvalidRowError
        A member is missing, has another type, breaks a bound or is misspelt; each is named.
    """
    try:
        parsed = PurchaseRequest.__pydantic_validator__.validate_json(body)
    except ValidationError as exc:
        parsed = _parse_again(body, exc, defaults)
    row: dict[str, Any] = parsed.__dict__
    if parsed.__pydantic_extra__:
        unknown = sorted(parsed.__pydantic_extra__)
        near = _pair_near(unknown, parsed.__pydantic_fields_set__, defaults)
        if near:
            raise InvalidRowError(describe_near(near), point_near(near))
        row[IGNORED] = unknown
    if row[CATEGORY_KEY] is None and CATEGORY_KEY in parsed.__pydantic_fields_set__:
        row[CATEGORY_KEY] = NO_CATEGORY
    return row


def _parse_again(body: bytes, found: ValidationError, defaults: Collection[str]) -> BaseModel:
    """Parse a body that was refused as the routes of many rows do; what they do not read is said in their words."""
    value = load_json(body)
    if not has_constants(body):
        raise _explain(found, value, defaults) from found
    try:
        again: BaseModel = PurchaseRequest.__pydantic_validator__.validate_json(json.dumps(value))
    except ValidationError as exc:
        raise _explain(exc, value, defaults) from exc
    except RecursionError as exc:
        raise MalformedBodyError("the body is not valid JSON: it is nested too deeply") from exc
    return again


EVENT_ID: Final = KEY_NAMES.index("event_id")


def read_keys(row: dict[str, Any]) -> list[Any]:
    """Return what a parsed row says beside its features, as `serve_app.features.core.row_keys.KEY_SCHEMA` has it.

    A row that is to be observed without an `event_id` of its own gets one, so that whoever looks it up later (an
    explanation, a shadow) counts it once.
    """
    keys = [None if (value := row[name]) is None else str(value) for name in KEY_NAMES[:-1]]
    time = row[TIME_KEY]
    if row["observe"] and keys[EVENT_ID] is None:
        keys[EVENT_ID] = os.urandom(16).hex()
    return [*keys, None if time is None else math.floor(time.timestamp())]


def _pair_near(unknown: Iterable[str], given: Collection[str], defaults: Collection[str]) -> dict[str, str]:
    near = {}
    for name in unknown:
        meant = _list_meant(name) if len(name) <= MAX_ID_LENGTH else _list_meant.__wrapped__(name)
        absent = next((other for other in meant if other not in given and other not in defaults), None)
        if absent is not None:
            near[name] = absent
    return near


@lru_cache(maxsize=1024)
def _list_meant(name: str) -> tuple[str, ...]:
    """Return the inputs that a name may be a misspelling of; kept, as a client sends the same names in every row."""
    return tuple(other for other in INPUTS if find_near(name, [other]))


def _explain(exc: ValidationError, given: Any, defaults: Collection[str]) -> InvalidRowError | MalformedBodyError:
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
    near = _pair_near(sorted(given.keys() - _MEMBERS), given, defaults)
    return InvalidRowError("the row cannot be scored", (*errors, *point_near(near)))


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
