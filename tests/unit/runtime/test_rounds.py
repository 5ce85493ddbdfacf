"""Threads whose work comes in rounds go on whatever a round raises, and tell when they hang."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from serve_app.errors import InvariantError
from serve_app.runtime.rounds import Rounds
from tests.testing_kit.rollouts.rollouts import FakeClock

pytestmark = pytest.mark.unit


def run_rounds(function: Callable[[], None], n: int) -> Rounds:
    """Run n rounds and return when the thread has ended."""
    done = iter([False] * (n - 1) + [True])
    rounds = Rounds("tick", function, 0.5, 60.0, clock=FakeClock(), wait=lambda _: next(done))
    rounds.start()
    rounds.join(10)
    return rounds


def test_what_a_round_raises_does_not_keep_the_next_one_from_coming(caplog):
    n_calls = 0

    def fail() -> None:
        nonlocal n_calls
        n_calls += 1
        raise ValueError("bad round" if n_calls < 3 else "worse round")

    run_rounds(fail, 5)
    assert n_calls == 5
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "bad round" in caplog.records[0].exc_text


def test_a_thread_that_died_is_unhealthy():
    rounds = run_rounds(lambda: None, 2)
    with pytest.raises(InvariantError, match="tick has died"):
        rounds.check()


def test_a_round_that_hangs_is_unhealthy_and_one_that_takes_long_is_not():
    clock, entered, release = FakeClock(), threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        release.wait(30)

    rounds = Rounds("tick", hang, 0.5, 60.0, clock=clock, wait=lambda _: True)
    rounds.start()
    try:
        assert entered.wait(10)
        clock.now_s += 60.0
        rounds.check()
        clock.now_s += 1.0
        with pytest.raises(InvariantError, match="hangs"):
            rounds.check()
    finally:
        release.set()
        rounds.join(10)
