"""Who answers whom, that a split is followed at once, and that everything is counted for the right version."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import numpy as np
import pytest

from serve_app.errors import (
    BadRequestError,
    InvalidRowError,
    InvariantError,
    NotFoundError,
    NotReadyError,
    OverloadedError,
    ReplicaLostError,
)
from serve_app.scoring.core.shadow import ShadowCounters
from serve_app.scoring.core.split import Shadow, Split, canary_arms, dump_split, only_arm
from serve_app.scoring.service.shadowing import MAX_COPIES
from serve_app.scoring.service.table_scoring import TableScorer
from serve_app.scoring.service.traffic import KEEP_COUNTS_S, Traffic
from tests.testing_kit import MemorySplit, make_scorer, random_rows, run_virtual

pytestmark = pytest.mark.unit
POLL_S = 0.25


def now() -> float:
    return asyncio.get_running_loop().time()


def values_of(n: int, seed: int = 0) -> list[list]:
    return [list(row.values()) for row in random_rows(n, seed).to_pylist()]


def record(share: float = 0.0, *, revision: int = 1, shadow: float = 0.0, **options):
    """v1 is stable, v2 the canary or the shadow."""
    arms = canary_arms(1, 2, share) if share else only_arm(1)
    split = Split("purchase", 1, arms, revision, b"salt", shadow=Shadow(2, shadow) if shadow else None, **options)
    return dump_split(split)


class Versions:
    """Versions in this process: each may be slow to connect, refuse to, or fail its rows."""

    def __init__(self, package) -> None:
        self.package = package
        self.refusing: set[int] = set()
        self.hanging: set[int] = set()
        self.failing: dict[int, Exception] = {}
        self.connected: list[int] = []

    async def connect(self, name, version):
        if version in self.hanging:
            await asyncio.Event().wait()
        if version in self.refusing:
            raise ReplicaLostError(f"v{version} is not there", 1.0)
        self.connected.append(version)

        async def before():
            if version in self.failing:
                raise self.failing[version]

        return make_scorer(self.package, version=version, before_encode=before)[0]


async def serving(package, split_record):
    versions, split = Versions(package), MemorySplit(split_record)
    traffic = Traffic(split, versions.connect)
    await traffic.refresh()
    return traffic, split, versions


def merged(traffic: Traffic) -> dict:
    taken = traffic.take_counts()
    return {(revision, v): arm for revision, arms in taken for v, arm in arms.items() if arm.routed}


def test_before_a_split_is_known_nothing_is_ready():
    async def main():
        traffic = Traffic(MemorySplit(), None)
        await traffic.refresh()
        with pytest.raises(NotReadyError, match="no model version answers yet"):
            await traffic.choose(None).score([None] * 22, 5)

    run_virtual(main())


def test_the_split_decides_who_answers_and_a_version_that_comes_back_is_proved_again(package):
    split = MemorySplit({"model": "purchase", "stable": 1})
    connected = []

    async def connect(name, version):
        connected.append(version)
        return make_scorer(package, version=version)[0]

    async def main():
        traffic = Traffic(split, connect)
        row = values_of(1)[0]
        seen = []
        for stable in (1, 2, 1, 2):
            split.record = {"model": "purchase", "stable": stable}
            await traffic.refresh()
            seen.append((await traffic.choose(None).score(row, now() + 5)).version)
        assert seen == [1, 2, 1, 2]
        assert connected == [1, 2, 1, 2]

    run_virtual(main())


@pytest.mark.parametrize("trouble", ["unreadable", "gone", "version-does-not-answer"])
def test_the_last_known_split_stays_in_force(package, trouble):
    async def main():
        split = MemorySplit({"model": "purchase", "stable": 1})

        async def connect(name, version):
            if version != 1:
                raise ReplicaLostError("not there")
            return make_scorer(package)[0]

        traffic = Traffic(split, connect)
        await traffic.refresh()
        if trouble == "gone":
            split.record = None
            await traffic.refresh()
        else:
            split.record = {"model": "purchase", "stable": 2}
            split.error = InvariantError("damaged") if trouble == "unreadable" else None
            with pytest.raises((InvariantError, ReplicaLostError)):
                await traffic.refresh()
        assert (await traffic.choose(None).score(values_of(1)[0], now() + 5)).version == 1
        assert traffic.split.model == "purchase"

    run_virtual(main())


def test_a_canary_answers_its_share_of_the_users_and_always_the_same(package):
    async def main():
        traffic, _, _ = await serving(package, record(0.25))
        first = {f"user-{k}": traffic.choose(f"user-{k}").scorer.version for k in range(4000)}
        assert 0.22 < Counter(first.values())[2] / 4000 < 0.28
        assert all(traffic.choose(user).scorer.version == version for user, version in first.items())
        assert traffic.choose("user-1").reason == "user-hash"
        assert traffic.choose(None).reason == "random"

    run_virtual(main())


def test_a_pin_and_the_allow_list_come_first(package):
    async def main():
        traffic, _, _ = await serving(package, record(0.01, pins=True, allow={"boss": 2}))
        assert [traffic.choose("boss", pin).scorer.version for pin in (None, 1)] == [2, 1]
        assert traffic.choose("boss").reason == "allow-list"
        assert traffic.choose("anybody", 2).reason == "pin"
        with pytest.raises(NotFoundError, match="version 9 of purchase takes no requests; there is 2, 1"):
            traffic.choose("anybody", 9)
        traffic, _, _ = await serving(package, record(0.01))
        with pytest.raises(BadRequestError, match="pins are not allowed"):
            traffic.choose("anybody", 2)

    run_virtual(main())


def test_a_request_that_names_its_version_in_the_path_gets_it_and_is_not_compared(package):
    async def main():
        traffic, _, _ = await serving(package, record(0.5))
        route = traffic.route("purchase", 2, "anybody", None)
        assert (route.scorer.version, route.reason) == (2, "pin")
        await route.score(values_of(1)[0], now() + 5)
        assert merged(traffic)[1, 2].n_requests == 0
        with pytest.raises(NotFoundError, match="version 3 of purchase is not served"):
            traffic.route("purchase", 3, None, None)
        with pytest.raises(NotFoundError, match="no model other"):
            traffic.route("other", None, None, None)

    run_virtual(main())


def test_answers_and_errors_are_counted_for_the_version_that_was_asked(package):
    async def main():
        traffic, _, versions = await serving(package, record(0.5))
        versions.failing[2] = InvariantError("broken")
        rows = values_of(40)
        outcomes = await asyncio.gather(
            *(traffic.choose(f"u{k}").score(row, now() + 5) for k, row in enumerate(rows)), return_exceptions=True
        )
        n_failed = sum(isinstance(outcome, InvariantError) for outcome in outcomes)
        counts = merged(traffic)
        stable, canary = counts[1, 1], counts[1, 2]
        assert (canary.n_requests, canary.n_errors) == (n_failed, n_failed)
        assert (stable.n_requests, stable.n_errors, stable.n_scores) == (40 - n_failed, 0, 40 - n_failed)
        assert stable.score_sum == pytest.approx(sum(o.probability for o in outcomes if not isinstance(o, Exception)))
        assert 0 < n_failed < 40
        assert merged(traffic) == {}

    run_virtual(main())


def test_a_row_that_a_version_rejects_counts_and_a_full_queue_does_not(package):
    async def main():
        traffic, _, versions = await serving(package, record(0.5))
        with pytest.raises(InvalidRowError):
            await traffic.choose("u").score([None] * 22, now() + 5)
        assert sum(arm.n_errors for arm in merged(traffic).values()) == 1
        versions.failing = dict.fromkeys((1, 2), OverloadedError("full", 1.0))
        with pytest.raises(OverloadedError):
            await traffic.choose("u").score(values_of(1)[0], now() + 5)
        assert merged(traffic) == {}

    run_virtual(main())


def test_a_caller_who_goes_away_before_the_answer_counts_against_the_version(package):
    """Else a version that hangs would seem to get fewer requests than its share."""

    async def run():
        traffic, _, _ = await serving(package, record(0.5))
        waiting = [asyncio.create_task(traffic.choose(f"u{k}").score(v, now() + 5)) for k, v in enumerate(values_of(9))]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return merged(traffic)

    arms = run_virtual(run()).values()
    assert sum(arm.n_errors for arm in arms) == sum(arm.n_requests for arm in arms) == 9


def test_a_table_goes_to_one_version_as_a_whole_and_counts_as_one_request(package):
    async def main():
        traffic, _, _ = await serving(package, record(0.5))
        route, rows = traffic.choose("somebody"), random_rows(500, 0)
        scores = await route.score_table(TableScorer(), rows, now() + 5)
        assert scores.version == route.scorer.version
        arm = merged(traffic)[1, route.scorer.version]
        assert (arm.n_requests, arm.n_errors, arm.n_scores, arm.routed) == (1, 0, 0, {"user-hash": 1})

    run_virtual(main())


def test_what_was_chosen_before_a_change_is_counted_for_the_split_it_was_chosen_under(package):
    async def main():
        traffic, split, _ = await serving(package, record(0.5))
        route = traffic.choose("somebody")
        split.record = record(0.6, revision=2)
        await traffic.refresh()
        await route.score(values_of(1)[0], now() + 5)
        await traffic.choose("somebody").score(values_of(1)[0], now() + 5)
        assert sorted(revision for revision, _ in merged(traffic)) == [1, 2]
        await asyncio.sleep(KEEP_COUNTS_S - 1)
        await route.score(values_of(1)[0], now() + 5)
        assert [revision for revision, _ in merged(traffic)] == [1]
        await asyncio.sleep(2)
        assert merged(traffic) == {}
        await route.score(values_of(1)[0], now() + 5)  # none lives that long; it is answered all the same
        assert merged(traffic) == {}

    run_virtual(main())


def test_a_rollback_does_not_wait_for_a_version_that_hangs(package):
    async def main():
        traffic, split, versions = await serving(package, record())
        following = asyncio.create_task(traffic.follow(POLL_S))
        versions.hanging.add(2)
        split.record = record(0.5, revision=2)
        await asyncio.sleep(10)
        assert traffic.split.revision == 1
        split.record = record(revision=3)
        await asyncio.sleep(2 * POLL_S)
        assert traffic.split.revision == 3
        following.cancel()

    run_virtual(main())


def test_what_was_read_last_is_followed_whatever_its_revision_and_the_last_known_split_outlives_the_file(package):
    async def main():
        traffic, split, _ = await serving(package, record(0.5, revision=5))
        following = asyncio.create_task(traffic.follow(POLL_S))
        for there in (record(revision=1009), record(0.5, revision=5), record(revision=1)):  # an older database
            split.record = there
            await asyncio.sleep(2 * POLL_S)
            assert dump_split(traffic.split) == there
        split.record = record(0.5, revision=9, effective_at_s=time.time() + 1.0)
        await asyncio.sleep(2 * POLL_S)
        split.record = record(revision=2)  # before the other one began to hold
        await asyncio.sleep(3)
        assert traffic.split.revision == 2
        split.record = None
        await asyncio.sleep(3)
        assert traffic.choose("u").scorer.version == 1
        following.cancel()

    run_virtual(main())


@pytest.mark.parametrize("first", [None, InvariantError("damaged"), {"model": "purchase", "stable": float("inf")}])
def test_a_gateway_takes_no_request_before_there_is_a_split(package, first):
    async def main():
        split = MemorySplit(None if isinstance(first, Exception) else first)
        split.error = first if isinstance(first, Exception) else None
        traffic = Traffic(split, Versions(package).connect)
        beginning = asyncio.create_task(traffic.begin(POLL_S, 30.0))
        await asyncio.sleep(3600)
        assert not beginning.done()
        split.record, split.error = record(0.5), None
        await asyncio.sleep(2 * POLL_S)
        assert beginning.done()
        assert {traffic.choose(f"u{k}").scorer.version for k in range(50)} == {1, 2}

    run_virtual(main())


def test_a_gateway_whose_versions_are_away_begins_without_them_in_the_end(package):
    async def main():
        versions = Versions(package)
        versions.refusing = {1, 2}
        traffic = Traffic(MemorySplit(record(0.5)), versions.connect)
        started_s = now()
        await traffic.begin(POLL_S, 30.0)
        assert 30 <= now() - started_s < 32
        with pytest.raises(NotReadyError):
            await traffic.check_ready()

    run_virtual(main())


def test_all_gateways_switch_at_the_moment_the_split_names(package):
    async def main():
        versions, split = Versions(package), MemorySplit(record())
        gateways = [Traffic(split, versions.connect, clock=now) for _ in range(3)]
        for gateway in gateways:
            await gateway.refresh()
        following = [asyncio.create_task(gateway.follow(0.1 + 0.02 * k)) for k, gateway in enumerate(gateways)]
        await asyncio.sleep(1)

        def seen() -> set[int]:
            return {gateway.split.revision for gateway in gateways}

        split.record = record(0.5, revision=2, effective_at_s=now() + 0.3)
        await asyncio.sleep(0.2)
        split.record = record(revision=3, effective_at_s=now() + 0.3)  # does not undo what is under way
        await asyncio.sleep(0.09)
        assert seen() == {1}
        await asyncio.sleep(0.02)
        assert seen() == {2}
        await asyncio.sleep(0.18)
        assert seen() == {2}
        await asyncio.sleep(0.02)
        assert seen() == {3}
        split.record = record(0.5, revision=4, effective_at_s=now() + 1e6)  # a clock that is off
        await asyncio.sleep(2.5)
        assert seen() == {4}
        for task in following:
            task.cancel()

    run_virtual(main())


def test_a_version_that_comes_late_is_followed_when_it_is_there(package):
    async def main():
        traffic, split, versions = await serving(package, record())
        following = asyncio.create_task(traffic.follow(POLL_S))
        versions.refusing.add(2)
        split.record = record(1.0, revision=2)
        await asyncio.sleep(5)
        assert traffic.choose("u").scorer.version == 1
        versions.refusing.clear()
        await asyncio.sleep(2)
        assert traffic.choose("u").scorer.version == 2
        following.cancel()

    run_virtual(main())


def test_a_gateway_that_starts_while_the_canary_is_down_serves_the_stable_version_meanwhile(package):
    async def main():
        versions, split = Versions(package), MemorySplit(record(0.5))
        versions.refusing.add(2)
        traffic = Traffic(split, versions.connect)
        following = asyncio.create_task(traffic.follow(POLL_S))
        await asyncio.sleep(2 * POLL_S)
        assert {traffic.choose(f"u{k}").scorer.version for k in range(50)} == {1}
        versions.refusing.clear()
        await asyncio.sleep(3)
        assert {traffic.choose(f"u{k}").scorer.version for k in range(50)} == {1, 2}
        following.cancel()

    run_virtual(main())


def test_a_shadow_scores_copies_and_its_differences_are_counted(package):
    async def main():
        traffic, _, versions = await serving(package, record(shadow=1.0))
        for row in values_of(30):
            assert (await traffic.choose("u").score(row, now() + 5)).version == 1
        await traffic.choose("u").score_table(TableScorer(), random_rows(200, 0), now() + 5)
        await asyncio.sleep(1)
        found = traffic.take_shadow()
        assert (found.n_copied, found.n_compared, found.n_dropped, found.n_failed) == (230, 230, 0, 0)
        assert (found.n_changed, found.largest, found.difference_bins[0]) == (0, 0.0, 230)
        assert traffic.take_shadow() is None
        versions.failing[2] = InvariantError("broken")
        assert (await traffic.choose("u").score(values_of(1)[0], now() + 5)).version == 1
        await asyncio.sleep(1)
        assert traffic.take_shadow().n_failed == 1

    run_virtual(main())


def test_a_shadow_gets_its_share_and_what_it_cannot_take_is_dropped(package):
    async def main():
        traffic, _, versions = await serving(package, record(shadow=0.2))
        rows = values_of(1) * 1000
        await asyncio.gather(*(traffic.choose("u").score(row, now() + 5) for row in rows))
        await asyncio.sleep(1)
        assert 140 < traffic.take_shadow().n_copied < 260
        versions.failing[2] = ReplicaLostError("gone", 1.0)
        parts = []
        for _ in range(20):
            await asyncio.gather(*(traffic.choose("u").score(row, now() + 5) for row in rows))
            parts.append(traffic.take_shadow())
        await asyncio.sleep(10)
        found = ShadowCounters.merge([*parts, traffic.take_shadow() or parts[0].__class__()])
        assert found.n_copied == found.n_dropped + found.n_failed
        assert found.n_dropped >= 0.1 * found.n_copied or found.n_copied < MAX_COPIES

    run_virtual(main())


def test_a_shadow_that_cannot_be_reached_does_not_keep_the_split_back(package):
    async def main():
        traffic, split, versions = await serving(package, record())
        following = asyncio.create_task(traffic.follow(POLL_S))
        versions.refusing.add(2)
        split.record = record(revision=2, shadow=1.0)
        await asyncio.sleep(1)
        assert traffic.split.revision == 2
        await traffic.choose("u").score(values_of(1)[0], now() + 5)
        assert traffic.take_shadow() is None
        versions.refusing.clear()
        await asyncio.sleep(3)
        await traffic.choose("u").score(values_of(1)[0], now() + 5)
        await asyncio.sleep(1)
        assert traffic.take_shadow().n_compared == 1
        following.cancel()

    run_virtual(main())


def test_an_answer_that_is_no_probability_is_the_versions_error(package, monkeypatch):
    async def main():
        traffic, _, _ = await serving(package, record(0.5))
        nothing = lambda self, matrix, strings=None: np.full(len(matrix), np.nan)  # noqa: E731
        monkeypatch.setattr(type(package.model), "predict", nothing)
        with pytest.raises(InvariantError, match="answered nan as a probability"):
            await traffic.choose("u").score(values_of(1)[0], now() + 5)
        assert sum(arm.n_errors for arm in merged(traffic).values()) == 1

    run_virtual(main())
