"""What keeps a rollout from beginning, and the split that a service begins with."""

from __future__ import annotations

import dataclasses

import pytest

from serve_app.errors import (
    BadRequestError,
    ConflictError,
    NotFoundError,
    NotReadyError,
    PackageError,
)
from serve_app.rollouts.service.split import begin_split
from serve_app.scoring.core.split import dump_split, only_arm
from tests.testing_kit.rollouts.rollouts import SLOW_PLAN

pytestmark = pytest.mark.unit


def test_what_cannot_be_rolled_out_is_refused_and_nothing_changes(world):
    before = dump_split(world.split)
    for asked, error, words in [
        ({"version": ""}, BadRequestError, "name the version"),
        ({"version": "9"}, NotFoundError, "purchase has no version 9"),
        ({"version": "nobody"}, NotFoundError, "purchase has no alias 'nobody'"),
        ({"version": "1"}, BadRequestError, "version 1 is the stable version already"),
        ({"version": "champion"}, BadRequestError, "version 1 is the stable version already"),
        ({"version": "2", "model": "returns"}, BadRequestError, "returns is not served here"),
        ({"version": "2", "allow": tuple(map(str, range(1001)))}, BadRequestError, "at most 1,000 users"),
        ({"kind": "shadow", "share": 0.0}, BadRequestError, "above 0 and up to 1"),
        ({"kind": "shadow", "allow": ("Ada",)}, BadRequestError, "no user can be named"),
        ({"kind": "ab", "shares": {2: 50.0, 3: 50.0}}, BadRequestError, "between the served version 1 and"),
        ({"kind": "ab", "shares": {1: 100.0}}, BadRequestError, "at least one other"),
        ({"kind": "ab", "shares": {1: 50.0, 9: 50.0}}, NotFoundError, "no version 9"),
        ({"kind": "ab", "shares": {1: 50.0, 2: 40.0}}, BadRequestError, "must add up to 1"),
        ({"kind": "ab", "shares": {1: 110.0, 2: -10.0}}, BadRequestError, "/shares/2: must be above 0, got -10"),
        ({"kind": "ab", "shares": {1: 50.0, 2: 25.0, 3: 25.0}, "version": "", "allow": ("Ada",)}, BadRequestError,
         "say by `version` which of"),
    ]:  # fmt: skip
        with pytest.raises(error, match=words):
            world.start(**asked)
    assert world.control.recent("", 10) == []
    assert dump_split(world.split) == before
    assert world.apps.created == []


def test_a_damaged_package_is_refused(world):
    model = world.registry.locate("purchase", 2) / "model.cbm"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    with pytest.raises(PackageError, match=r"model\.cbm was altered"):
        world.start()
    assert world.control.recent("", 10) == []


def alter(world, version, **changes):
    path = world.registry.locate("purchase", version) / "manifest.json"
    manifest = world.registry.manifest("purchase", version)
    path.write_bytes(dataclasses.replace(manifest, **changes).dump())


def test_a_version_that_callers_could_not_call_is_refused(world):
    features = world.registry.manifest("purchase", 1).features
    alter(world, 2, features=(*features[:-1], dataclasses.replace(features[0], name="colour")))
    with pytest.raises(
        BadRequestError, match="version 2 needs colour and does not know category_code, unlike version 1"
    ):
        world.start()
    alter(world, 3, task="regression")
    for asked in ({"kind": "shadow"}, {"kind": "ab", "shares": {1: 50.0, 3: 50.0}}):
        with pytest.raises(BadRequestError, match="version 3 is a regression model"):
            world.start("3", **asked)


def test_the_same_features_in_another_order_are_fine(world):
    alter(world, 2, features=world.registry.manifest("purchase", 1).features[::-1])
    assert world.start()["phase"] == "deploying"


def test_a_second_rollout_is_refused_while_one_is_active(world):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    before = dump_split(world.split)
    with pytest.raises(ConflictError, match=r"active rollout already: rollout 1 \(version 2, progressing\)"):
        world.start("3")
    assert dump_split(world.split) == before
    world.control.command(1, "abort", "Ada", "")
    assert world.start("3")["id"] == 2
    assert [r["id"] for r in world.control.recent("", 10)] == [2, 1]
    assert [r["id"] for r in world.control.recent("purchase", 1)] == [2]


