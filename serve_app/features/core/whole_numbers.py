"""Whole numbers that came as text or as floats, written in the one way they are compared in."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

EXACT: Final = 2**53
"""Below it a double holds every whole number; from there on it may have been another one."""
MAX_ID: Final = str(2**63 - 1)
"""The largest number that is an id; the smallest is 0."""
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d*)?(?:[eE][+-]?\d{1,2})?", re.ASCII)
_MAX_LENGTH: Final = 64


def whole_text(value: float) -> str | None:
    """Return a whole number that came as a float as text; None for a fraction, and from `EXACT` on."""
    return str(int(value)) if abs(value) < EXACT and value.is_integer() else None


def read_whole(text: str | None) -> str | None:
    """Return the whole number that a text such as ``5.0`` writes, as ``5``; None when it is none.

    Leading zeros are no number's: ``01`` is a text.
    """
    if text is None or len(text) > _MAX_LENGTH or not _NUMBER.fullmatch(text):
        return None
    value = Decimal(text)
    return str(int(value)) if value == value.to_integral_value() else None
