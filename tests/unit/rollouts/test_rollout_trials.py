"""A/B tests and shadows: counted and described, never decided by figures."""

from __future__ import annotations

import pytest

from serve_app.errors import (
    ConflictError,
    GoldenMismatchError,
)
from serve_app.rollouts.service.ports import Report
from serve_app.scoring.core.shadow import ShadowCounters
from serve_app.scoring.core.split import only_arm
from serve_app.scoring.service.ports import AppState
from tests.testing_kit.rollouts.rollouts import count_requests

pytestmark = pytest.mark.unit


def test_an_ab_test_keeps_its_shares_until_a_person_ends_it(world):
    world.error_shares = {2: 0.3}
    started = world.start(kind="ab", version="", plan=None, shares={2: 30.0, 1: 50.0, 3: 20.0})
    assert (started["kind"], started["shares"]) == ("ab", {"1": 50.0, "2": 30.0, "3": 20.0})
    assert world.split.arms == only_arm(1)
    world.run_until(1, "progressing")
    world.run(30)
    described = world.control.describe(1)
    assert world.split.shares == pytest.approx({1: 0.5, 2: 0.3, 3: 0.2})
    assert described["phase"] == "progressing"
    assert described["mismatch"] is None
    one, two, three = described["arms"]
    assert two["errors"] / two["requests"] == pytest.approx(0.3, abs=0.01)
    assert two["error_share"]["low"] < 0.3 < two["error_share"]["high"]
    assert one["error_share"]["low"] == 0.0 < one["error_share"]["high"] < 0.005
    assert three["mean_score"] == {
        "value": pytest.approx(0.05),
        "low": pytest.approx(0.05),
        "high": pytest.approx(0.05),
    }
    assert one["latency_s"]["low"] < one["latency_s"]["value"] < one["latency_s"]["high"]
    assert one["latency_s"]["value"] == pytest.approx(0.02, rel=0.05)
    for command in ("pause", "promote"):
        with pytest.raises(ConflictError, match=r"is an A/B test and cannot.*abort this and start a canary of it"):
            world.control.command(1, command, "Ada", "")
    world.control.command(1, "abort", "Ada", "v3 it is")
    assert world.split.arms == only_arm(1)
    world.run(100)
    assert set(world.apps.deleted) == {2, 3}


def test_named_users_of_an_ab_test_get_the_named_version(world):
    world.start("3", kind="ab", plan=None, shares={1: 50.0, 2: 25.0, 3: 25.0}, allow=("Ada",))
    world.run_until(1, "progressing")
    assert world.split.choose("Ada", None, 0.5)[:2] == (3, "allow-list")


def test_an_ab_test_whose_versions_did_not_get_their_shares_says_so(world):
    world.start(kind="ab", version="", plan=None, shares={1: 50.0, 2: 50.0})
    world.run_until(1, "progressing")
    world.run(2, rate=0)
    for k in range(5):
        arms = {1: count_requests(130, seed=k), 2: count_requests(70, seed=k)}
        world.control.report(Report("gateway-1", world.split.revision, arms))
        world.run(1, rate=0)
    assert "sample-ratio mismatch: v1 got" in world.control.describe(1)["mismatch"]


def test_an_arm_that_answers_wrongly_ends_the_test(world):
    world.start(kind="ab", version="", plan=None, shares={1: 40.0, 2: 30.0, 3: 30.0})
    world.run_until(1, "progressing")
    world.apps.troubles[3] = GoldenMismatchError("row 5 differs")
    described = world.run_until(1, "rolled_back", limit_s=8)
    assert "v3 does not reproduce its golden rows: row 5 differs" in described["why"]
    assert world.split.arms == only_arm(1)


def shadow_counters(n=100):
    counters = ShadowCounters(n_copied=n + 5, n_dropped=3, n_failed=2)
    for k in range(n):
        counters.count_pair(0.4, 0.4 + 0.001 * (k % 2), is_changed=k % 10 == 0, latency_s=0.01)
    return counters


def test_a_shadow_is_compared_and_touches_no_live_traffic(world):
    world.shadow = shadow_counters()
    started = world.start(kind="shadow", plan=None, share=0.25)
    assert (started["copied_share"], started["shadow"]["n_compared"]) == (0.25, 0)
    world.run_until(1, "progressing")
    assert (world.split.arms, world.split.shadow.version, world.split.shadow.share) == (only_arm(1), 2, 0.25)
    world.run(10)
    world.restart()
    summary = world.control.describe(1)["shadow"]
    assert summary["n_compared"] >= 900
    assert summary["n_compared"] % 100 == 0
    assert summary["changed_share"] == pytest.approx(0.1)
    assert summary["mean_difference"] == pytest.approx(0.0005)
    with pytest.raises(ConflictError, match="is a shadow and cannot be told to promote"):
        world.control.command(1, "promote", "Ada", "")
    world.control.command(1, "abort", "Ada", "")
    assert (world.split.arms, world.split.shadow) == (only_arm(1), None)


def test_a_shadow_that_fails_is_ended_and_recorded(world):
    world.start(kind="shadow", plan=None)
    world.run_until(1, "progressing")
    world.apps.by_version[2] = AppState("failed", "out of memory")
    described = world.run_until(1, "rolled_back", limit_s=3)
    assert described["why"] == "the app of v2 failed: out of memory"
    assert (world.split.arms, world.split.shadow) == (only_arm(1), None)


def test_the_version_before_may_be_the_shadow_of_the_one_that_took_over(world):
    world.bring("succeeded")
    world.start("1", kind="shadow", plan=None)
    world.run_until(2, "progressing")
    assert (world.split.arms, world.split.shadow.version) == (only_arm(2), 1)
