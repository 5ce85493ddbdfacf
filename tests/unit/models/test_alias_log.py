"""Aliases and their history are one value, and no move is lost when the old ones are put away."""

from __future__ import annotations

import json

import pytest

from serve_app.models.core.alias_log import (
    ARCHIVED_MOVES,
    KEPT_MOVES,
    AliasLog,
    AliasMove,
    parse_alias_log,
    parse_moves,
)

pytestmark = pytest.mark.unit


def make_move(number: int, alias: str = "champion", new: int | None = 1) -> AliasMove:
    return AliasMove(f"id{number}", f"2026-01-01T00:00:{number % 60:02d}.000+00:00", "ann@shop", alias, None, new, "ü")


def make_log(n_moves: int) -> AliasLog:
    log = AliasLog()
    for number in range(n_moves):
        log = log.record(make_move(number, new=number + 1))
    return log


def test_a_log_is_read_as_it_was_written():
    log = make_log(3).record(make_move(3, "beta", 2)).record(make_move(4, "beta", None))
    assert parse_alias_log(log.dump()) == log
    assert (log.revision, dict(log.versions)) == (5, {"champion": 3})
    assert json.loads(log.dump())["history"][-1] == {
        "id": "id4", "at": "2026-01-01T00:00:04.000+00:00", "by": "ann@shop", "alias": "beta",
        "from": None, "to": None, "reason": "ü",
    }  # fmt: skip


def test_aliases_from_before_there_was_a_history_are_read():
    log = parse_alias_log(b'{"revision": 4, "aliases": {"champion": 2}}')
    assert log == AliasLog(4, {"champion": 2})
    assert log.record(make_move(1)).revision == 5


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "7", "null", '{"aliases": {}}', '{"revision": 1, "aliases": {"champion": null}}', "\xff",
        "[" * 100_000,
        '{"revision": 1, "aliases": {}, "history": [{"id": "x"}]}', '{"revision": 1, "aliases": {}, "history": 7}',
        '{"revision": 1e999, "aliases": {}}',
    ],
)  # fmt: skip
def test_what_is_no_log_is_a_value_error(text):
    with pytest.raises(ValueError, match="is cut, or was written by something else"):
        parse_alias_log(text.encode("latin-1"))


@pytest.mark.parametrize("text", ["", "{}}", "7", "[1]", '[{"id": "x"}]'])
def test_what_is_no_archive_is_a_value_error(text):
    with pytest.raises(ValueError, match="is cut, or was written by something else"):
        parse_moves(text.encode())


def test_few_moves_stay_together():
    log = make_log(KEPT_MOVES)
    assert log.split_archive() == (log, "", b"")


def test_the_oldest_of_many_moves_go_to_a_file_named_by_what_it_holds():
    log = make_log(KEPT_MOVES + 1)
    kept, name, data = log.split_archive()
    assert parse_moves(data) + kept.moves == log.moves
    assert len(parse_moves(data)) == ARCHIVED_MOVES
    assert kept.archives == (name,)
    assert name.startswith("00000001-")
    assert (kept.revision, kept.versions) == (log.revision, log.versions)
    assert log.split_archive() == (kept, name, data)  # who races writes the same file
    for number in range(ARCHIVED_MOVES):
        kept = kept.record(make_move(number))
    _, second, _ = kept.split_archive()
    assert second.startswith(f"{ARCHIVED_MOVES + 1:08d}-")


def test_a_full_log_is_about_as_large_as_said():
    assert len(make_log(KEPT_MOVES).dump()) < 150_000


def test_aliases_that_their_history_does_not_explain_are_damage():
    log = AliasLog().record(AliasMove("1", "2026-01-01T00:00:00Z", "me", "champion", None, 1))
    assert parse_alias_log(log.dump()) == log
    with pytest.raises(ValueError, match="champion points at 2, its last move was to 1"):
        parse_alias_log(log.dump().replace(b'"champion": 1', b'"champion": 2'))
