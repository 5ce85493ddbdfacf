"""Rows of concurrent requests travel together, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from serve_app.errors import DeadlineExceededError, InvalidRowError, InvariantError, OverloadedError
from serve_app.runtime.microbatch import BatchLimits, MicroBatcher
from tests.testing_kit import run_virtual

pytestmark = pytest.mark.unit

NEVER = 1e6


def now() -> float:
    return asyncio.get_running_loop().time()


class Runner:
    """Notes (time, rows) of every batch, takes `takes_s` for each, and answers row * 10."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s
        self.batches: list[tuple[float, list]] = []
        self.deadlines: list[float] = []
        self.most_under_way = self._under_way = 0

    async def __call__(self, rows, deadline_at):
        self.batches.append((round(now() - 100, 6), list(rows)))
        self.deadlines.append(deadline_at)
        self._under_way += 1
        self.most_under_way = max(self.most_under_way, self._under_way)
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self._under_way -= 1
        return [row * 10 for row in rows]

    @property
    def sizes(self) -> list[int]:
        return [len(rows) for _, rows in self.batches]


async def submit_all(batcher, rows, deadline_at=NEVER):
    return await asyncio.gather(*(batcher.submit(r, deadline_at) for r in rows), return_exceptions=True)


async def turns(n: int = 5) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


def test_a_row_that_finds_the_service_idle_leaves_at_once():
    async def main():
        runner = Runner(takes_s=0.003)
        batcher = MicroBatcher(runner, BatchLimits())
        assert await batcher.submit(1, NEVER) == 10
        await asyncio.sleep(1)
        assert await batcher.submit(2, NEVER) == 20
        assert runner.batches == [(0.0, [1]), (1.003, [2])]

    run_virtual(main())


def test_rows_of_one_turn_travel_together_in_order():
    async def main():
        runner = Runner()
        batcher = MicroBatcher(runner, BatchLimits())
        assert await submit_all(batcher, range(50)) == [r * 10 for r in range(50)]
        assert runner.batches == [(0.0, list(range(50)))]

    run_virtual(main())


def test_rows_gather_while_batches_are_under_way_and_leave_when_one_returns():
    async def main():
        runner = Runner(takes_s=0.01)
        batcher = MicroBatcher(runner, BatchLimits(eager_batches=1, linger_s=1.0))
        first = asyncio.create_task(batcher.submit(0, NEVER))
        await turns()
        others = []
        for row in range(1, 6):
            others.append(asyncio.create_task(batcher.submit(row, NEVER)))
            await asyncio.sleep(0.001)
        assert batcher.n_waiting == 5
        assert len(batcher._tasks) == 1
        assert await asyncio.gather(first, *others) == [0, 10, 20, 30, 40, 50]
        assert runner.batches == [(0.0, [0]), (0.01, [1, 2, 3, 4, 5])]

    run_virtual(main())


def test_rows_wait_no_longer_than_the_linger_when_batches_are_slow():
    async def main():
        runner = Runner(takes_s=10.0)
        batcher = MicroBatcher(runner, BatchLimits(eager_batches=2, max_batches=4, linger_s=0.02))
        tasks = []
        for row in range(4):
            tasks.append(asyncio.create_task(batcher.submit(row, NEVER)))
            await turns()
        await asyncio.gather(*tasks)
        assert runner.batches == [(0.0, [0]), (0.0, [1]), (0.02, [2, 3])]

    run_virtual(main())


def test_no_more_than_max_batches_are_ever_under_way():
    async def main():
        runner = Runner(takes_s=1.0)
        limits = BatchLimits(max_rows=2, eager_batches=1, max_batches=3, linger_s=0.01)
        batcher = MicroBatcher(runner, limits)
        assert await submit_all(batcher, range(40)) == [r * 10 for r in range(40)]
        assert runner.most_under_way == 3
        assert [r for _, rows in runner.batches for r in rows] == list(range(40))

    run_virtual(main())


def test_a_batch_has_at_most_max_rows():
    async def main():
        runner = Runner(takes_s=0.001)
        batcher = MicroBatcher(runner, BatchLimits(max_rows=16))
        assert await submit_all(batcher, range(100)) == [r * 10 for r in range(100)]
        assert max(runner.sizes) == 16
        assert [r for _, rows in runner.batches for r in rows] == list(range(100))

    run_virtual(main())


def test_a_row_that_fails_fails_alone():
    async def run(rows, deadline_at):
        return [InvalidRowError(f"row {r}") if r % 3 == 0 else r for r in rows]

    async def main():
        results = await submit_all(MicroBatcher(run, BatchLimits()), range(7))
        assert [r if isinstance(r, int) else str(r) for r in results] == ["row 0", 1, 2, "row 3", 4, 5, "row 6"]

    run_virtual(main())


