"""The rows a model is trained and measured on: collected, split by time, encoded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve_app.errors import InvalidDataError, InvariantError
from serve_app.events.service.partitions import EventSource, LogSummary, Spill, hash_ids
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.specs import PURCHASE_FEATURES, PURCHASE_NAMES, UNKNOWN_CLASS
from serve_app.training.core.target import SLICE_NAMES, STOP, TEST, TRAIN, TimeSplit, choose_split
from serve_app.training.service.features_table import build_features

MIN_POSITIVES: Final = {TRAIN: 5, STOP: 1, TEST: 1}
"""Fewest positives (and negatives) of each slice for which training means anything at all."""

MIN_COUNT: Final = 20
"""A class with fewer training rows is encoded as ``__unknown__``."""
MAX_CLASSES: Final = 1000
"""Most classes of one feature; the most frequent are kept."""
_HASH_RANGE: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Rows of closed sessions, sorted by (time, position in the log).

    Attributes
    ----------
    table : Table
        See `serve_app.training.service.features_table.build_features`.
    split : TimeSplit
    summary : LogSummary
        What was read.
    n_open : int
        Rows left out because their session may go on after the end of the log.
    user_share : float
        Share of the users whose rows were kept, below 1 when the log has more rows than allowed.
    """

    table: pa.Table
    split: TimeSplit
    summary: LogSummary
    n_open: int
    user_share: float

    @property
    def target(self) -> NDArray[np.bool_]:
        """Whether the row's user buys its product later in its session, (n,)."""
        return np.asarray(self.table.column("target").to_numpy())

    @property
    def users(self) -> NDArray[np.int64]:
        """Dense user codes, (n,)."""
        return np.asarray(self.table.column("user_id").combine_chunks().indices.to_numpy(), dtype=np.int64)

    def fingerprint(self) -> str:
        """SHA-256 over times, targets and features of all rows."""
        digest = hashlib.sha256()
        for name in ("time_s", *PURCHASE_NAMES, "target"):
            column = self.table.column(name).combine_chunks()
            if pa.types.is_dictionary(column.type):
                digest.update("\0".join(column.dictionary.to_pylist()).encode())
                column = column.indices.fill_null(-1)
            digest.update(np.ascontiguousarray(column.to_numpy(zero_copy_only=False)).tobytes())
        return digest.hexdigest()


def collect_rows(source: EventSource, spill: Spill, *, max_rows: int) -> TrainingRows:
    """Read a log, compute its features and split the rows by time.

    Parameters
    ----------
    source, spill
        The log, and a temporary place for a large one.
    max_rows : int
        When the log has more events, only the rows of a share of its users (by hash) are kept.

    Raises
    ------
    InvalidDataError
        The log cannot be read, or a slice has too few positives or negatives to learn or measure.
    """
    summary = LogSummary()
    tables: list[pa.Table] = []
    n_open, user_share = 0, 1.0
    for table in build_features(source, spill, summary):
        user_share = min(1.0, max_rows / summary.n_events)
        n_open += pc.sum(table.column("may_be_open")).as_py() or 0
        keep = ~table.column("may_be_open").to_numpy()
        if user_share < 1:
            keep &= hash_ids(table.column("user_id").combine_chunks().dictionary_decode()) < user_share * _HASH_RANGE
        tables.append(table.filter(pa.array(keep)))
    table = _in_order(tables)
    split = choose_split(table.column("session_start_s").to_numpy())
    rows = TrainingRows(table, split, summary, n_open, user_share)
    _check_positives(rows)
    return rows


def _in_order(tables: Sequence[pa.Table]) -> pa.Table:
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    if len(tables) == 1:
        return table
    order = np.lexsort((table.column("position").to_numpy(), table.column("time_s").to_numpy()))
    return table.take(pa.array(order)).combine_chunks()


def _check_positives(rows: TrainingRows) -> None:
    target = rows.target
    for code, least in MIN_POSITIVES.items():
        chosen = target[rows.split.slices == code]
        n_positive = int(chosen.sum())
        if min(n_positive, len(chosen) - n_positive) < least:
            raise InvalidDataError(
                f"the {SLICE_NAMES[code]} slice has {len(chosen)} rows, {n_positive} of them followed by a purchase of "
                f"their product in their session; at least {least} with and {least} without are needed. The log has "
                f"{rows.summary.n_events} events (dropped: {dict(rows.summary.dropped)}) and {rows.n_open} rows in "
                f"sessions that may still be open"
            )


def choose_vocabularies(rows: TrainingRows) -> dict[str, list[str]]:
    """Return the classes of each categorical feature in the training slice, by name, ``__unknown__`` last."""
    train = pa.array(rows.split.slices == TRAIN)
    out = {}
    for spec in PURCHASE_FEATURES:
        if spec.kind == "categorical":
            column = rows.table.column(spec.name).combine_chunks().filter(train).fill_null(str(spec.fill))
            counts = {c["values"]: c["counts"] for c in column.value_counts().to_pylist()}
            frequent = [name for name, n in counts.items() if n >= MIN_COUNT and name != UNKNOWN_CLASS]
            names = sorted(frequent, key=lambda name: (-counts[name], name))
            out[spec.name] = [*sorted({*names[:MAX_CLASSES], str(spec.fill)}), UNKNOWN_CLASS]
    return out


def encode_rows(rows: TrainingRows, vocabularies: Mapping[str, Sequence[str]]) -> NDArray[np.float32]:
    """Encode all rows with the encoder that serves, (n, 22), column-major."""
    batch = rows.table.select(PURCHASE_NAMES).combine_chunks().to_batches()[0]
    encoded = FeatureEncoder(PURCHASE_FEATURES, vocabularies).encode(batch)
    if encoded.errors:
        raise InvariantError(f"a row of the log was rejected by the encoder: {encoded.errors[0]}")
    return encoded.matrix
