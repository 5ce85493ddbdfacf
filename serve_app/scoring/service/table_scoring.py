"""Score many rows of one request: slices of a table through the same replicas as single rows."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.errors import DeadlineExceededError, OverloadedError, PayloadTooLargeError
from serve_app.features.core.row_errors import RowError
from serve_app.models.core.manifest import Manifest
from serve_app.models.core.outputs import MAX_EXPLAINED_ROWS, Extra, choose_labels
from serve_app.models.core.recommendation import BANDS
from serve_app.scoring.service.version_scorer import VersionScorer

SLICE_ROWS: Final = 16_384
"""Rows of one call: about 3 ms of prediction, so online rows on the same replica wait no longer than that."""
MAX_SLICES: Final = 4
"""Slices of one Gateway under way at once; more would only queue at the replicas."""
MAX_WAITING_ROWS: Final = 1_000_000
"""Rows of tables that may wait in one Gateway; more are refused (about 200 MB)."""


@dataclass(frozen=True, slots=True)
class TableScores:
    """The answer for a table of n rows.

    Attributes
    ----------
    manifest : Manifest
        Of the version that answered.
    values : dict of str to ndarray of float64
        ``prediction``, (n,) or (n, k) by the model's task, and the extras that were asked for; NaN
        for rejected rows.
    version : int
    errors : tuple of RowError
        One per rejected row, ordered by row.
    """

    manifest: Manifest
    values: dict[str, NDArray[np.float64]]
    version: int
    errors: tuple[RowError, ...]

    @property
    def predictions(self) -> NDArray[np.float64]:
        """Probabilities, (n,) or (n, k), or values of a regression, (n,); NaN for rejected rows."""
        return self.values["prediction"]

    @property
    def n_rows(self) -> int:
        """Rows of the table."""
        return len(self.predictions)

    @property
    def rejected(self) -> NDArray[np.int64]:
        """Indices of the rejected rows, ascending."""
        return np.fromiter((e.row for e in self.errors), np.int64, len(self.errors))

    @property
    def bands(self) -> NDArray[np.int8]:
        """Recommendations of a binary model as indices into `BANDS`, (n,); -1 for rejected rows."""
        bands = self.manifest.thresholds.band_many(self.predictions)
        bands[self.rejected] = -1
        return bands

    @property
    def recommendations(self) -> NDArray[np.str_]:
        """Recommendations of a binary model, (n,); empty for rejected rows."""
        return np.append(BANDS, "")[self.bands]

    @property
    def labels(self) -> NDArray[np.str_]:
        """Most probable classes, (n,); empty for rejected rows."""
        return choose_labels(self.manifest, self.predictions)

    def list_messages(self, blank: str | None) -> list[str | None]:
        """Return what is wrong with each row, (n,); `blank` where nothing is."""
        messages = [blank] * self.n_rows
        for error in self.errors:
            messages[error.row] = f"{error.feature} {error.detail}"
        return messages


class TableScorer:
    """Scores tables with whichever `VersionScorer` it is given, a few slices at a time."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(MAX_SLICES)
        self._n_rows = 0

    async def score(
        self,
        scorer: VersionScorer,
        batch: pa.RecordBatch,
        deadline_at: float,
        extras: Sequence[Extra] = (),
    ) -> TableScores:
        """Score a table before `deadline_at` (event-loop time).

        Parameters
        ----------
        scorer : VersionScorer
        batch : RecordBatch
            Columns by feature name.
        deadline_at : float
        extras : sequence of {"raw", "shap"}
            What to compute beside the prediction.

        Raises
        ------
        PayloadTooLargeError
            SHAP values of more than `MAX_EXPLAINED_ROWS` rows.
        NotReadyError
            Overloaded, no replica, or the deadline passed; nothing of the table is answered then.
        """
        if "shap" in extras and batch.num_rows > MAX_EXPLAINED_ROWS:
            raise PayloadTooLargeError(
                f"SHAP values are given for at most {MAX_EXPLAINED_ROWS} rows a request, not {batch.num_rows}"
            )
        if self._n_rows and self._n_rows + batch.num_rows > MAX_WAITING_ROWS:
            raise OverloadedError("too many rows of other tables wait", 2.0)
        self._n_rows += batch.num_rows
        try:
            async with asyncio.timeout_at(deadline_at), asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._score_slice(scorer, part, start, deadline_at, extras))
                    for start, part in _slices(batch)
                ]
        except TimeoutError as exc:
            raise DeadlineExceededError("the table was not scored before the request's deadline", 1.0) from exc
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from group_error
        finally:
            self._n_rows -= batch.num_rows
        return _join(scorer, [task.result() for task in tasks])

    async def _score_slice(
        self, scorer: VersionScorer, batch: pa.RecordBatch, start: int, deadline_at: float, extras: Sequence[Extra]
    ) -> tuple[dict[str, NDArray[np.float64]], list[RowError]]:
        async with self._places:
            encoded, found = await scorer.score_batch(batch, deadline_at, extras)
        values = {name: _spread(part, encoded.rows, batch.num_rows) for name, part in found.items()}
        return values, [dataclasses.replace(e, row=e.row + start) for e in encoded.errors]


def _spread(found: NDArray[np.float64], rows: NDArray[np.int64], n_rows: int) -> NDArray[np.float64]:
    """Return values of accepted rows in the table's order, NaN between them."""
    if len(found) == n_rows:
        return np.array(found)
    spread = np.full((n_rows, *found.shape[1:]), np.nan)
    spread[rows] = found
    return spread


def _slices(batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    for start in range(0, max(batch.num_rows, 1), SLICE_ROWS):
        yield start, batch.slice(start, SLICE_ROWS)


def _join(
    scorer: VersionScorer,
    parts: list[tuple[dict[str, NDArray[np.float64]], list[RowError]]],
) -> TableScores:
    values = {name: np.concatenate([part[name] for part, _ in parts]) for name in parts[0][0]}
    errors = tuple(error for _, found in parts for error in found)
    return TableScores(scorer.manifest, values, scorer.version, errors)
