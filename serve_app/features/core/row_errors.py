"""Why a row was not scored, and how a reader of rows tells the encoder of values that it could not read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import pyarrow as pa

Rule = Literal["null", "type", "range", "unseen"]
"""What a bad value breaks: it is not there, it is of another type, it is outside the bounds (or NaN,
infinite, no whole number), or it is a category that the model does not know."""
RULES: Final[tuple[Rule, ...]] = ("null", "type", "range", "unseen")
RESERVED: Final = "\ufdd0"
"""Begins the names of columns that are put beside an input's own: a code point that Unicode keeps from text for such
ends, so that an input may have any name."""
UNREADABLE: Final = f"{RESERVED}unreadable"
"""Column of a batch in which the reader of a text says which value of a row was of another type. Arrow
columns have one type, so that a value of another can only be null there: without this column the
encoder would take it for one that was not given."""
_TYPE: Final = pa.struct([pa.field("feature", pa.string()), pa.field("detail", pa.string())])


@dataclass(frozen=True, slots=True)
class RowError:
    """Why one row was not scored.

    Attributes
    ----------
    row : int
        Index of the row in the batch that was encoded.
    feature : str
        The first feature that broke a rule.
    detail : str
        The rule, and the value that broke it.
    rule : {"null", "type", "range", "unseen"}
        Which rule it was, for counting.
    """

    row: int
    feature: str
    detail: str
    rule: Rule


def add_unreadable(batch: pa.RecordBatch, errors: Iterable[RowError]) -> pa.RecordBatch:
    """Return the batch with the column `UNREADABLE`, when there are errors of its reader."""
    found: list[Any] = [None] * batch.num_rows
    known = False
    for error in errors:
        found[error.row] = {"feature": error.feature, "detail": error.detail}
        known = True
    return batch.append_column(pa.field(UNREADABLE, _TYPE), pa.array(found, _TYPE)) if known else batch


def list_unreadable(batch: pa.RecordBatch) -> dict[int, RowError]:
    """Return what the reader of the batch could not read, by row."""
    at = batch.schema.get_field_index(UNREADABLE)
    if at < 0:
        return {}
    values = batch.column(at).to_pylist()
    return {row: RowError(row, value["feature"], value["detail"], "type") for row, value in enumerate(values) if value}
