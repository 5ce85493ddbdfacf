"""Values that somebody wrote, read one by one: each reader returns the value or says in a ValueError what is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from serve_app.runtime.shown_values import is_number, show

MAX_COUNT: Final = 1_000_000

Read = Callable[[Any], Any]
"""Returns the value, or raises ValueError that says what would be right."""


def read_number(low: float, high: float, what: str, *, is_open: bool = False) -> Read:
    """Return a reader of numbers from `low` to `high`, without the two when `is_open`."""

    def read(value: Any) -> float:
        if not is_number(value) or not low <= value <= high or (is_open and value in (low, high)):
            raise ValueError(f"must be {what}, got {show(value)}")
        return float(value)

    return read


def read_count(low: int, high: int = MAX_COUNT) -> Read:
    """Return a reader of whole numbers from `low` to `high`."""

    def read(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high:,}, got {show(value)}")
        return value

    return read


def read_flag(value: Any) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, got {show(value)}")  # noqa: TRY004 # one kind of error is collected
    return value
