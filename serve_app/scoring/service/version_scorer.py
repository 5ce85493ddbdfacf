"""Score rows with the replicas of one version: batch, encode, predict, retry once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.errors import (
    FieldError,
    InvalidRowError,
    InvariantError,
    NotReadyError,
    ReplicaLostError,
    point_at,
)
from serve_app.features.core.encoding import EncodedBatch
from serve_app.features.core.row_keys import KEY_SCHEMA
from serve_app.features.core.specs import arrow_schema
from serve_app.history.core.lookup_status import HISTORY_STATUSES
from serve_app.models.core.manifest import Manifest
from serve_app.models.core.outputs import Extra
from serve_app.models.core.recommendation import Recommendation
from serve_app.models.service.ports import EncodedRows, EncoderPort, ModelPort
from serve_app.runtime.microbatch import BatchLimits, MicroBatcher

CALL_TIMEOUT_S: Final = 2.0
"""A replica that has not answered a micro-batch by then (normally milliseconds) is taken for lost."""
EXTRA_TIMEOUT_S: Final = 15.0
"""The same for raw scores and SHAP values, which take a second and more for many rows."""
COOL_DOWN_S: Final = 0.5
"""After a lost batch, rows are refused at once for this long before the next batch tries again."""

logger = logging.getLogger("scorecat.scoring")
T = TypeVar("T")
Values = Sequence[Any]
"""One row: values of the model's features in the model's order, None where the caller gave none; for the purchase
model those of `serve_app.features.core.row_keys.KEY_SCHEMA` may follow."""


@dataclass(frozen=True, slots=True)
class Score:
    """The answer for one row.

    Attributes
    ----------
    probability : float
        Probability of the positive class, 0-1, exactly as CatBoost returned it.
    recommendation : str
        Band of the probability.
    version : int
        Version that answered.
    encoded : EncodedBatch
        The micro-batch that the row travelled with.
    index : int
        Place of the row in ``encoded.matrix``.
    """

    probability: float
    recommendation: Recommendation
    version: int
    encoded: EncodedBatch
    index: int

    @property
    def sources(self) -> bytes:
        """For each feature an index into `serve_app.features.core.sources.SOURCE_NAMES`."""
        row: NDArray[np.uint8] = self.encoded.sources[self.index]
        return row.tobytes()

    @property
    def values(self) -> tuple[float, ...]:
        """The encoded row, in the model's order."""
        return tuple(self.encoded.matrix[self.index].tolist())

    @property
    def history(self) -> str:
        """What became of its look-up, one of `HISTORY_STATUSES`; empty without history."""
        found = self.encoded.history
        return HISTORY_STATUSES[found[self.index]] if found is not None else ""


