"""Scores are CatBoost's own, to the last bit; a lost replica costs one retry, then a short refusal."""

from __future__ import annotations

import asyncio

import pytest

from serve_app.errors import (
    DeadlineExceededError,
    InvalidRowError,
    InvariantError,
    OverloadedError,
    ReplicaLostError,
)
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.sources import FROM_DEFAULT, FROM_REQUEST
from serve_app.runtime.microbatch import BatchLimits
from serve_app.scoring.service.version_scorer import COOL_DOWN_S
from tests.testing_kit import make_scorer, random_rows, run_virtual

pytestmark = pytest.mark.unit


def now() -> float:
    return asyncio.get_running_loop().time()


def values_of(n: int, seed: int = 0) -> list[list]:
    return [list(row.values()) for row in random_rows(n, seed).to_pylist()]


def oracle(package, n: int, seed: int = 0) -> list[float]:
    encoder = FeatureEncoder(package.manifest.features, package.vocabularies)
    matrix = encoder.encode(random_rows(n, seed)).matrix
    return package.model.classifier.predict_proba(matrix)[:, 1].tolist()


class Failing:
    """Raises its errors one call after the other, then lets every call pass."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def __call__(self) -> None:
        if self.errors:
            raise self.errors.pop(0)


LOST = ReplicaLostError("gone", 1.0)


def test_single_scores_are_catboosts_to_the_last_bit(package):
    async def main():
        scorer, _, _ = make_scorer(package)
        return [(await scorer.score(v, now() + 5)).probability for v in values_of(30)]

    assert run_virtual(main()) == oracle(package, 30)


def test_concurrent_scores_are_catboosts_to_the_last_bit(package):
    async def main():
        scorer, encoder, _ = make_scorer(package, limits=BatchLimits(max_rows=64))
        scores = await asyncio.gather(*(scorer.score(v, now() + 5) for v in values_of(200)))
        assert max(b.num_rows for b in encoder.batches) == 64
        return [s.probability for s in scores]

    assert run_virtual(main()) == oracle(package, 200)


def test_a_score_says_what_the_model_saw_and_where_it_came_from(package):
    async def main():
        scorer, _, _ = make_scorer(package, version=7)
        return await scorer.score([10.0, 12, 1, True, *[None] * 18], now() + 5)

    score = run_virtual(main())
    assert score.version == 7
    assert score.sources == bytes([FROM_REQUEST] * 4 + [FROM_DEFAULT] * 18)
    assert score.values[:4] == (10.0, 12.0, 1.0, 1.0)
    assert score.recommendation == package.manifest.thresholds.recommend(score.probability)


def test_a_bad_row_fails_alone_and_names_its_field(package):
    async def main():
        scorer, encoder, _ = make_scorer(package)
        rows = values_of(20)
        for i in (3, 11):
            rows[i][0] = 1e300
        results = await asyncio.gather(*(scorer.score(v, now() + 5) for v in rows), return_exceptions=True)
        assert [b.num_rows for b in encoder.batches] == [20]
        return results

    results = run_virtual(main())
    expected = oracle(package, 20)
    for i, result in enumerate(results):
        if i in (3, 11):
            assert isinstance(result, InvalidRowError)
            assert [e.pointer for e in result.errors] == ["/price"]
        else:
            assert result.probability == expected[i]


def test_a_batch_of_only_bad_rows_is_answered(package):
    async def main():
        scorer, _, _ = make_scorer(package)
        with pytest.raises(InvalidRowError):
            await scorer.score([None] * 22, now() + 5)

    run_virtual(main())


@pytest.mark.parametrize("hop", ["before_encode", "before_predict"])
def test_one_lost_replica_is_not_noticed_by_callers(package, hop):
    async def main():
        scorer, encoder, model = make_scorer(package, **{hop: Failing(LOST)})
        scores = await asyncio.gather(*(scorer.score(v, now() + 5) for v in values_of(5)))
        calls = {"before_encode": len(encoder.batches), "before_predict": model.n_calls}
        assert calls == {"before_encode": 1, "before_predict": 1, hop: 2}
        assert scorer.is_answering
        return [s.probability for s in scores]

    assert run_virtual(main()) == oracle(package, 5)


def test_a_version_without_replicas_refuses_at_once_for_the_cool_down_and_then_recovers(package):
    async def main():
        failing = Failing(LOST, LOST)
        scorer, encoder, _ = make_scorer(package, before_encode=failing)
        row = values_of(1)[0]
        with pytest.raises(ReplicaLostError):
            await scorer.score(row, now() + 5)
        assert len(encoder.batches) == 2
        assert not scorer.is_answering
        for wait_s in (0.0, COOL_DOWN_S * 0.9):
            await asyncio.sleep(wait_s)
            with pytest.raises(ReplicaLostError, match="version 1 lost its replicas and is coming back") as refused:
                await scorer.score(row, now() + 5)
            assert refused.value.retry_after_s >= 1.0
        assert len(encoder.batches) == 2
        await asyncio.sleep(COOL_DOWN_S * 0.2)
        assert not scorer.is_answering  # nothing was answered yet
        assert (await scorer.score(row, now() + 5)).probability == oracle(package, 1)[0]
        assert scorer.is_answering

    run_virtual(main())


def test_a_replica_lost_after_the_deadline_is_not_tried_again(package):
    async def slow_and_gone():
        await asyncio.sleep(1.0)
        raise LOST

    async def main():
        scorer, encoder, _ = make_scorer(package, before_encode=slow_and_gone)
        with pytest.raises(DeadlineExceededError):
            await scorer.score(values_of(1)[0], now() + 0.5)
        await asyncio.sleep(3)
        assert len(encoder.batches) == 1

    run_virtual(main())


@pytest.mark.parametrize("error", [OverloadedError("full"), InvariantError("bug")])
def test_what_is_no_lost_replica_is_neither_retried_nor_cooled_down(package, error):
    async def main():
        scorer, encoder, _ = make_scorer(package, before_encode=Failing(error))
        with pytest.raises(type(error)):
            await scorer.score(values_of(1)[0], now() + 5)
        assert len(encoder.batches) == 1
        assert (await scorer.score(values_of(1)[0], now() + 5)).probability == oracle(package, 1)[0]

    run_virtual(main())


def test_a_hurried_caller_does_not_make_a_healthy_replica_look_lost(package):
    async def slow():
        await asyncio.sleep(0.1)

    async def main():
        scorer, _, _ = make_scorer(package, before_encode=slow)
        with pytest.raises(DeadlineExceededError):
            await scorer.score(values_of(1)[0], now() + 0.001)
        await asyncio.sleep(1)
        assert scorer.is_answering

    run_virtual(main())
