"""What is wrong with the first line of a CSV file that other programs wrote."""

from __future__ import annotations

from typing import Final

_SEPARATORS: Final = {";": "semicolons", "\t": "tabs", "|": "bars"}


def explain_separator(line: str) -> str:
    """Return what separates the names in a line that has more of another mark than commas, and what to do; or ''."""
    mark = next((mark for mark in _SEPARATORS if line.count(mark) > line.count(",")), None)
    return f"values are separated by {_SEPARATORS[mark]}, save the file with commas" if mark else ""
