"""The two deployments of a model version: plain classes that prove their package and then serve."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.adapters.catboost_model import CatBoostScorer
from serve_app.adapters.package_dir import load_package, load_parts
from serve_app.core.encoding import EncodedBatch, FeatureEncoder
from serve_app.deployments.bind_node import bind_to_node_address
from serve_app.service.packaging import prove_encoder, prove_model

INLINE_ROWS: Final = 1024
"""Batches up to here (about 1 ms of work) are done on the event loop; a thread costs more than it saves."""


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

    async def encode(self, batch: pa.RecordBatch) -> EncodedBatch:
        """Encode a batch, see `FeatureEncoder.encode`."""
        if batch.num_rows <= INLINE_ROWS:
            return self._encoder.encode(batch)
        return await asyncio.to_thread(self._encoder.encode, batch)


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

    async def predict(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return P(class 1), (n,), for a matrix (n, n_features)."""
        if matrix.shape[0] <= INLINE_ROWS:
            return self._model.predict(matrix)
        return await asyncio.to_thread(self._model.predict, matrix)
