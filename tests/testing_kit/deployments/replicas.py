"""Fakes that inherit the ports: the replicas of a version in this process, and a split in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.features.core.encoding import EncodedBatch, FeatureEncoder, ModelRows
from serve_app.history.service.reader import HistoryReader, encode_rows
from serve_app.http.admission import AccessLog, Meter
from serve_app.models.core.outputs import Extra
from serve_app.models.service.ports import EncodedRows, EncoderPort, Model, ModelPort, Package, SplitSource
from serve_app.runtime.microbatch import BatchLimits
from serve_app.scoring.service.traffic import Traffic
from serve_app.scoring.service.version_scorer import VersionScorer

Before = Callable[[], Awaitable[None]]
"""Awaited before a call is answered: raise in it to be a lost replica, wait in it to be a slow one."""


@dataclass
class LocalEncoder(EncoderPort):
    """Encodes in this process; `batches` is what came."""

    encoder: FeatureEncoder
    before: Before | None = None
    batches: list[pa.RecordBatch] = field(default_factory=list)
    reader: HistoryReader | None = None

    async def encode(self, batch: pa.RecordBatch, *, timeout_s: float) -> EncodedBatch:
        return await self._encode(batch, is_table=False)

    async def encode_rows(self, batch: pa.RecordBatch, *, timeout_s: float) -> EncodedRows:
        encoded = await self._encode(batch, is_table=True)
        return EncodedRows(encoded.for_model, encoded.rows, encoded.errors)

    async def _encode(self, batch: pa.RecordBatch, *, is_table: bool) -> EncodedBatch:
        self.batches.append(batch)
        if self.before is not None:
            await self.before()
        found = await self.reader.read(batch, is_table=is_table) if self.reader else None
        return encode_rows(self.encoder, batch, found)


@dataclass
class LocalModel(ModelPort):
    """Predicts in this process with the real model; `n_calls` calls came."""

    model: Model
    before: Before | None = None
    n_calls: int = 0

    async def predict(self, rows: ModelRows, *, timeout_s: float) -> NDArray[np.float64]:
        self.n_calls += 1
        if self.before is not None:
            await self.before()
        return self.model.predict(*rows)

    async def compute(self, extra: Extra, rows: ModelRows, *, timeout_s: float) -> NDArray[np.float64]:
        return self.model.predict_raw(*rows) if extra == "raw" else self.model.explain(*rows)


@dataclass
class MemorySplit(SplitSource):
    """A split record that a test can replace, or make unreadable."""

    record: Mapping[str, Any] | None = None
    error: Exception | None = None

    def read(self) -> Mapping[str, Any] | None:
        if self.error is not None:
            raise self.error
        return self.record


class MemoryAccessLog(AccessLog):
    """Keeps (request_id, method, path, status, version)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str, int, int | None]] = []

    def record(
        self, request_id: str, method: str, path: str, status: int, duration_s: float, version: int | None
    ) -> None:
        assert duration_s >= 0
        self.lines.append((request_id, method, path, status, version))


def make_scorer(
    package: Package,
    *,
    version: int = 1,
    limits: BatchLimits | None = None,
    before_encode: Before | None = None,
    before_predict: Before | None = None,
    reader: HistoryReader | None = None,
) -> tuple[VersionScorer, LocalEncoder, LocalModel]:
    """Return a scorer over local replicas of a package, and the replicas."""
    inner = FeatureEncoder(package.manifest.features, package.vocabularies)
    encoder = LocalEncoder(inner, before_encode, reader=reader)
    model = LocalModel(package.model, before_predict)
    return VersionScorer(version, package.manifest, encoder, model, limits or BatchLimits()), encoder, model


async def make_traffic(scorer: VersionScorer) -> Traffic:
    """Return traffic whose split names this scorer's version alone."""

    async def connect(name: str, version: int) -> VersionScorer:
        assert (name, version) == (scorer.manifest.name, scorer.version)
        return scorer

    traffic = Traffic(MemorySplit({"model": scorer.manifest.name, "stable": scorer.version, "revision": 1}), connect)
    await traffic.refresh()
    return traffic


class MemoryMeter(Meter):
    """Keeps what was counted: (route, code), (route, n), and (route, status, version)."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, int, int | None]] = []
        self.problems: list[tuple[str, str]] = []
        self.ignored: list[tuple[str, int]] = []
        self.events: list[tuple[str, str, int]] = []

    def count_request(self, route: str, status: int, version: int | None, duration_s: float) -> None:
        assert duration_s >= 0
        self.requests.append((route, status, version))

    def count_problem(self, route: str, code: str) -> None:
        self.problems.append((route, code))

    def count_ignored_columns(self, route: str, n: int) -> None:
        self.ignored.append((route, n))

    def count_events(self, route: str, kind: str, n: int) -> None:
        self.events.append((route, kind, n))
