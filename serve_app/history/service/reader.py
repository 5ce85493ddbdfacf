"""History for the rows of an Encoder: looked up beside the event loop, and never at the price of a score."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.errors import BadRequestError, NotReadyError, ScorecatError
from serve_app.features.core.encoding import EncodedBatch, FeatureEncoder
from serve_app.features.core.row_keys import TIME_KEY
from serve_app.features.core.specs import HISTORY_NAMES
from serve_app.history.core.lookup_status import FOUND, NEW, NO_KEYS, OFF, UNAVAILABLE, judge_rows
from serve_app.history.service.live_history import Histories, LiveHistory, ScoredRow
from serve_app.runtime.log_once import LogOnce

SLICE_ROWS: Final = 512
"""Rows of one look-up of a table, about 10 ms: other look-ups come between two of them."""
INLINE_ROWS: Final = 256
"""Most rows of a look-up on the event loop, about 5 ms."""
QUICK_SHARE: Final = 5
"""A thread's look-up that takes less than the timeout divided by this shows that the store is quick again."""
FIRST_RETRY_S: Final = 0.05
LAST_RETRY_S: Final = 1.0
"""How soon a store that failed is tried again, beside the requests; twice as long each time."""

_PROBE: Final = ScoredRow("probe", "probe", "probe", 1.0)
logger = logging.getLogger("scorecat.state")


@dataclass(frozen=True, slots=True)
class RowHistories:
    """History of the rows of a batch.

    Attributes
    ----------
    features : dict of str to ndarray of float32, shape (n,)
        By feature; NaN where nothing is known. Empty when nothing is known of any row.
    statuses : ndarray of uint8, shape (n,)
        Index into `serve_app.history.core.lookup_status.HISTORY_STATUSES`.
    ages_s : ndarray of float64
        Seconds since the latest event of its session, of each row whose session is known.
    """

    features: dict[str, NDArray[np.float32]]
    statuses: NDArray[np.uint8]
    ages_s: NDArray[np.float64]


