"""Aliases move by compare-and-swap: of movers that read the same state, one wins."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.errors import ConflictError
from serve_app.models.adapters.registry_folder import DirectoryRegistry

pytestmark = pytest.mark.property

N_VERSIONS = 4
MOVE = st.tuples(st.sampled_from(["champion", "challenger"]), st.integers(1, N_VERSIONS))


@pytest.fixture(scope="module")
def published(tmp_path_factory, package_dir):
    registry = DirectoryRegistry(tmp_path_factory.mktemp("registry"))
    for _ in range(N_VERSIONS):
        registry.publish("purchase", package_dir)
    return registry


def race(registry, moves, expected):
    """Run all moves at once with the same expectation; return what each got, None for a conflict."""
    start = threading.Barrier(len(moves))

    def move(alias, version):
        start.wait()
        try:
            return registry.move_alias("purchase", alias, version, expected=expected)
        except ConflictError:
            return None

    with ThreadPoolExecutor(len(moves)) as pool:
        return [f.result() for f in [pool.submit(move, *m) for m in moves]]


@settings(max_examples=40, deadline=None)
@given(start=st.integers(1, N_VERSIONS), moves=st.lists(MOVE, min_size=2, max_size=4))
def test_one_of_concurrent_movers_with_the_same_token_wins(published, start, moves):
    published.move_alias("purchase", "champion", start)
    published.move_alias("purchase", "challenger", start)
    before = published.aliases("purchase")
    won = [i for i, result in enumerate(race(published, moves, before)) if result is not None]
    assert len(won) == 1, f"movers {won} of {moves} won from {dict(before.versions)}"
    alias, version = moves[won[0]]
    assert published.aliases("purchase").versions == {**before.versions, alias: version}


@settings(max_examples=30, deadline=None)
@given(moves=st.lists(MOVE, min_size=2, max_size=12))
def test_every_move_changes_the_token(published, moves):
    tokens = [published.aliases("purchase").token]
    tokens += [published.move_alias("purchase", alias, version).token for alias, version in moves]
    assert len(set(tokens)) == len(tokens)


@settings(max_examples=20, deadline=None)
@given(moves=st.lists(MOVE, min_size=2, max_size=4))
def test_movers_without_an_expectation_all_succeed_and_none_is_lost(published, moves):
    before = published.aliases("purchase").versions
    assert None not in race(published, moves, None)
    after = published.aliases("purchase").versions
    for alias in set(after):
        wanted = {v for a, v in moves if a == alias} or {before[alias]}
        assert after[alias] in wanted
