"""What names of files and folders say: formats, and values of columns, ``column=value``, as Hive and Spark do it."""

from __future__ import annotations

import posixpath
from typing import Any, Final
from urllib.parse import quote, unquote

NULL_PARTITION: Final = "__HIVE_DEFAULT_PARTITION__"
EMPTY_PARTITION: Final = "__EMPTY__"
"""An empty text; Hive, and what reads as it does, takes a folder without a value for null."""


def has_suffix(name: str, suffixes: str | tuple[str, ...]) -> bool:
    """Whether a name ends like that, in upper or lower case."""
    return name.lower().endswith(suffixes)


def name_partition(column: str, value: Any) -> str:
    """Return the folder of a value; no two values of a column have the same, and none leads elsewhere."""
    name = quote(column, safe="")
    if name.startswith(("_", ".")):  # readers pass such folders over
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if value is None:
        return f"{name}={NULL_PARTITION}"
    text = quote(str(value), safe="")
    if text in (NULL_PARTITION, EMPTY_PARTITION):  # the text itself
        text = f"%5F{text[1:]}"
    return f"{name}={text or EMPTY_PARTITION}"


def read_partitions(root: str, path: str) -> dict[str, str | None]:
    """Return the columns that the folders between `root` and a file give, ``column=value``, percent-decoded."""
    below = posixpath.relpath(path, root).split("/")[:-1]
    found = [name.partition("=") for name in below if "=" in name[1:]]
    return {unquote(name): _read_value(value) for name, _, value in found}


def _read_value(text: str) -> str | None:
    if text in ("", NULL_PARTITION):
        return None
    return "" if text == EMPTY_PARTITION else unquote(text)