def test_of_a_model_without_a_stored_split_there_are_no_rollouts(world):
    world.restart(model="returns")
    with pytest.raises(NotReadyError, match="has no split of returns; the control app looks for it"):
        world.start()
    assert world.control.recent("", 10) == []


def test_an_unknown_rollout_is_not_found(world):
    for call in (world.control.describe, world.control.history):
        with pytest.raises(NotFoundError, match="there is no rollout 7"):
            call(7)
    with pytest.raises(NotFoundError):
        world.control.command(7, "abort", "Ada", "")


def test_a_service_begins_with_everything_on_its_version(world):
    begun = begin_split(world.store, world.sink, "purchase", 3, pins=True)
    assert (begun.arms, begun.revision, begun.pins) == (only_arm(3), 2, True)
    assert world.split == begun
    assert begin_split(world.store, world.sink, "purchase", 3, pins=True) == begun
    assert begin_split(world.store, world.sink, "returns", 1, pins=False).revision == 1


def test_a_service_goes_on_with_a_rollout_in_flight(world):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    kept = world.split
    for version in (1, 2):
        assert begin_split(world.store, world.sink, "purchase", version, pins=False) == kept
    with pytest.raises(ConflictError, match=r"rollout 1 of purchase is progressing between versions 1 and 2"):
        begin_split(world.store, world.sink, "purchase", 3, pins=False)
    pinned = begin_split(world.store, world.sink, "purchase", 1, pins=True)
    assert (pinned.arms, pinned.pins, pinned.revision) == (kept.arms, True, kept.revision + 1)
    world.restart(pins=True)
    world.run(10)
    assert world.split == pinned
    assert world.control.describe(1)["arms"][1]["requests"] >= 200


def test_a_service_that_begins_within_the_window_can_still_go_back(world):
    world.bring("succeeded")
    begin_split(world.store, world.sink, "purchase", 2, pins=True)
    world.restart(pins=True)
    assert world.control.describe(1)["commands"] == ["abort"]
    assert world.control.command(1, "abort", "Ada", "")["phase"] == "rolled_back"
    assert world.split.arms == only_arm(1)


def test_a_service_that_begins_with_another_version_ends_the_window(world):
    world.bring("succeeded")
    begin_split(world.store, world.sink, "purchase", 1, pins=False)
    with pytest.raises(ConflictError, match="is over"):
        world.restart().command(1, "abort", "Ada", "")
    world.run(150)
    assert world.split.arms == only_arm(1)


def test_up_without_a_version_goes_on_with_the_rollout_wherever_the_champion_went(world):
    world.start(plan=SLOW_PLAN)
    world.run_until(1, "progressing")
    kept = world.split
    checked = []
    begun = begin_split(
        world.store, world.sink, "purchase", 3, pins=False, is_named=False, check=lambda s: checked.append(s.stable)
    )
    assert begun == kept == world.split
    assert checked == [1]


def test_what_up_gives_everything_to_is_in_the_history_of_the_rollout_that_it_overrules(world):
    world.bring("succeeded")
    before = len(world.control.history(1))
    begin_split(world.store, world.sink, "purchase", 3, pins=False, is_named=False, who="Ada", clock=world.clock)
    change = world.control.history(1)[-1]
    assert len(world.control.history(1)) == before + 1
    assert (change["who"], change["from"], change["to"]) == ("Ada", "succeeded", "succeeded")
    assert change["why"] == (
        "`scorecat up` gives v3 everything, the champion by now; v2 was served before, and this rollout cannot be "
        "taken back any more"
    )
    assert world.restart().describe(1)["commands"] == []
    assert world.split.arms == only_arm(3)


def test_a_package_that_is_torn_is_found_before_up_stores_anything(world):
    def refuse(_):
        raise PackageError("torn")

    with pytest.raises(PackageError):
        begin_split(world.store, world.sink, "purchase", 3, pins=False, check=refuse)
    assert world.store.read_split("purchase")["stable"] == world.split.stable == 1
