"""What was wrong with encoded values, counted by feature and kind: for metrics, and for reports of batch jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serve_app.features.core.encoding import EncodedBatch
from serve_app.features.core.row_errors import RULES
from serve_app.features.core.sources import FROM_DEFAULT, UNSEEN

DEFAULTED: Final = "defaulted"
UNSEEN_CLASS: Final = "unseen"
REJECTED: Final = "rejected_"
KINDS: Final = (DEFAULTED, UNSEEN_CLASS, *(f"{REJECTED}{rule}" for rule in RULES))
"""Kinds of values that are counted: two of rows that are scored, and one for each rule that rejects a row."""

LARGE_ROWS: Final = 4096
"""Batches of so many rows are worth a NumPy call each."""


@dataclass(frozen=True, slots=True)
class InputCounts:
    """Counts over encoded rows.

    Attributes
    ----------
    n_rows : int
        Rows that came.
    values : Counter of (feature, kind)
        Values by feature and kind (one of `KINDS`), those above 0. A rejected row counts once, for
        the value it was rejected for.
    """

    n_rows: int
    values: Counter[tuple[str, str]]


def count_inputs(names: Sequence[str], batches: Sequence[EncodedBatch]) -> InputCounts:
    """Count what happened to the values of encoded batches.

    Parameters
    ----------
    names : sequence of str
        The model's features, in its order.
    batches : sequence of EncodedBatch
        Of one encoder.

    Notes
    -----
    Pure. Small batches are counted together, which costs a hundredth of counting each: NumPy takes
    a microsecond a call, whatever there is to do. `benchmarks.inputs` measures it.
    """
    values: Counter[tuple[str, str]] = Counter()
    columns = [batch.sources.T for batch in batches]
    small = [part for part in columns if part.shape[1] < LARGE_ROWS]
    large = [part for part in columns if part.shape[1] >= LARGE_ROWS]
    for part in [np.concatenate(small, axis=1), *large] if small else large:
        values.update(_count_columns(names, part))
    n_rows = sum(part.shape[1] for part in columns)
    for batch in batches:
        n_rows += len(batch.errors)
        values.update((error.feature, f"{REJECTED}{error.rule}") for error in batch.errors)
    return InputCounts(n_rows, values)


def _count_columns(names: Sequence[str], columns: NDArray[np.uint8]) -> dict[tuple[str, str], int]:
    highest = columns.max(axis=1, initial=0).tolist()  # a third of the cost of counting, and often the end of it
    found = {
        (name, DEFAULTED): int(np.count_nonzero(column))
        for name, column, code in zip(names, columns == FROM_DEFAULT, highest, strict=True)
        if code >= FROM_DEFAULT
    }
    for name, column, code in zip(names, columns, highest, strict=True):
        if code == UNSEEN:
            found[name, UNSEEN_CLASS] = int(np.count_nonzero(column == UNSEEN))
            if not found[name, DEFAULTED]:
                del found[name, DEFAULTED]
    return found
