"""A service that begins with a log's history, and what `features verify` left being removed."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from serve_app.cli import app
from serve_app.cli.history.features import open_run
from serve_app.cli.history.state_from import check_state_from, load_state
from serve_app.errors import BadRequestError, NotFoundError
from serve_app.events.adapters.log_writer import LogWriter
from serve_app.events.service.synthetic import generate_events
from serve_app.features.core.specs import HISTORY_NAMES
from serve_app.history.adapters.open_store import open_live_history
from serve_app.history.service.live_history import LiveEvent, ScoredRow
from serve_app.settings import load_settings
from serve_app.skew.verify_run import VerifyRun
from serve_app.storage.json_file import ProgressFile

pytestmark = pytest.mark.unit

N = 500


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("SCORECAT_HOME", str(tmp_path / "home"))
    return load_settings()


@pytest.fixture
def log(tmp_path):
    with LogWriter(tmp_path / "events.csv") as writer:
        for batch in generate_events(N, seed=3):
            writer.write(batch)
    return writer.path


def n_events(settings, user: str) -> float:
    found = open_live_history(settings.state_config).lookup([ScoredRow(user, "new", "p", 1.0, 1_600_000_000)])
    return found.features[HISTORY_NAMES.index("total_events_y"), 0] - 1


def test_every_user_of_the_log_is_known_and_those_known_before_stay(settings, log):
    events = [row for batch in generate_events(N, seed=3) for row in batch.to_pylist()]
    users = {str(e["user_id"]) for e in events}
    known = str(events[0]["user_id"])
    open_live_history(settings.state_config).record([LiveEvent(known, "s", "p", "view", 1.0, 1_600_000_000)])
    report = load_state(*check_state_from(settings, log))
    assert report == {"users": len(users) - 1, "known": 1, "events": N, "dropped": {}}
    assert n_events(settings, known) == 1
    other = next(user for user in users if user != known)
    assert n_events(settings, other) == sum(str(e["user_id"]) == other for e in events)
    assert load_state(*check_state_from(settings, log))["known"] == len(users)


def test_what_is_past_retention_is_not_loaded_and_that_is_said(settings, log, monkeypatch, capsys):
    monkeypatch.setenv("SCORECAT_STATE_RETENTION_DAYS", "7")
    report = load_state(*check_state_from(load_settings(), log))
    assert (report["users"], report["known"]) == (0, 0)
    assert "past the 7 days of retention" in capsys.readouterr().err


def test_a_log_that_is_not_there_or_a_service_without_history_is_refused_before_anything_starts(settings, monkeypatch):
    done = CliRunner().invoke(app, ["up", "--state-from", "none.csv"])
    assert isinstance(done.exception, NotFoundError)
    assert not (settings.home / "registry").exists()
    monkeypatch.setenv("SCORECAT_STATE", "off")
    done = CliRunner().invoke(app, ["up", "--state-from", "none.csv"])
    assert isinstance(done.exception, BadRequestError)
    assert "SCORECAT_STATE is off" in str(done.exception)


def test_clean_removes_what_verify_made_and_nothing_else(settings, log):
    user = str(next(generate_events(N, seed=3)).column("user_id")[0].as_py())
    history = open_live_history(settings.state_config)
    for prefix in ("", "verify-a-", "verify-b-"):
        history.record([LiveEvent(prefix + user, "s", "p", "view", 1.0, 1_600_000_000, event_id=prefix + "e")])
    assert isinstance(CliRunner().invoke(app, ["features", "clean", str(log)]).exception, NotFoundError)
    run = open_run(settings, log)
    VerifyRun(ProgressFile(run.record.path), "http://shop", ["verify-a-", "verify-b-"]).save()
    done = CliRunner().invoke(app, ["features", "clean", str(log), "--json"])
    assert json.loads(done.stdout) == {"sessions": 2, "events": 2, "prefixes": ["verify-a-", "verify-b-"]}
    assert (n_events(settings, user), n_events(settings, "verify-a-" + user)) == (1, 0)
    assert not open_run(settings, log).prefixes
