"""Which columns of a Parquet file Arrow can read as codes: text that repeats is cheaper so, and safer to look at."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import pyarrow.parquet as pq

_CODED: Final = frozenset({"PLAIN", "PLAIN_DICTIONARY", "RLE_DICTIONARY", "RLE", "BIT_PACKED"})
"""Arrow has no codes for pages of ``DELTA_BYTE_ARRAY`` and ``DELTA_LENGTH_BYTE_ARRAY``."""


def split_texts(meta: pq.FileMetaData, names: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the columns of bytes among `names` that can be read as codes, and those that cannot.

    Parameters
    ----------
    meta : FileMetaData
    names : collection of str
        Top-level columns; those of other types than bytes are in neither list.
    """
    encodings: dict[str, set[str]] = {}
    for group in map(meta.row_group, range(meta.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            if chunk.path_in_schema in names and chunk.physical_type == "BYTE_ARRAY":
                encodings.setdefault(chunk.path_in_schema, set()).update(chunk.encodings)
    others = [name for name, found in encodings.items() if not found <= _CODED]
    return [name for name in encodings if name not in others], others
