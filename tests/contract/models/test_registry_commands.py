"""``scorecat models`` does the same on every kind of registry."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from serve_app.cli import main
from tests.contract.conftest import Place
from tests.contract.models.test_registry_contract import read_behind, write_behind

pytestmark = pytest.mark.contract


class Command:
    """Runs ``scorecat models …`` in this process, as its entry point does."""

    def __init__(self, place: Place, monkeypatch, capsys, tmp_path) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys
        monkeypatch.setenv("SCORECAT_REGISTRY", place.root)
        monkeypatch.setenv("SCORECAT_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("SCORECAT_USER", "ann@shop")

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["scorecat", "models", *arguments])
        try:
            code = main() or 0
        except SystemExit as exc:
            code = exc.code
        out, err = self.capsys.readouterr()
        return code, out, err

    def json(self, *arguments: str, code: int = 0):
        found, out, err = self(*arguments, "--json")
        assert found == code, err
        return json.loads(out)


@pytest.fixture
def models(place, package_dir, monkeypatch, capsys, tmp_path):
    """The command, on a registry with two versions of purchase, the first being the champion."""
    registry = place.open()
    for _ in range(2):
        registry.publish("purchase", package_dir)
    registry.move_alias("purchase", "champion", 1, reason="first")
    return Command(place, monkeypatch, capsys, tmp_path)


def test_an_alias_moves_and_its_history_says_who_and_why(models):
    code, out, _ = models("alias", "purchase@2", "champion", "--expect", "1", "--reason", "better later slice")
    assert (code, out) == (0, "purchase@champion is now version 2 (was version 1)\n")
    assert models.json("alias", "purchase@1", "beta", "--expect", "0") == {
        "model": "purchase", "alias": "beta", "from": None, "to": 1, "aliases": {"champion": 2, "beta": 1},
    }  # fmt: skip
    code, out, _ = models("alias", "purchase", "beta", "--delete")
    assert (code, out) == (0, "purchase@beta is deleted (was version 1)\n")
    moves = models.json("history", "purchase")["moves"]
    assert [(m["alias"], m["from"], m["to"], m["by"], m["reason"]) for m in moves] == [
        ("champion", None, 1, "tester@here", "first"),
        ("champion", 1, 2, "ann@shop", "better later slice"),
        ("beta", None, 1, "ann@shop", ""),
        ("beta", 1, None, "ann@shop", ""),
    ]
    code, out, _ = models("history", "purchase")
    assert code == 0
    assert out.splitlines()[1].endswith("champion        v1 -> v2     ann@shop  better later slice")


def test_an_alias_that_is_not_where_it_was_expected_stays_with_exit_code_1(models):
    code, _, err = models("alias", "purchase@2", "champion", "--expect", "2")
    assert code == 1
    assert "champion is version 1, not version 2 as expected: nothing was moved" in err
    assert models.json("alias", "purchase@2", "beta", "--expect", "2", code=1)["error"]["code"] == "conflict"
    assert len(models.json("history", "purchase")["moves"]) == 1


def test_an_alias_that_was_moved_between_reading_and_moving_is_a_conflict(models, place, monkeypatch):
    from serve_app.cli.models import aliases

    def move_meanwhile(*_):
        place.open().move_alias("purchase", "champion", 2)

    monkeypatch.setattr(aliases, "_check_expected", move_meanwhile)
    code, _, err = models("alias", "purchase@1", "champion")
    assert code == 1
    assert "moved by somebody else meanwhile: read them again" in err
    assert models.json("list")["models"]["purchase"]["aliases"] == {"champion": 2}


WRONG_USE = {
    ("alias", "purchase", "champion", "--delete"): "champion is what is served and cannot be deleted",
    ("alias", "purchase@1", "beta", "--delete"): "--delete takes the model's name alone: purchase",
    ("alias", "purchase@9", "beta"): "has no version 9",
    ("alias", "purchase", "Beta"): "is no alias",
    ("alias", "purchase", "gone", "--delete"): "no alias 'gone'",
    ("history", "../x"): "is no model name",
    ("clean", "../x"): "is no model name",
    ("verify",): "name a model, or say --all",
    ("verify", "purchase", "--all"): "name a model, or say --all",
}


def test_wrong_use_is_named_with_exit_code_2_and_changes_nothing(models):
    for arguments, text in WRONG_USE.items():
        code, _, err = models(*arguments)
        assert code == 2, arguments
        assert text in err
    assert models.json("list")["models"]["purchase"]["aliases"] == {"champion": 1}


def test_verify_all_proves_every_version_and_names_the_damaged_one(models, place):
    assert models.json("verify", "purchase") == {
        "model": "purchase", "version": 1, "verified": True, "golden_rows": 64,
    }  # fmt: skip
    models("show", "purchase@2")  # a copy that is kept here must not hide what the registry holds
    assert all(v["verified"] for v in models.json("verify", "--all")["versions"])
    data = bytearray(read_behind(place, "purchase/versions/2/vocabularies.json"))
    data[3] ^= 1
    write_behind(place, "purchase/versions/2/vocabularies.json", bytes(data))
    result = models.json("verify", "--all", code=1)["versions"]
    assert [(v["version"], v["verified"]) for v in result] == [(1, True), (2, False)]
    assert "purchase/versions/2/vocabularies.json was altered" in result[1]["error"]
    code, out, _ = models("verify", "--all")
    assert code == 1
    assert "1 of 2 versions" in out
    code, _, err = models("verify", "purchase@2")
    assert code == 1
    assert "was altered" in err


def test_one_damaged_version_and_damaged_aliases_do_not_hide_the_rest(models, place):
    write_behind(place, "purchase/versions/2/manifest.json", b"{}")
    write_behind(place, "purchase/aliases.json", b"{")
    listed = models.json("list")["models"]["purchase"]
    assert listed["versions"][0]["created_at"] == "2026-01-01T00:00:00Z"
    assert "is not a scorecat manifest" in listed["versions"][1]["error"]
    assert "aliases.json is damaged" in listed["error"]
    code, out, err = models("list")
    assert code == 0
    assert "purchase@2" in out
    assert "aliases.json is damaged" in err


def test_what_a_publisher_left_behind_is_listed_and_cleaned(models, place):
    if place.kind == "directory":
        staging = Path(place.root) / "purchase" / "versions" / ".staging-0a"
        staging.mkdir()
        (staging / "model.cbm").write_bytes(b"half")
        what = ".staging-0a"
    else:
        write_behind(
            place, "purchase/claims/3.json", b'{"id": "x", "at": "2026-01-01T00:00:00+00:00", "by": "bob@shop"}'
        )
        write_behind(place, "purchase/versions/3/model.cbm", b"half")
        what = "version 3"
    code, _, err = models("list")
    assert code == 0
    assert f"purchase: {what} is unfinished, begun 20" in err
    assert [u["what"] for u in models.json("verify", "--all")["unfinished"]["purchase"]] == [what]
    assert models.json("clean", "purchase")["removed"] == []
    assert [u["what"] for u in models.json("clean", "purchase", "--older-than-hours", "0")["removed"]] == [what]
    assert models.json("list")["unfinished"] == {}
    assert [v["version"] for v in models.json("list")["models"]["purchase"]["versions"]] == [1, 2]


def test_a_registry_that_is_not_there_is_named(monkeypatch, capsys, tmp_path):
    place = Place("directory", str(tmp_path / "nowhere"), tmp_path / "cache", {})
    models = Command(place, monkeypatch, capsys, tmp_path)
    code, out, _ = models("list")
    assert (code, out) == (0, f"no models in {tmp_path}/nowhere; `scorecat train EVENTS` makes one\n")
    code, _, err = models("show", "purchase")
    assert code == 2
    assert f"there is no registry at {tmp_path}/nowhere" in err
    assert not (tmp_path / "nowhere").exists()
