"""JSON of rows as clients in Python write it: with NaN for a missing value, which JSON does not have."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

import orjson

from serve_app.errors import MalformedBodyError

CONSTANTS: Final = {"NaN": None, "Infinity": math.inf, "-Infinity": -math.inf}
"""What ``json.dumps`` of Python writes, and what it stands for: a missing value, and a number that no rule allows."""
_HALF: Final = re.compile(r"\\u[dD][89a-fA-F]")
"""Escape of half a character; without its other half it is no text, which only the standard library takes."""


def load_json(body: bytes, what: str = "the body") -> Any:
    """Parse JSON; the token NaN is null, an infinite number stays one and breaks the rule of its feature.

    Parameters
    ----------
    body : bytes
    what : str
        What it is, for the message.

    Raises
    ------
    MalformedBodyError
        It is not JSON, or has a number beyond a double.

    Notes
    -----
    Bodies without the tokens cost what orjson costs. Others are parsed again, at about 20 MB/s, by the standard
    library, each number by orjson, so that the same text means the same in both.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        if not has_constants(body):
            raise MalformedBodyError(f"{what} is not valid JSON: {exc}") from exc
    try:
        text = body.decode()
        value = json.loads(text, parse_constant=CONSTANTS.__getitem__, parse_float=orjson.loads, parse_int=orjson.loads)
        if _HALF.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as exc:
        raise MalformedBodyError(f"{what} is not valid JSON: {_explain(exc)}") from exc
    return value


def has_constants(body: bytes) -> bool:
    """Return whether one of the tokens may be there: as one, or within a text."""
    return b"NaN" in body or b"Infinity" in body


def _explain(exc: Exception) -> str:
    if isinstance(exc, UnicodeError):
        return "a text in it is no UTF-8"
    if isinstance(exc, RecursionError):
        return "it is nested too deeply"
    return "a number is beyond what a double holds" if isinstance(exc, orjson.JSONDecodeError) else str(exc)
