"""The two deployments of a model version: plain classes that prove their package and then serve."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serve_app.cluster.ray_internals import bind_to_node_address
from serve_app.deployments.calls.direct_replica import DirectReplica
from serve_app.deployments.calls.shared_arrays import PackedBatch, SharedArray, pack, unpack
from serve_app.deployments.meters import create_input_meter
from serve_app.features.core.encoding import EncodedBatch, FeatureEncoder, ModelRows
from serve_app.features.core.row_errors import RowError
from serve_app.history.adapters.open_store import open_live_history
from serve_app.history.service.config import StateConfig
from serve_app.history.service.reader import HistoryReader, encode_rows
from serve_app.models.adapters.package_dir import load_package, load_parts
from serve_app.models.catboost.scorer import CatBoostScorer
from serve_app.models.core.outputs import Extra
from serve_app.models.service.packaging import prove_encoder, prove_model

INLINE_ENCODE_ROWS: Final = 16_384
INLINE_PREDICT_ROWS: Final = 4096
"""Batches up to these (about 2 ms of work) are done on the event loop; larger ones in threads beside it,
so that online rows need not wait for them."""
SLICE_ROWS: Final = 8192
"""Most rows of one predict call in a thread."""
BULK_SLICE_ROWS: Final = 4096
"""Most rows of one predict call for a batch job."""
BULK_EXPLAIN_ROWS: Final = 512
"""Most rows of one SHAP call for a batch job, about 20 ms of work."""
BULK_NICENESS: Final = 15
"""Threads of batch jobs get about a thirtieth of a core that an online thread wants at the same time."""


PackedRows = tuple[ModelRows | SharedArray, NDArray[np.int64] | None, tuple[RowError, ...]]
"""What the model takes, the accepted rows (None for all), and the errors of the others."""


def _pack_rows(encoded: EncodedBatch, answer: str | None) -> PackedRows:
    return pack(encoded.for_model, answer), encoded.rows if encoded.errors else None, encoded.errors


def _create_bulk_threads(n: int) -> ThreadPoolExecutor:
    """Return threads for batch jobs; on Linux niceness is a thread's own."""

    def step_back() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BULK_NICENESS)

    return ThreadPoolExecutor(n, thread_name_prefix="bulk", initializer=step_back)


class Encoder(DirectReplica):
    """Rows to matrices, for one package.

    Parameters
    ----------
    package : str
        Package directory; its golden rows must encode to their matrix exactly.
    model : handle
        The version's CatBoostModel: bound so that both are one Serve application; the Gateway
        calls it directly, so that each deployment's queue shows its own work.
    state : StateConfig, optional
        Where history is looked up, for a model with the purchase inputs; without it what a request
        does not bring takes its default.
    """

    METHODS = ("encode", "encode_rows", "encode_bulk")

    def __init__(self, package: str, model: Any = None, state: StateConfig | None = None) -> None:
        bind_to_node_address()
        parts = load_parts(Path(package))
        self._encoder = FeatureEncoder(parts.manifest.features, parts.vocabularies)
        prove_encoder(parts, self._encoder)
        self._model = model
        self._meter = create_input_meter(parts.manifest.feature_names)
        self._reader: HistoryReader | None = None
        if parts.manifest.is_purchase:
            open_history = partial(open_live_history, state) if state else None
            is_local = state is not None and state.is_local
            self._reader = HistoryReader(open_history, state.timeout_s if state else 0.0, is_local=is_local)
            self._reader.prepare()
        self._bulk_threads = _create_bulk_threads(1)

    async def encode(self, packed: PackedBatch) -> EncodedBatch:
        """Encode a batch, see `FeatureEncoder.encode`."""
        return await self._run(packed)

    async def encode_rows(self, packed: PackedBatch | SharedArray, answer: str | None) -> PackedRows:
        """Encode a batch of a table; return what the model takes, the accepted rows (None for all), and errors.

        What is large is written to the file `answer`, which the caller reserved and removes.
        """
        return _pack_rows(await self._run(unpack(packed), is_table=True), answer)

    async def encode_bulk(self, packed: PackedBatch | SharedArray, answer: str | None) -> PackedRows:
        """Encode a batch of a job as `encode_rows` does, behind online rows.

        A job can wait for the store of the states: NotReadyError tells it to.
        """
        batch = unpack(packed).unpack()
        found = await self._reader.read(batch, is_table=True, must_answer=True) if self._reader else None

        def encode() -> tuple[EncodedBatch, PackedRows]:
            encoded = encode_rows(self._encoder, batch, found)
            return encoded, _pack_rows(encoded, answer)

        encoded, rows = await asyncio.get_running_loop().run_in_executor(self._bulk_threads, encode)
        self._meter.note(encoded, found)
        return rows

    async def _run(self, packed: PackedBatch, *, is_table: bool = False) -> EncodedBatch:
        batch, found = packed.unpack(), None
        if self._reader is not None:
            found = await self._reader.read(batch, is_table=is_table)
        if batch.num_rows <= INLINE_ENCODE_ROWS:
            encoded = encode_rows(self._encoder, batch, found)
        else:
            encoded = await asyncio.to_thread(encode_rows, self._encoder, batch, found)
        self._meter.note(encoded, found)
        return encoded