class HistoryReader:
    """Looks up the rows of batches; while the store fails, nothing is asked of it but by a probe beside them.

    Parameters
    ----------
    open_history : callable or None
        Opens the store; called in a thread, and again after an error. None: no state is kept.
    timeout_s : float
        Longest wait for the store, once it is the batch's turn: while it answers, nothing else keeps a batch waiting
        but those before it.
    is_local : bool
        The store is a file of this machine: micro-batches are looked up on the event loop, since handing them to a
        thread costs as much CPU as the look-up. One that takes longer than `timeout_s` is the last: from then on a
        thread does it, until it is quick again.
    """

    def __init__(
        self, open_history: Callable[[], LiveHistory] | None, timeout_s: float, *, is_local: bool = False
    ) -> None:
        self._open = open_history
        self._timeout_s = timeout_s
        self._is_local = self._is_quick = is_local
        self._history: LiveHistory | None = None
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="state")
        self._turn = asyncio.Lock()
        self._recovery: asyncio.Task[None] | None = None
        self._trouble = LogOnce(logger)

    @property
    def is_down(self) -> bool:
        """Whether the store failed and has not answered a probe since."""
        return self._recovery is not None

    def prepare(self) -> None:
        """Open the store before the first row comes; what keeps it from that is logged, and tried again then."""
        if self._open is None:
            return
        try:
            self._call([_PROBE])
        except Exception as exc:  # noqa: BLE001 - scores do not need it
            logger.warning("the state cannot be used yet: %s", exc)

    async def read(self, batch: pa.RecordBatch, *, is_table: bool = False, must_answer: bool = False) -> RowHistories:
        """Return the history of a micro-batch in one round trip, within `timeout_s`; of a table a slice at a time.

        Raises
        ------
        NotReadyError
            With `must_answer`: the store does not answer.
        BadRequestError
            With `must_answer`: there are rows to look up, and no state is kept.
        """
        step = SLICE_ROWS if is_table else max(batch.num_rows, 1)
        statuses = judge_rows(batch)
        at = np.flatnonzero(statuses == NEW)
        if not len(at):
            return _nothing(statuses)
        if self._open is None:
            if must_answer:
                raise BadRequestError("this service keeps no history (SCORECAT_STATE=off), and rows ask for it")
            statuses[at] = OFF
            return _nothing(statuses)
        slices = [build_rows(batch, at[k : k + step]) for k in range(0, len(at), step)]
        try:
            return await self._look_up(slices, at, statuses)
        except ScorecatError:
            if must_answer:
                raise
            statuses[at] = UNAVAILABLE
            return _nothing(statuses)

    async def _look_up(
        self, slices: Sequence[list[ScoredRow]], at: NDArray[np.int64], statuses: NDArray[np.uint8]
    ) -> RowHistories:
        found = []
        for rows in slices:
            async with self._turn:
                found.append(await self._ask(rows))
        features = np.full((len(HISTORY_NAMES), len(statuses)), np.nan, dtype=np.float32)
        features[:, at] = np.concatenate([part.features for part in found], axis=1)
        is_known = np.concatenate([part.is_known for part in found])
        is_found = np.concatenate([part.is_found for part in found])
        statuses[at] = np.where(is_known, np.where(is_found, FOUND, NEW), NO_KEYS)
        ages_s = np.concatenate([part.age_s for part in found])
        return RowHistories(dict(zip(HISTORY_NAMES, features, strict=True)), statuses, ages_s[~np.isnan(ages_s)])

    async def _ask(self, rows: list[ScoredRow]) -> Histories:
        if self.is_down:
            raise NotReadyError("the store of the states does not answer", LAST_RETRY_S)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._run(rows)
        except Exception as exc:
            is_late = isinstance(exc, TimeoutError)
            what = f"did not answer within {self._timeout_s:g} s" if is_late else f"failed: {exc}"
            error = NotReadyError(f"the store of the states {what}", LAST_RETRY_S)
            self._give_up(error)
            raise error from exc

    async def _run(self, rows: list[ScoredRow]) -> Histories:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        if self._is_quick and self._history is not None and not self.is_down and len(rows) <= INLINE_ROWS:
            found = self._call(rows)
            self._is_quick = loop.time() - started_s <= self._timeout_s
            return found
        found = await loop.run_in_executor(self._threads, self._call, rows)
        self._is_quick = self._is_local and loop.time() - started_s <= self._timeout_s / QUICK_SHARE
        return found

    def _call(self, rows: list[ScoredRow]) -> Histories:
        if self._history is None:
            assert self._open is not None
            self._history = self._open()
        return self._history.lookup(rows)

    def _give_up(self, error: ScorecatError) -> None:
        if self._recovery is None:
            if self._trouble.is_new(error):
                logger.warning("scores use defaults until the store of the states answers again: %s", error)
            self._recovery = asyncio.get_running_loop().create_task(self._recover())

    async def _recover(self) -> None:
        wait_s = FIRST_RETRY_S
        while True:
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LAST_RETRY_S)
            try:
                await self._run([_PROBE])  # behind a look-up that still hangs, so that at most one does
            except Exception as exc:  # noqa: BLE001 - whatever it is, the next try may succeed
                self._trouble.is_new(exc)
                continue
            logger.warning("the store of the states answers again")
            self._recovery = None
            self._trouble.clear()
            return


def encode_rows(encoder: FeatureEncoder, batch: pa.RecordBatch, found: RowHistories | None) -> EncodedBatch:
    """Encode a batch with what was found of its rows; None for a model without history."""
    if found is None:
        return encoder.encode(batch)
    encoded = encoder.encode(batch, found.features)
    return dataclasses.replace(encoded, history=found.statuses[encoded.rows])


def build_rows(batch: pa.RecordBatch, at: NDArray[np.int64]) -> list[ScoredRow]:
    """Return some rows of a batch as the history wants them; columns as in `KEY_SCHEMA`."""
    taken = None if len(at) == batch.num_rows else pa.array(at)

    def values(name: str) -> list[Any]:
        index = batch.schema.get_field_index(name)
        if index < 0:
            return [None] * len(at)
        column = batch.column(index)
        found: list[Any] = (column if taken is None else column.take(taken)).to_pylist()
        return found

    names = ("user_id", "session_id", "product_id", "price", TIME_KEY, "category_id", "event_id")
    return [ScoredRow(*row) for row in zip(*map(values, names), strict=True)]


def _nothing(statuses: NDArray[np.uint8]) -> RowHistories:
    return RowHistories({}, statuses, np.empty(0))
