"""Nobody bounces: whatever the shares, a growing canary only adds users, and every text has its one bucket."""

from __future__ import annotations

import json
import math
import pickle
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.scoring.core.split import (
    N_BUCKETS,
    N_GROUPS,
    Shadow,
    Split,
    canary_arms,
    dump_split,
    hash_user,
    only_arm,
    parse_split,
    share_arms,
)

pytestmark = pytest.mark.property

SHARE = st.integers(0, N_BUCKETS).map(lambda k: k / N_BUCKETS)
GROWING = st.lists(SHARE, min_size=1, max_size=8).map(sorted)
SALT = st.binary(max_size=64)
USER = st.text(st.characters(), min_size=1, max_size=12)  # lone surrogates too
USERS = [f"user-{k}" for k in range(4000)]


def versions_of(arms, salt=b"salt", users=USERS):
    split = Split("purchase", arms[0].version, arms, salt=salt)
    return [split.choose(user, None, 0.0).version for user in users]


@settings(max_examples=30, deadline=None)
@given(GROWING, SALT)
def test_a_growing_canary_only_adds_users(shares, salt):
    had: set[str] = set()
    for share in shares:
        versions = versions_of(canary_arms(7, 8, share), salt)
        has = {user for user, version in zip(USERS, versions, strict=True) if version == 8}
        assert had <= has
        had = has


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=8).filter(any))
def test_explicit_shares_are_kept_to_one_bucket_and_cover_everything(weights):
    arms = share_arms([(k, w / sum(weights)) for k, w in enumerate(weights)])
    assert [arm.start for arm in arms] == [0, *(arm.stop for arm in arms[:-1])]
    assert arms[-1].stop == N_BUCKETS
    for arm, weight in zip(arms, weights, strict=True):
        assert abs((arm.stop - arm.start) - weight / sum(weights) * N_BUCKETS) <= 1.0


@given(USER, USER, SALT)
def test_every_text_has_one_place_and_different_texts_different_ones(one, other, salt):
    assert hash_user(one, salt) == hash_user(one, salt)
    assert 0 <= hash_user(one, salt) < 2**64
    assert (hash_user(one, salt) == hash_user(other, salt)) == (one == other)


@given(USER, SHARE, st.floats(0, math.nextafter(1, 0)))
def test_a_user_is_placed_by_the_bucket_alone_whatever_the_draw(user, share, draw):
    split = Split("purchase", 7, canary_arms(7, 8, share), salt=b"k")
    choice = split.choose(user, None, draw)
    expected = 8 if hash_user(user, b"k") % N_BUCKETS < round(share * N_BUCKETS) else 7
    assert choice.version == expected
    assert choice.reason == ("only-version" if share in (0.0, 1.0) else "user-hash")
    assert 0 <= choice.group < N_GROUPS


@given(SHARE.filter(lambda s: 0 < s < 1), st.floats(0, math.nextafter(1, 0)))
def test_without_a_user_the_draw_places_the_request(share, draw):
    split = Split("purchase", 7, canary_arms(7, 8, share))
    for nobody in (None, ""):
        choice = split.choose(nobody, None, draw)
        assert choice.reason == "random"
        assert choice.version in (7, 8)
        assert 0 <= choice.group < N_GROUPS


@given(
    st.dictionaries(USER, st.sampled_from([7, 8]), max_size=4),
    SHARE,
    SALT,
    st.booleans(),
    st.none() | st.builds(Shadow, st.just(9), st.floats(0.001, 1)),
)
def test_a_record_is_read_back_as_it_was_through_json_and_pickle(allow, share, salt, pins, shadow):
    split = Split("purchase", 7, canary_arms(7, 8, share), 5, salt, allow, shadow, pins)
    assert parse_split(json.loads(json.dumps(dump_split(split)))) == split
    back = pickle.loads(pickle.dumps(split))
    assert back == split
    assert [back.choose(u, None, 0.5) for u in USERS[:20]] == [split.choose(u, None, 0.5) for u in USERS[:20]]


def test_each_share_is_within_four_standard_errors_over_100_000_users():
    users = [f"{k}" for k in range(500_000_000, 500_100_000)]
    shares = {1: 0.8, 2: 0.1, 3: 0.09, 4: 0.01}
    found = Counter(versions_of(share_arms(list(shares.items())), b"one salt", users))
    for version, share in shares.items():
        assert abs(found[version] / 100_000 - share) <= 4 * math.sqrt(share * (1 - share) / 100_000)


def test_random_requests_get_the_shares_too():
    split, rng = Split("purchase", 7, canary_arms(7, 8, 0.1)), random.Random(0)
    found = Counter(split.choose(None, None, rng.random()).version for _ in range(50_000))
    assert abs(found[8] / 50_000 - 0.1) <= 4 * math.sqrt(0.09 / 50_000)


def test_another_salt_is_another_independent_assignment():
    arms, n = canary_arms(7, 8, 0.3), 20_000
    users = [f"u{k}" for k in range(n)]
    one, other = versions_of(arms, b"a", users), versions_of(arms, b"b", users)
    both = Counter(zip(one, other, strict=True))
    for pair, share in {(8, 8): 0.09, (8, 7): 0.21, (7, 8): 0.21, (7, 7): 0.49}.items():
        assert abs(both[pair] / n - share) <= 4 * math.sqrt(share * (1 - share) / n)


def test_groups_are_even_and_have_nothing_to_do_with_the_version():
    split, n = Split("purchase", 7, canary_arms(7, 8, 0.5), salt=b"s"), 64_000
    pairs = Counter(split.choose(f"u{k}", None, 0.0)[::2] for k in range(n))
    expected = n / 2 / N_GROUPS
    chi_square = sum((pairs[v, g] - expected) ** 2 / expected for v in (7, 8) for g in range(N_GROUPS))
    assert chi_square < 63 + 4 * math.sqrt(2 * 63)


def test_one_version_needs_no_hash():
    choice = Split("purchase", 7, only_arm(7)).choose("anybody", None, 0.9)
    assert choice == (7, "only-version", 0)