async def _run_slices(
    threads: ThreadPoolExecutor,
    function: Callable[[ModelRows, int, int], NDArray[np.float64]],
    rows: ModelRows,
    step: int,
) -> NDArray[np.float64]:
    """Return what a function gives for the rows, `step` at a time in threads."""
    loop, n_rows = asyncio.get_running_loop(), rows[0].shape[0]
    slices = [loop.run_in_executor(threads, function, rows, k, k + step) for k in range(0, max(n_rows, 1), step)]
    return np.concatenate(await asyncio.gather(*slices))


class CatBoostModel(DirectReplica):
    """Matrices to probabilities, for one package.

    Parameters
    ----------
    package : str
        Package directory; the model must reproduce its golden probabilities.
    thread_count : int
        Threads of one predict call: the replica's CPUs.
    """

    METHODS = ("predict", "predict_bulk", "compute", "compute_bulk")

    def __init__(self, package: str, thread_count: int = 1) -> None:
        bind_to_node_address()
        loaded = load_package(Path(package), partial(CatBoostScorer.load, thread_count=thread_count))
        prove_model(loaded)
        self._model = loaded.model
        self._model.prepare_explanations()
        # A table comes alone more often than not, and then a core beside this one is idle.
        self._n_threads = min(2, os.cpu_count() or 1)
        self._threads = ThreadPoolExecutor(self._n_threads, thread_name_prefix="predict")
        self._bulk_threads = _create_bulk_threads(self._n_threads)

    async def predict(self, given: ModelRows | SharedArray) -> NDArray[np.float64]:
        """Return what `CatBoostScorer.predict` gives for encoded rows, in their order."""
        matrix, strings = rows = unpack(given)
        n_rows = matrix.shape[0]
        if n_rows <= INLINE_PREDICT_ROWS:
            return self._model.predict(matrix, strings)
        n_slices = self._n_threads * math.ceil(n_rows / (self._n_threads * SLICE_ROWS))
        step = math.ceil(n_rows / n_slices)
        return await _run_slices(self._threads, self._predict_slice, rows, step)

    async def predict_bulk(self, given: ModelRows | SharedArray) -> NDArray[np.float64]:
        """Return what `predict` gives for a batch of a job, behind online rows.

        Online rows are predicted on the event loop, or in threads that the kernel prefers to these.
        """
        return await _run_slices(self._bulk_threads, self._predict_slice, unpack(given), BULK_SLICE_ROWS)

    async def compute_bulk(self, extra: Extra, given: ModelRows | SharedArray) -> NDArray[np.float64]:
        """Return what `compute` gives for a batch of a job, behind online rows."""
        function = self._model.predict_raw if extra == "raw" else self._model.explain

        def compute_slice(rows: ModelRows, start: int, stop: int) -> NDArray[np.float64]:
            matrix, strings = rows
            return function(matrix[start:stop], None if strings is None else strings.slice(start, stop - start))

        step = min(BULK_EXPLAIN_ROWS, self._model.max_explained_rows or BULK_EXPLAIN_ROWS)
        return await _run_slices(self._bulk_threads, compute_slice, unpack(given), step)

    async def compute(self, extra: Extra, given: ModelRows | SharedArray) -> NDArray[np.float64]:
        """Return raw scores or SHAP values, see `CatBoostScorer.predict_raw` and `explain`."""
        function = self._model.predict_raw if extra == "raw" else self._model.explain
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *unpack(given))

    def _predict_slice(self, rows: ModelRows, start: int, stop: int) -> NDArray[np.float64]:
        matrix, strings = rows
        # CatBoost reads a column-major matrix 1.3 times as fast, and a slice of one is neither.
        return self._model.predict(
            np.asfortranarray(matrix[start:stop]), None if strings is None else strings.slice(start, stop - start)
        )
