"""Values that come one by one, of any type, to columns of one type, with a row error for each that does not fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from serve_app.features.core.numeric_columns import describe_rule
from serve_app.features.core.row_errors import RowError
from serve_app.features.core.specs import FeatureSpec
from serve_app.features.core.whole_numbers import whole_text

_BOOLEANS: Final = {"True": True, "true": True, "False": False, "false": False}
"""As pandas and JSON write them."""


def read_cell(text: str | None) -> float | bool | str | None:
    """Return what the text of a CSV field means as a number; a text when it means none."""
    if not text:  # of numbers a quoted empty field is as empty as one without quotes
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if "_" in text or not text.isascii():  # which Python would take for digits
        return text
    try:
        return float(text)
    except ValueError:
        return text


def convert_values(
    spec: FeatureSpec, kind: pa.DataType, values: Sequence[Any], errors: dict[int, RowError]
) -> pa.Array:
    """Return values as a column, by one call when all fit, one by one when some do not."""
    numeric = spec.kind == "numeric"
    takes_all = not numeric or spec.takes_booleans
    if takes_all or bool not in set(map(type, values)):  # which Arrow would take for 0 and 1
        try:
            return pa.array(values, kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
            pass
    kept: list[Any] = []
    for row, value in enumerate(values):
        found = _number(value, spec) if numeric else _label(value)
        if found is None and value is not None and (numeric or value == value):  # noqa: PLR0124 - NaN is no label
            errors.setdefault(row, RowError(row, spec.name, f"{describe_rule(spec)}, got {show_value(value)}", "type"))
        kept.append(found)
    return pa.array(kept, kind)


def _number(value: Any, spec: FeatureSpec) -> float | None:
    if isinstance(value, (int, float)) and (spec.takes_booleans or not isinstance(value, bool)):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    return None


def _label(value: Any) -> str | None:
    if isinstance(value, float):
        return whole_text(value)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    return str(value).encode(errors="replace").decode()


_JSON_WORDS: Final = {None: "null", True: "true", False: "false"}


def show_value(value: Any, limit: int = 40) -> str:
    """Return a bad value as JSON writes it, cut to a sane length; of lists and objects only that they are."""
    if value is None or isinstance(value, bool):
        return _JSON_WORDS[value]
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    text = (
        value.isoformat() if isinstance(value, datetime) else f"{value:g}" if isinstance(value, float) else repr(value)
    )
    return text if len(text) <= limit else text[: limit - 3] + "..."
