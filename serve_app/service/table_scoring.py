"""Score many rows of one request: slices of a table through the same replicas as single rows."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.core.encoding import RowError
from serve_app.core.errors import DeadlineExceededError, OverloadedError
from serve_app.core.recommendation import BANDS
from serve_app.service.scoring import VersionScorer

SLICE_ROWS: Final = 16_384
"""Rows of one call: about 3 ms of prediction, so online rows on the same replica wait no longer than that."""
MAX_SLICES: Final = 4
"""Slices of one Gateway under way at once; more would only queue at the replicas."""
MAX_WAITING_ROWS: Final = 1_000_000
"""Rows of tables that may wait in one Gateway; more are refused (about 200 MB)."""


@dataclass(frozen=True, slots=True)
class TableScores:
    """The answer for a table.

    Attributes
    ----------
    probabilities : ndarray of float64, shape (n,)
        In row order; NaN for rejected rows.
    bands : ndarray of int8, shape (n,)
        Recommendations as indices into `serve_app.core.recommendation.BANDS`; -1 for rejected rows.
    version : int
    reason : str
        Why this version.
    errors : tuple of RowError
        One per rejected row, ordered by row.
    """

    probabilities: NDArray[np.float64]
    bands: NDArray[np.int8]
    version: int
    reason: str
    errors: tuple[RowError, ...]

    @property
    def recommendations(self) -> NDArray[np.str_]:
        """Words of the bands, (n,); empty for rejected rows."""
        return np.append(BANDS, "")[self.bands]


class TableScorer:
    """Scores tables with whichever `VersionScorer` it is given, a few slices at a time."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(MAX_SLICES)
        self._n_rows = 0

    async def score(
        self, scorer: VersionScorer, batch: pa.RecordBatch, deadline_at: float, known: tuple[RowError, ...] = ()
    ) -> TableScores:
        """Score a table before `deadline_at` (event-loop time).

        Parameters
        ----------
        scorer : VersionScorer
        batch : RecordBatch
            Columns by feature name.
        deadline_at : float
        known : tuple of RowError
            Rows that are known to be bad already; they are not scored.

        Raises
        ------
        NotReadyError
            Overloaded, no replica, or the deadline passed; nothing of the table is answered then.
        """
        if self._n_rows and self._n_rows + batch.num_rows > MAX_WAITING_ROWS:
            raise OverloadedError("too many rows of other tables wait", 2.0)
        self._n_rows += batch.num_rows
        try:
            async with asyncio.timeout_at(deadline_at), asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._score_slice(scorer, part, start, deadline_at))
                    for start, part in _slices(batch)
                ]
        except TimeoutError as exc:
            raise DeadlineExceededError("the table was not scored before the request's deadline", 1.0) from exc
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from group_error
        finally:
            self._n_rows -= batch.num_rows
        return _join(scorer, [task.result() for task in tasks], known)

    async def _score_slice(
        self, scorer: VersionScorer, batch: pa.RecordBatch, start: int, deadline_at: float
    ) -> tuple[NDArray[np.float64], list[RowError]]:
        async with self._places:
            encoded, found = await scorer.score_batch(batch, deadline_at)
        probabilities = np.full(batch.num_rows, np.nan)
        probabilities[encoded.rows] = found
        return probabilities, [dataclasses.replace(e, row=e.row + start) for e in encoded.errors]


def _slices(batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    for start in range(0, batch.num_rows, SLICE_ROWS):
        yield start, batch.slice(start, SLICE_ROWS)


def _join(
    scorer: VersionScorer, parts: list[tuple[NDArray[np.float64], list[RowError]]], known: tuple[RowError, ...]
) -> TableScores:
    probabilities = np.concatenate([p for p, _ in parts]) if parts else np.empty(0)
    errors = {e.row: e for _, found in parts for e in found} | {e.row: e for e in known}
    bad = np.fromiter(errors, np.int64, len(errors))
    probabilities[bad] = np.nan
    bands = scorer.manifest.thresholds.band_many(probabilities)
    bands[bad] = -1
    ordered = tuple(errors[row] for row in sorted(errors))
    return TableScores(probabilities, bands, scorer.version, "only-version", ordered)