class VersionScorer:
    """Scores rows with the replicas of one version.

    Parameters
    ----------
    version : int
    manifest : Manifest
    encoder, model : ports to the version's replicas
    limits : BatchLimits
    """

    def __init__(
        self, version: int, manifest: Manifest, encoder: EncoderPort, model: ModelPort, limits: BatchLimits
    ) -> None:
        self.version = version
        self.manifest = manifest
        self.is_purchase = manifest.is_purchase
        self._encoder = encoder
        self._model = model
        self._fields = list(arrow_schema(manifest.features))
        self._row_fields = [*self._fields, *(KEY_SCHEMA if manifest.is_purchase else ())]
        self._batcher: MicroBatcher[Values, Score] = MicroBatcher(self._score_rows, limits)
        self._lost_until = 0.0
        self._is_lost = False

    async def score(self, values: Values, deadline_at: float) -> Score:
        """Score one row before `deadline_at` (event-loop time).

        Raises
        ------
        InvalidRowError
            The encoder rejected the row; `errors` names the feature.
        NotReadyError
            Overloaded, no replica, or the deadline passed.
        """
        self.check_answering()
        return await self._batcher.submit(values, deadline_at)

    def put(self, values: Values, deadline_at: float, settle: Callable[[Score | Exception], None]) -> None:
        """Score one row as `score` does, and call `settle` with what it would return or raise; raises NotReadyError."""
        self.check_answering()
        self._batcher.put(values, deadline_at, settle)

    async def score_batch(
        self, batch: pa.RecordBatch, deadline_at: float, extras: Sequence[Extra] = ()
    ) -> tuple[EncodedRows, dict[str, NDArray[np.float64]]]:
        """Encode and predict a batch as it is.

        Returns
        -------
        EncodedRows
            Accepted rows and errors; what the model took has been released.
        dict of str to ndarray
            Of the accepted rows: ``prediction``, and every extra that was asked for.
        """
        self.check_answering()
        encoded = await self._retry(partial(self._encoder.encode_rows, batch), deadline_at)
        rows = encoded.for_model
        try:
            found = {"prediction": await self._retry(partial(self._model.predict, rows), deadline_at)}
            for extra in extras:
                compute = partial(self._model.compute, extra, rows)
                found[extra] = await self._retry(compute, deadline_at, EXTRA_TIMEOUT_S)
            return encoded, found
        finally:
            encoded.release()

    async def explain(self, values: Values, deadline_at: float) -> NDArray[np.float64]:
        """Return one row's SHAP values, (n_features + 1,); their sum is its raw score, which the model checks."""
        _, found = await self.score_batch(self._build_batch([values]), deadline_at, ("shap",))
        shap: NDArray[np.float64] = found["shap"][0]
        return shap

    async def probe(self) -> None:
        """Send no rows through both deployments; raises ReplicaLostError while one is gone."""
        nothing = pa.RecordBatch.from_pylist([], pa.schema(self._fields))
        await self.score_batch(nothing, asyncio.get_running_loop().time() + CALL_TIMEOUT_S)

    @property
    def n_waiting(self) -> int:
        """Single rows that wait for a batch to leave."""
        return self._batcher.n_waiting

    @property
    def is_answering(self) -> bool:
        """False from the moment a batch was lost until one is answered again."""
        return not self._is_lost

    def check_answering(self) -> None:
        """Raise ReplicaLostError for a short while after a batch was lost."""
        wait_s = self._lost_until - asyncio.get_running_loop().time()
        if wait_s > 0:
            raise ReplicaLostError(f"version {self.version} lost its replicas and is coming back", max(1.0, wait_s))

    async def _score_rows(self, rows: Sequence[Values], deadline_at: float) -> Sequence[Score | Exception]:
        batch = self._build_batch(rows)
        encoded = await self._retry(partial(self._encoder.encode, batch), deadline_at)
        probabilities = await self._retry(partial(self._model.predict, encoded.for_model), deadline_at)
        return self._collect(len(rows), encoded, probabilities.tolist())

    def _build_batch(self, rows: Sequence[Values]) -> pa.RecordBatch:
        arrays, fields = [], []
        for field, values in zip(self._row_fields, zip(*rows, strict=True), strict=False):
            if any(v is not None for v in values):
                arrays.append(pa.array(values, field.type))
                fields.append(field)
        if not arrays:  # a record batch without columns forgets how many rows it has
            arrays, fields = [pa.nulls(len(rows), self._fields[0].type)], [self._fields[0]]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    async def _retry(
        self, call: Callable[..., Awaitable[T]], deadline_at: float, timeout_s: float = CALL_TIMEOUT_S
    ) -> T:
        """Call once more when the replica died under the first call and there is time left.

        The time a replica gets does not depend on the rows' deadlines: a caller with a deadline of
        a millisecond must not make a healthy replica look lost.
        """
        loop = asyncio.get_running_loop()
        is_last = False
        while True:
            try:
                answer = await call(timeout_s=timeout_s)
            except ReplicaLostError as exc:
                if is_last or loop.time() >= deadline_at:
                    self._lost_until, self._is_lost = loop.time() + COOL_DOWN_S, True
                    raise
                logger.warning("version %d lost a replica: %s", self.version, exc)
                is_last = True
            else:
                self._is_lost = False
                return answer

    def _collect(self, n_rows: int, encoded: EncodedBatch, probabilities: list[float]) -> list[Score | Exception]:
        results: list[Score | Exception] = [NotReadyError("the row was not scored")] * n_rows
        for error in encoded.errors:
            fields = (FieldError(point_at(error.feature), error.detail),)
            results[error.row] = InvalidRowError("the row cannot be scored", fields)
        recommend = self.manifest.thresholds.recommend
        for k, row in enumerate(encoded.rows.tolist()):
            p = probabilities[k]
            if 0.0 <= p <= 1.0:
                results[row] = Score(p, recommend(p), self.version, encoded, k)
            else:
                results[row] = InvariantError(f"version {self.version} answered {p} as a probability")
        return results
