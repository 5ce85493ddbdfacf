"""How a value that cannot be used is shown in the words that refuse it."""

from __future__ import annotations

import math
import os
import reprlib
from typing import Any, Final

MAX_CHARACTERS: Final = 60

_SHORT: Final = reprlib.Repr()
_SHORT.maxlevel = 2
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 4
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = MAX_CHARACTERS


def show(value: Any) -> str:
    """Return a value in 60 characters at most, however large or deeply nested it is."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 4 * MAX_CHARACTERS:
        return f"a whole number of {value.bit_length():,} bits"  # its digits may be more than Python likes to write
    text = _SHORT.repr(value)
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"


def say_os_error(exc: OSError) -> str:
    """Return an error of the system in words, without its number or a path that the caller names anyway."""
    return os.strerror(exc.errno).lower() if exc.errno else str(exc)


def is_number(value: Any) -> bool:
    """Return whether a value is a number that a float can hold; booleans are none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
