"""Look-ups on the event loop: quick stores only, and what is found does not depend on the way."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.errors import NotReadyError
from serve_app.features.core.row_keys import KEY_SCHEMA, REQUIRED_KEYS
from serve_app.features.core.specs import HISTORY_NAMES
from serve_app.history.core.lookup_status import FOUND, GIVEN, NEW, NO_KEYS, UNAVAILABLE, judge_rows
from serve_app.history.service.live_history import Histories
from serve_app.history.service.reader import INLINE_ROWS, HistoryReader

pytestmark = pytest.mark.unit

FIELDS = [pa.field(name, pa.float64()) for name in ("price", *HISTORY_NAMES)] + list(KEY_SCHEMA)
TIMEOUT_S = 0.2


class Store:
    """Stands for a live history that takes its time, or fails."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.error: Exception | None = None
        self.threads: list[threading.Thread] = []

    def lookup(self, rows) -> Histories:
        self.threads.append(threading.current_thread())
        time.sleep(self.delay_s)
        if self.error is not None:
            raise self.error
        n = len(rows)
        features = np.tile(np.arange(n, dtype=np.float32), (len(HISTORY_NAMES), 1))
        return Histories(features, np.ones(n, bool), np.ones(n, bool), np.zeros(n))

    @property
    def was_inline(self) -> bool:
        return self.threads[-1] is threading.main_thread()


def rows(n: int) -> pa.RecordBatch:
    row = {"price": 1.0, "user_id": "u", "session_id": "s", "product_id": "p"}
    return pa.RecordBatch.from_pylist([row] * n, schema=pa.schema(FIELDS))


async def make(store: Store, *, is_local: bool = True) -> HistoryReader:
    reader = HistoryReader(lambda: store, TIMEOUT_S, is_local=is_local)
    reader.prepare()
    return reader


async def recover(reader: HistoryReader) -> None:
    for _ in range(250):
        if not reader.is_down:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the store was not found to be back")


@pytest.mark.parametrize(
    ("n", "is_local", "is_inline"), [(1, True, True), (INLINE_ROWS, True, True), (1, False, False)]
)
def test_micro_batches_of_a_local_store_are_looked_up_on_the_event_loop(n, is_local, is_inline):
    async def main() -> None:
        store = Store()
        reader = await make(store, is_local=is_local)
        found = await reader.read(rows(n))
        assert store.was_inline is is_inline
        assert found.statuses.tolist() == [FOUND] * n
        assert found.features[HISTORY_NAMES[0]].tolist() == list(range(n))

    asyncio.run(main())


def test_tables_are_looked_up_in_a_thread():
    async def main() -> None:
        store = Store()
        await (await make(store)).read(rows(INLINE_ROWS + 1), is_table=True)
        assert not store.was_inline

    asyncio.run(main())


def test_a_local_store_that_was_slow_once_is_asked_in_a_thread_until_it_is_quick():
    async def main() -> None:
        store = Store()
        reader = await make(store)
        store.delay_s = 1.2 * TIMEOUT_S
        await reader.read(rows(1))
        assert store.was_inline
        found = await reader.read(rows(1))
        assert not store.was_inline
        assert found.statuses.tolist() == [UNAVAILABLE]
        store.delay_s = 0.0
        await recover(reader)
        for _ in range(3):
            found = await reader.read(rows(1))
        assert found.statuses.tolist() == [FOUND]
        assert store.was_inline

    asyncio.run(main())


def test_a_local_store_that_fails_is_left_alone_until_a_probe_finds_it():
    async def main() -> None:
        store = Store()
        reader = await make(store)
        store.error = NotReadyError("no disk", 1.0)
        assert (await reader.read(rows(2))).statuses.tolist() == [UNAVAILABLE] * 2
        n = len(store.threads)
        assert (await reader.read(rows(2))).statuses.tolist() == [UNAVAILABLE] * 2
        assert len(store.threads) == n
        store.error = None
        await recover(reader)
        assert (await reader.read(rows(2))).statuses.tolist() == [FOUND] * 2

    asyncio.run(main())


@given(
    st.lists(st.lists(st.booleans(), min_size=20, max_size=20), min_size=1, max_size=40),
    st.integers(0, 9),
    st.sets(st.integers(0, 19)),
)
def test_rows_are_judged_as_one_by_one(given_ones, offset, absent):
    names = (*HISTORY_NAMES, *REQUIRED_KEYS, "price")
    assert len(names) == 20
    types = {field.name: field.type for field in FIELDS}

    def value(name: str, is_given: bool):
        return None if not is_given else ("x" if types[name] == pa.string() else 1.0)

    kept = [k for k in range(20) if k not in absent]
    arrays = [pa.array([value(names[k], row[k]) for row in given_ones], types[names[k]]) for k in kept]
    arrays.append(pa.array(range(len(given_ones))))
    batch = pa.RecordBatch.from_arrays(arrays, [*(names[k] for k in kept), "other"]).slice(offset)
    expected = []
    for row in given_ones[offset:]:
        has = [row[k] and k not in absent for k in range(20)]
        expected.append(GIVEN if all(has[:16]) else NEW if all(has[16:]) else NO_KEYS)
    assert judge_rows(batch).tolist() == expected
