"""Codes that say where an encoded value came from."""

from __future__ import annotations

from typing import Final

FROM_REQUEST: Final = 0
"""Source code: the value came with the row."""
FROM_STATE: Final = 1
"""Source code: the value was looked up in the state."""
FROM_DEFAULT: Final = 2
"""Source code: the declared default was used."""
UNSEEN: Final = 3
"""Source code: the value came with the row, and is a category that the vocabulary does not list."""
SOURCE_NAMES: Final = ("request", "state", "default", "request")
