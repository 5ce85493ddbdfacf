"""The two deployments of a model version: plain classes that prove their package and then serve."""

from __future__ import annotations

import asyncio
import math
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serve_app.adapters.catboost_model import CatBoostScorer
from serve_app.adapters.package_dir import load_package, load_parts
from serve_app.core.encoding import EncodedBatch, FeatureEncoder, ModelRows
from serve_app.core.outputs import Extra
from serve_app.core.row_errors import RowError
from serve_app.deployments.bind_node import bind_to_node_address
from serve_app.deployments.meters import create_input_meter
from serve_app.deployments.parcels import PackedBatch, Parcel, pack, unpack
from serve_app.service.packaging import prove_encoder, prove_model

INLINE_ENCODE_ROWS: Final = 16_384
INLINE_PREDICT_ROWS: Final = 4096
"""Batches up to these (about 2 ms of work) are done on the event loop; larger ones in threads beside it,
so that online rows need not wait for them."""
SLICE_ROWS: Final = 8192
"""Most rows of one predict call in a thread."""


class Encoder:
    """Rows to matrices, for one package.

    Parameters
    ----------
    package : str
        Package directory; its golden rows must encode to their matrix exactly.
    model : handle
        The version's CatBoostModel: bound so that both are one Serve application; the Gateway
        calls it directly, so that each deployment's queue shows its own work.
    """

    def __init__(self, package: str, model: Any = None) -> None:
        bind_to_node_address()
        parts = load_parts(Path(package))
        self._encoder = FeatureEncoder(parts.manifest.features, parts.vocabularies)
        prove_encoder(parts, self._encoder)
        self._model = model
        self._meter = create_input_meter(parts.manifest.feature_names)

    async def encode(self, packed: PackedBatch) -> EncodedBatch:
        """Encode a batch, see `FeatureEncoder.encode`."""
        return await self._run(packed)

    async def encode_rows(
        self, packed: PackedBatch | Parcel, answer: str | None
    ) -> tuple[ModelRows | Parcel, NDArray[np.int64] | None, tuple[RowError, ...]]:
        """Encode a batch of a table; return what the model takes, the accepted rows (None for all), and errors.

        What is large is written to the file `answer`, which the caller reserved and removes.
        """
        encoded = await self._run(unpack(packed))
        return pack(encoded.for_model, answer), encoded.rows if encoded.errors else None, encoded.errors

    async def _run(self, packed: PackedBatch) -> EncodedBatch:
        batch = packed.unpack()
        if batch.num_rows <= INLINE_ENCODE_ROWS:
            encoded = self._encoder.encode(batch)
        else:
            encoded = await asyncio.to_thread(self._encoder.encode, batch)
        self._meter.note(encoded)
        return encoded


class CatBoostModel:
    """Matrices to probabilities, for one package.

    Parameters
    ----------
    package : str
        Package directory; the model must reproduce its golden probabilities.
    thread_count : int
        Threads of one predict call: the replica's CPUs.
    """

    def __init__(self, package: str, thread_count: int = 1) -> None:
        bind_to_node_address()
        loaded = load_package(Path(package), partial(CatBoostScorer.load, thread_count=thread_count))
        prove_model(loaded)
        self._model = loaded.model
        self._model.prepare_explanations()
        # A table comes alone more often than not, and then a core beside this one is idle.
        self._n_threads = min(2, os.cpu_count() or 1)
        self._threads = ThreadPoolExecutor(self._n_threads, thread_name_prefix="predict")

    async def predict(self, given: ModelRows | Parcel) -> NDArray[np.float64]:
        """Return what `CatBoostScorer.predict` gives for encoded rows, in their order."""
        matrix, strings = rows = unpack(given)
        n_rows = matrix.shape[0]
        if n_rows <= INLINE_PREDICT_ROWS:
            return self._model.predict(matrix, strings)
        n_slices = self._n_threads * math.ceil(n_rows / (self._n_threads * SLICE_ROWS))
        step = math.ceil(n_rows / n_slices)
        loop = asyncio.get_running_loop()
        parts = [
            loop.run_in_executor(self._threads, self._predict_slice, rows, start, start + step)
            for start in range(0, n_rows, step)
        ]
        return np.concatenate(await asyncio.gather(*parts))

    async def compute(self, extra: Extra, given: ModelRows | Parcel) -> NDArray[np.float64]:
        """Return raw scores or SHAP values, see `CatBoostScorer.predict_raw` and `explain`."""
        function = self._model.predict_raw if extra == "raw" else self._model.explain
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *unpack(given))

    def _predict_slice(self, rows: ModelRows, start: int, stop: int) -> NDArray[np.float64]:
        matrix, strings = rows
        # CatBoost reads a column-major matrix 1.3 times as fast, and a slice of one is neither.
        return self._model.predict(
            np.asfortranarray(matrix[start:stop]), None if strings is None else strings.slice(start, stop - start)
        )