def test_when_the_call_fails_all_rows_of_its_batch_fail_and_the_next_batch_is_sent():
    broken = [True]

    async def run(rows, deadline_at):
        if broken[0]:
            raise ValueError("broken")
        return rows

    async def main():
        batcher = MicroBatcher(run, BatchLimits())
        results = await submit_all(batcher, range(3))
        assert [str(r) for r in results] == ["broken"] * 3
        broken[0] = False
        assert await submit_all(batcher, range(3)) == [0, 1, 2]
        assert len(batcher._tasks) == batcher.n_waiting == 0

    run_virtual(main())


@pytest.mark.parametrize("answer", [[], [1], [1, 2, 3, 4]])
def test_a_wrong_number_of_results_is_nobodys_answer(answer):
    async def run(rows, deadline_at):
        return answer

    async def main():
        results = await submit_all(MicroBatcher(run, BatchLimits()), range(3))
        assert all(isinstance(r, InvariantError) for r in results)
        assert f"{len(answer)} results came back for 3 rows" in str(results[0])

    run_virtual(main())


def test_a_caller_gets_its_deadline_at_its_deadline_and_the_others_their_answer():
    async def main():
        runner = Runner(takes_s=1.0)
        batcher = MicroBatcher(runner, BatchLimits())
        hurried = asyncio.create_task(batcher.submit(1, now() + 0.25))
        patient = asyncio.create_task(batcher.submit(2, now() + 5))
        with pytest.raises(DeadlineExceededError):
            await hurried
        assert now() == pytest.approx(100.25)
        assert await patient == 20
        assert runner.deadlines == [105.0]

    run_virtual(main())


def test_a_row_whose_deadline_passed_in_the_queue_never_leaves():
    async def main():
        runner = Runner(takes_s=1.0)
        batcher = MicroBatcher(runner, BatchLimits(eager_batches=1, max_batches=1))
        first = asyncio.create_task(batcher.submit(0, NEVER))
        await turns()
        results = await submit_all(batcher, [1, 2], now() + 0.1)
        assert [type(r) for r in results] == [DeadlineExceededError] * 2
        last = asyncio.create_task(batcher.submit(3, NEVER))
        assert await asyncio.gather(first, last) == [0, 30]
        assert [rows for _, rows in runner.batches] == [[0], [3]]

    run_virtual(main())


def test_a_deadline_in_the_past_is_answered_at_once():
    async def main():
        batcher = MicroBatcher(Runner(takes_s=5.0), BatchLimits())
        with pytest.raises(DeadlineExceededError):
            await batcher.submit(1, now() - 1)
        assert now() == 100.0

    run_virtual(main())


def test_one_row_more_than_may_wait_is_refused_at_once():
    async def main():
        runner = Runner(takes_s=1.0)
        batcher = MicroBatcher(runner, BatchLimits(max_queued_rows=5, eager_batches=1, max_batches=1))
        first = asyncio.create_task(batcher.submit(0, NEVER))
        await turns()
        results = await submit_all(batcher, range(1, 8))
        refused = [r for r in results if isinstance(r, OverloadedError)]
        assert len(refused) == 2
        assert refused[0].retry_after_s == 1.0
        assert results[:5] == [10, 20, 30, 40, 50]
        assert await first == 0
        assert await batcher.submit(9, NEVER) == 90

    run_virtual(main())


def test_rows_that_nobody_waits_for_any_more_take_no_place_in_the_queue():
    async def main():
        batcher = MicroBatcher(Runner(takes_s=1.0), BatchLimits(max_queued_rows=3, eager_batches=1, max_batches=1))
        first = asyncio.create_task(batcher.submit(0, NEVER))
        await turns()
        await submit_all(batcher, range(1, 4), now() + 0.1)
        assert batcher.n_waiting == 0
        assert await batcher.submit(4, NEVER) == 40
        await first

    run_virtual(main())


def test_a_cancelled_callers_row_does_not_leave():
    async def main():
        runner = Runner(takes_s=1.0)
        batcher = MicroBatcher(runner, BatchLimits(eager_batches=1, linger_s=5))
        tasks = [asyncio.create_task(batcher.submit(row, NEVER)) for row in range(1)]
        await turns()
        tasks += [asyncio.create_task(batcher.submit(row, NEVER)) for row in range(1, 4)]
        await turns()
        tasks[2].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [results[0], results[1], results[3]] == [0, 10, 30]
        assert isinstance(results[2], asyncio.CancelledError)
        assert [rows for _, rows in runner.batches] == [[0], [1, 3]]

    run_virtual(main())


def test_a_caller_cancelled_under_way_spoils_nothing():
    async def main():
        batcher = MicroBatcher(Runner(takes_s=1.0), BatchLimits())
        tasks = [asyncio.create_task(batcher.submit(row, NEVER)) for row in range(3)]
        await asyncio.sleep(0.5)
        tasks[1].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert (results[0], results[2]) == (0, 20)

    run_virtual(main())


def test_nothing_is_left_scheduled_when_all_is_answered():
    async def main():
        batcher = MicroBatcher(Runner(takes_s=0.01), BatchLimits(max_rows=4))
        await submit_all(batcher, range(30), now() + 1000)
        await turns()
        pending = [h for h in asyncio.get_running_loop()._scheduled if not h.cancelled()]
        assert pending == []

    run_virtual(main())
