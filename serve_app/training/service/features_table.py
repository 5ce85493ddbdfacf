"""From an event log to a table of rows with their 22 features, keys and target.

Views and carts are rows; purchases are history and outcome only. Every feature is as of its row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.events.core.event_rows import PURCHASE
from serve_app.events.service.partitions import (
    MEMORY_ROWS,
    EventSource,
    LogSummary,
    Partition,
    Spill,
    read_partitions,
)
from serve_app.features.core.specs import HISTORY_NAMES, PURCHASE_NAMES
from serve_app.history.core.as_of import ACCUMULATOR_NAMES, accumulate_history, features_from_accumulators
from serve_app.training.core.target import may_be_open, purchase_target, session_end_s

KEY_COLUMNS: Final = ("position", "user_id", "user_session", "product_id", "event_type", "time_s")
TARGET_COLUMNS: Final = ("session_start_s", "session_end_s", "may_be_open", "target")
_DAY_S: Final = 86_400
_EPOCH_WEEKDAY: Final = 3
"""1970-01-01 was a Thursday; Monday is 0."""


def clock_features(time_s: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    """Return hour, day_of_week and is_weekend of times in UTC."""
    day = (time_s // _DAY_S + _EPOCH_WEEKDAY) % 7
    return {
        "hour": (time_s % _DAY_S // 3600).astype(np.float32),
        "day_of_week": day.astype(np.float32),
        "is_weekend": (day >= 5).astype(np.float32),  # noqa: PLR2004 Saturday
    }


def build_features(
    source: EventSource, spill: Spill, summary: LogSummary, *, memory_rows: int = MEMORY_ROWS
) -> Iterator[pa.Table]:
    """Yield the feature rows of a log, one table for each group of users.

    Parameters
    ----------
    source : EventSource
        The log, in any order.
    spill : Spill
        Temporary place, used when the log does not fit in memory.
    summary : LogSummary
        Filled while reading.
    memory_rows : int
        Events that may be held in memory.

    Yields
    ------
    Table
        `KEY_COLUMNS`, the 22 features (numbers as float32, price as float64, names as dictionaries) and
        `TARGET_COLUMNS`; one row for each view and cart, sorted by (event_time, position).

    Notes
    -----
    Memory: about 600 bytes for each event of the largest group of users.
    """
    for partition in read_partitions(source, spill, summary, memory_rows=memory_rows):
        yield feature_rows(partition, summary)


def feature_rows(partition: Partition, summary: LogSummary) -> pa.Table:
    """Return the feature rows of one group of users, see `build_features`."""
    events, table = partition.events, partition.table
    keep = np.flatnonzero(table.column("event_type").to_numpy() != PURCHASE)
    taken = table.take(pa.array(keep))
    columns: dict[str, Any] = {
        name: taken.column(name) for name in ("position", "user_id", "user_session", "product_id", "event_type")
    }
    columns["time_s"] = events.time_s[keep]
    accumulators = accumulate_history(events)[:, keep]
    columns |= _features(accumulators, columns["time_s"], taken)
    columns["session_start_s"] = columns["time_s"] - accumulators[ACCUMULATOR_NAMES.index("session_seconds")]
    end_s = session_end_s(events)[keep]
    columns["session_end_s"] = end_s
    columns["may_be_open"] = may_be_open(end_s, summary.first_s, summary.last_s)
    columns["target"] = purchase_target(events)[keep]
    return pa.table(columns)


def _features(accumulators: NDArray[np.int64], time_s: NDArray[np.int64], taken: pa.Table) -> dict[str, Any]:
    values: dict[str, Any] = dict(zip(HISTORY_NAMES, features_from_accumulators(accumulators), strict=True))
    values |= clock_features(time_s)
    values |= {name: taken.column(name) for name in ("price", "brand", "category_code")}
    return {name: values[name] for name in PURCHASE_NAMES}
