"""The order of reasons, and what a split refuses."""

from __future__ import annotations

import pytest

from serve_app.errors import BadRequestError, InvariantError, NotFoundError
from serve_app.scoring.adapters.split_file import SplitFile
from serve_app.scoring.core.split import (
    N_BUCKETS,
    Arm,
    Shadow,
    Split,
    canary_arms,
    dump_split,
    hash_user,
    only_arm,
    parse_split,
    share_arms,
)

pytestmark = pytest.mark.unit


def find_user(arms, version):
    split = Split("purchase", version, arms)
    return next(f"u{k}" for k in range(1000) if split.choose(f"u{k}", None, 0.0).version == version)


def test_a_pin_beats_the_allow_list_which_beats_the_hash():
    arms = canary_arms(7, 8, 0.5)
    user = find_user(arms, 7)
    split = Split("purchase", 7, arms, allow={user: 8}, pins=True)
    assert split.choose(user, 7, 0.0)[:2] == (7, "pin")
    assert split.choose(user, None, 0.0)[:2] == (8, "allow-list")
    assert Split("purchase", 7, arms).choose(user, None, 0.0)[:2] == (7, "user-hash")
    assert split.choose(None, None, 0.0)[1] == "random"


def test_a_version_without_a_share_answers_pins_and_the_allow_list_only():
    split = Split("purchase", 7, canary_arms(7, 8, 0.0), allow={"tester": 8}, pins=True)
    assert split.choose("anybody", None, 0.0)[:2] == (7, "only-version")
    assert split.choose("tester", None, 0.0)[:2] == (8, "allow-list")
    assert split.choose("anybody", 8, 0.0)[:2] == (8, "pin")
    assert split.shares == {7: 1.0}
    assert split.versions == [7, 8]


def test_pins_are_refused_by_name():
    arms = canary_arms(7, 8, 0.5)
    with pytest.raises(BadRequestError, match="pins are not allowed"):
        Split("purchase", 7, arms).choose("u", 8, 0.0)
    shadowed = Split("purchase", 7, arms, pins=True, shadow=Shadow(9, 1.0))
    for version in (9, 12):
        with pytest.raises(NotFoundError, match=f"version {version} of purchase takes no requests; there is 8, 7"):
            shadowed.choose("u", version, 0.0)


def test_a_shadow_is_connected_to():
    split = Split("purchase", 7, only_arm(7), shadow=Shadow(9, 0.25))
    assert split.versions == [7, 9]


def test_the_hash_is_the_same_in_every_release():
    """Golden values: another hash would move every user of a running rollout."""
    assert hash_user("541312140", b"") == 17191526337423379  # printf 541312140 | b2sum -l 64, little-endian
    assert hash_user("\ud800 ü 🛒", bytes(range(16))) == 16171008540739242752


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ((Arm(1, 0, 5000),), "must cover buckets 0 to 10000"),
        ((Arm(1, 0, 5000), Arm(2, 5001, N_BUCKETS)), "without gap or overlap"),
        ((Arm(1, 0, 5000), Arm(2, 4000, N_BUCKETS)), "without gap or overlap"),
        ((Arm(1, 0, 5000), Arm(1, 5000, N_BUCKETS)), "each version has one arm"),
        ((Arm(2, 0, N_BUCKETS),), "version 1 is named in the split but has no arm"),
        ((), "must cover"),
    ],
)
def test_arms_that_do_not_cover_every_bucket_once_are_refused(arms, message):
    with pytest.raises(BadRequestError, match=message):
        Split("purchase", 1, arms)


def test_odd_shares_and_versions_are_refused():
    with pytest.raises(BadRequestError, match="is the stable version already"):
        canary_arms(7, 7, 0.5)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(BadRequestError, match="between 0 and 1"):
            canary_arms(7, 8, share)
    with pytest.raises(BadRequestError, match=r"add up to 0\.9"):
        share_arms([(1, 0.5), (2, 0.4)])
    with pytest.raises(BadRequestError, match="has no arm"):
        Split("purchase", 7, only_arm(7), allow={"u": 8})
    with pytest.raises(BadRequestError, match="at most 64 bytes"):
        Split("purchase", 7, only_arm(7), salt=b"x" * 65)
    for shadow in (Shadow(7, 0.5), Shadow(8, 0.0), Shadow(8, 1.5)):
        with pytest.raises(BadRequestError, match="a shadow answers nobody"):
            Split("purchase", 7, only_arm(7), shadow=shadow)


def test_the_record_of_a_single_version_is_read(tmp_path):
    record = {"revision": 1, "model": "purchase", "stable": 3}
    SplitFile(tmp_path / "split.json").write(record)
    assert parse_split(SplitFile(tmp_path / "split.json").read()) == Split("purchase", 3, only_arm(3))


def test_a_full_record_travels_through_the_split_file(tmp_path):
    split = Split("purchase", 7, canary_arms(7, 8, 0.05), 4, b"\x00\xff", {"\udc80": 8}, Shadow(9, 0.5), pins=True)
    SplitFile(tmp_path / "split.json").write(dump_split(split))
    assert parse_split(SplitFile(tmp_path / "split.json").read()) == split


@pytest.mark.parametrize(
    "change",
    [{"stable": "x"}, {"stable": float("inf")}, {"arms": [[float("inf"), 0, 1]]},
     {"arms": [[1, 2]]}, {"arms": [[7, 0, 1]]}, {"arms": 3}, {"salt": "zz"}, {"salt": 3},
     {"allow": [1]}, {"allow": {"u": 99}}, {"shadow": {"version": 3}}, {"shadow": {"version": 7, "share": 1}}],
)  # fmt: skip
def test_a_damaged_record_is_named(change):
    record = dump_split(Split("purchase", 7, canary_arms(7, 8, 0.05)))
    with pytest.raises(InvariantError, match="not a split record"):
        parse_split(record | change)
