"""``scorecat rollout`` and ``scorecat shadow`` against the real routes and use case, without a cluster."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import httpx
import pytest

from serve_app import cli
from serve_app.cli.rollouts import rollout as rollout_commands
from serve_app.cli.rollouts import rollout_view
from serve_app.cli.status import describe_shares
from serve_app.client.operator import RolloutClient
from serve_app.errors import ConflictError, InvariantError, NotFoundError, NotReadyError
from serve_app.http.app import create_app
from serve_app.rollouts.service.ports import Report
from serve_app.scoring.service.traffic import Traffic
from tests.testing_kit import MemoryAccessLog, MemorySplit
from tests.testing_kit.rollouts.control import AppTransport, LocalRollouts
from tests.testing_kit.rollouts.rollouts import RolloutWorld, count_requests

pytestmark = pytest.mark.unit

PLAN = """
steps: [10, 50, 100]
interval: 5s
initialDelay: 0s
bake_time_s: 10
metrics:
  errors: {max_added_share: 0.1, interval: 2s}
"""


class Terminal:
    """Types commands; `run` returns exit code, stdout and stderr."""

    def __init__(self, world: RolloutWorld, monkeypatch, capsys) -> None:
        self.world = world
        self.rollouts = LocalRollouts(world.control)
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.transport = AppTransport(self.make_app)
        monkeypatch.setattr(
            rollout_commands, "RolloutClient", functools.partial(RolloutClient, transport=self.transport)
        )

    def make_app(self):
        return create_app(Traffic(MemorySplit(), None), MemoryAccessLog(), timeout_s=1, rollouts=self.rollouts)

    def run(self, *arguments: str, url: bool = True) -> tuple[int, str, str]:
        more = ["--url", "http://shop"] if url else []
        self._monkeypatch.setattr(sys, "argv", ["scorecat", *arguments, *more])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        printed = self._capsys.readouterr()
        return int(caught.value.code or 0), printed.out, printed.err

    def run_json(self, *arguments: str, code: int = 0) -> dict:
        found, out, err = self.run(*arguments, "--json")
        assert found == code, err
        return json.loads(out)


@pytest.fixture
def terminal(tmp_path, package_dir, monkeypatch, capsys) -> Terminal:
    monkeypatch.setenv("SCORECAT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SCORECAT_USER", "anna")
    return Terminal(RolloutWorld(tmp_path, package_dir), monkeypatch, capsys)


@pytest.fixture
def plan_file(tmp_path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return path


def test_start_says_what_it_began_and_who_asked(terminal, plan_file):
    code, out, err = terminal.run("rollout", "start", "2", "--plan", str(plan_file), "--why", "retrained")
    assert code == 0
    assert out == "rollout 1 (purchase canary v1 -> v2): deploying at 0 % of the users\n"
    assert "scorecat rollout abort 1" in err
    (change,) = terminal.run_json("rollout", "history")["changes"]
    assert (change["who"], change["why"]) == ("anna", "retrained")


def test_status_shows_shares_counts_and_verdicts_with_their_evidence(terminal, plan_file):
    terminal.run("rollout", "start", "2", "--plan", str(plan_file))
    terminal.world.run_until(1, "progressing")
    terminal.world.run(4)
    code, out, _ = terminal.run("rollout", "status")
    assert code == 0
    assert "progressing at 10 % of the users (step 1 of 3)" in out
    lines = [line.split() for line in out.splitlines()]
    canary = next(line for line in lines if line[:3] == ["v2", "10", "%"])
    assert int(canary[3].replace(",", "")) > 0
    verdict = next(line for line in out.splitlines() if line.strip().startswith("errors"))
    assert "v2 failed 0 of" in verdict
    assert "purchase-v2: running, proved" in out
    assert "what can be done: pause, promote, abort" in out


def test_status_is_the_json_of_the_route(terminal):
    assert terminal.run_json("rollout", "status") == {"rollout": None}
    started = terminal.run_json("rollout", "start", "2")
    assert terminal.run_json("rollout", "status") == started == terminal.world.control.describe(1)


def test_commands_take_the_newest_rollout_or_the_one_that_is_named(terminal, plan_file):
    terminal.run("rollout", "start", "2", "--plan", str(plan_file))
    terminal.world.run_until(1, "progressing")
    assert terminal.run("rollout", "pause", "--why", "lunch")[1] == (
        "rollout 1 (purchase canary v1 -> v2): paused at 10 % of the users (step 1 of 3)\n"
    )
    assert terminal.run("rollout", "resume", "1")[0] == 0
    assert terminal.run("rollout", "promote")[1].endswith("promoting at 100 % of the users\n")
    assert terminal.run("rollout", "abort")[1].endswith("rolled back at 0 % of the users\n")
    whys = [change["why"] for change in terminal.run_json("rollout", "history", "1")["changes"]]
    assert "anna: pause, lunch" in whys


def test_a_conflict_exits_1_and_wrong_use_exits_2(terminal):
    terminal.run("rollout", "start", "2")
    code, _, err = terminal.run("rollout", "start", "3")
    assert (code, "rollout 1" in err) == (1, True)
    assert terminal.run("rollout", "resume")[0] == 1
    assert terminal.run("rollout", "start", "99")[0] == 2
    assert terminal.run("rollout", "status", "77")[0] == 2
    assert terminal.run("rollout", "start", "--share-of", "two=50")[0] == 2
    assert terminal.run("rollout", "start")[0] == 2
    assert terminal.run_json("rollout", "resume", code=1)["error"]["code"] == "conflict"


def test_without_a_rollout_there_is_nothing_to_command(terminal):
    code, _, err = terminal.run("rollout", "abort")
    assert (code, "rollout start" in err) == (2, True)
    code, out, _ = terminal.run("rollout", "status")
    assert (code, "rollout start" in out) == (0, True)


def test_a_control_app_that_is_away_exits_1_and_says_so(terminal):
    terminal.rollouts.is_away = True
    code, _, err = terminal.run("rollout", "status")
    assert (code, "control app" in err) == (1, True)


def test_without_a_service_the_hint_is_up(terminal):
    code, _, err = terminal.run("rollout", "status", url=False)
    assert (code, "scorecat up" in err) == (1, True)


def test_history_all_lists_rollouts(terminal):
    for _ in range(2):
        terminal.run("rollout", "start", "2")
        terminal.run("rollout", "abort")
    out = terminal.run("rollout", "history", "--all")[1].splitlines()
    assert [line.split()[0] for line in out] == ["id", "2", "1"]
    assert [r["id"] for r in terminal.run_json("rollout", "history", "--all", "--limit", "1")["rollouts"]] == [2]


def test_an_ab_test_is_started_by_shares_and_ended_by_abort(terminal):
    code, out, err = terminal.run("rollout", "start", "--share-of", "1=40", "--share-of", "v2=60%")
    assert code == 0, err
    assert "A/B test v1 and v2" in out
    terminal.world.run_until(1, "progressing")
    terminal.world.run(3)
    out = terminal.run("rollout", "status")[1]
    assert "60 %" in out
    assert terminal.run("rollout", "abort")[1].endswith(": ended\n")


def test_named_users_get_the_version(terminal):
    terminal.run("rollout", "start", "2", "--allow", "anna", "--allow", "ben")
    terminal.world.run_until(1, "progressing")
    assert terminal.world.split.allow == {"anna": 2, "ben": 2}


def test_a_file_may_say_everything_and_options_go_first(terminal, plan_file):
    plan_file.write_text(f"{PLAN}\nmodel: purchase\nversion: 2\nallow: [anna]\n")
    terminal.run("rollout", "start", "--plan", str(plan_file))
    found = terminal.world.control.describe(1)
    assert (found["version"], found["steps"], found["n_allowed"]) == (2, [10, 50, 100], 1)
    terminal.run("rollout", "abort")
    terminal.run("rollout", "start", "3", "--plan", str(plan_file))
    assert terminal.world.control.describe(2)["version"] == 3


def test_a_file_of_an_ab_test_needs_no_plan(terminal, plan_file):
    plan_file.write_text("shares: {1: 50, 2: 50}\n")
    terminal.run("rollout", "start", "--plan", str(plan_file))
    found = terminal.world.control.describe(1)
    assert (found["kind"], found["shares"]) == ("ab", {"1": 50.0, "2": 50.0})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vershun: 2", "/vershun: unknown; did you mean version?"),
        ("version: 2\nstep: [1, 2]", "/step: unknown; did you mean steps?"),
        ("version: 2\nsteps: [2, 1]", "/steps: steps must rise"),
        ("version: 2\nversion: 3", "version is given twice"),
        ("shares: {1: 50, 2: 50}\nsteps: [10]", "a plan is for canaries alone"),
        ("kind: shadow\nversion: 2\nallow: [x]", "/allow"),
        ("- 1", "holds no rollout"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_before_anything_is_sent(terminal, plan_file, text, says):
    plan_file.write_text(text)
    code, _, err = terminal.run("rollout", "start", "--plan", str(plan_file))
    assert code == 2
    assert says in err
    assert terminal.world.control.recent("", 5) == []


def test_a_file_that_is_not_there_is_wrong_use(terminal, tmp_path):
    code, _, err = terminal.run("rollout", "start", "2", "--plan", str(tmp_path / "none.yaml"))
    assert (code, "none.yaml" in err) == (2, True)


def test_simulate_reads_the_plan_of_a_rollout_file(terminal, plan_file):
    plan_file.write_text(f"{PLAN}\nversion: 2\n")
    code, out, err = terminal.run("rollout", "simulate", str(plan_file), "--runs", "5", "--workers", "1", url=False)
    assert code == 0, err
    assert "steps 10, 50, 100 %" in out


def pass_time(terminal: Terminal, monkeypatch) -> None:
    """Let a second of the rollout pass whenever the watcher waits for one."""
    monkeypatch.setattr(rollout_view.time, "sleep", lambda _: terminal.world.run(1))
    monkeypatch.setattr(
        rollout_commands, "watch", functools.partial(rollout_view.watch, sleep=lambda _: terminal.world.run(1))
    )


def test_wait_returns_when_the_rollout_has_succeeded_and_says_each_step(terminal, plan_file, monkeypatch):
    pass_time(terminal, monkeypatch)
    code, out, err = terminal.run("rollout", "start", "2", "--plan", str(plan_file), "--wait")
    assert code == 0
    assert out.startswith("rollout 1 (purchase canary v1 -> v2): succeeded at 100 % of the users")
    for state in ("deploying", "progressing at 10 %", "progressing at 50 %", "promoting at 100 %", "succeeded"):
        assert state in err


def test_wait_exits_1_when_the_canary_was_rolled_back(terminal, plan_file, monkeypatch):
    pass_time(terminal, monkeypatch)
    terminal.world.error_shares[2] = 0.5
    code, out, _ = terminal.run("rollout", "start", "2", "--plan", str(plan_file), "--wait")
    assert (code, "rolled back" in out) == (1, True)


def test_a_watcher_waits_for_a_control_app_that_is_away(terminal, plan_file, monkeypatch):
    terminal.run("rollout", "start", "2", "--plan", str(plan_file))
    n_waits = 0

    def wait(_: float) -> None:
        nonlocal n_waits
        n_waits += 1
        terminal.rollouts.is_away = n_waits % 3 == 1
        terminal.world.run(1)

    client = RolloutClient("http://shop", transport=terminal.transport)
    assert rollout_view.watch(client, 1, sleep=wait)["phase"] == "succeeded"
    assert n_waits > 10


def test_ctrl_c_ends_watching_and_nothing_else(terminal, plan_file, monkeypatch):
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rollout_commands, "watch", functools.partial(rollout_view.watch, sleep=interrupt))
    code, _, err = terminal.run("rollout", "start", "2", "--plan", str(plan_file), "--wait")
    assert code == 130
    assert "the rollout goes on" in err
    assert "Traceback" not in err
    assert terminal.world.control.describe(1)["is_active"]


def test_a_shadow_is_started_shown_and_stopped(terminal):
    code, out, _ = terminal.run("shadow", "start", "3", "--share", "0.5")
    assert (code, out) == (0, "rollout 1 (purchase shadow v3 beside v1): deploying\n")
    terminal.world.run_until(1, "progressing")
    assert "gets copies of 50 % of the requests" in terminal.run("rollout", "status")[1]
    assert terminal.world.split.shadow is not None
    assert terminal.run("shadow", "stop", "--why", "seen enough")[1].endswith(": ended\n")
    assert terminal.world.split.shadow is None
    assert terminal.run("shadow", "stop")[0] == 2


def test_shadow_stop_leaves_a_canary_alone(terminal):
    terminal.run("rollout", "start", "2")
    assert terminal.run("shadow", "stop")[0] == 2
    assert terminal.world.control.describe(1)["is_active"]


def test_the_client_raises_the_errors_of_the_service(terminal):
    with RolloutClient("http://shop", transport=terminal.transport) as client:
        client.start({"version": 2})
        with pytest.raises(ConflictError):
            client.start({"version": 3})
        with pytest.raises(NotFoundError):
            client.describe(5)
        terminal.rollouts.is_away = True
        with pytest.raises(NotReadyError) as caught:
            client.recent()
    assert caught.value.retry_after_s == 5.0


def test_a_server_that_is_not_scorecat_is_named():
    page = httpx.MockTransport(lambda request: httpx.Response(200, text="<html>", request=request))
    with RolloutClient("http://other", transport=page) as client, pytest.raises(InvariantError, match="is it scorecat"):
        client.models()


def test_what_others_wrote_does_not_steer_the_terminal(terminal, monkeypatch):
    monkeypatch.setenv("SCORECAT_USER", "eve\x1b[2J\u202e")
    code, out, err = terminal.run("rollout", "start", "2", "--why", "a\x00\nb\x9b31m ümlaut [red]")
    assert code == 0, err
    for command in (["rollout", "history"], ["rollout", "status"]):
        code, out, _ = terminal.run(*command)
        assert code == 0
        assert "a\\x00\\nb\\x9b31m ümlaut [red]" in out
        assert not set(out) & set("\x1b\x00\x9b\u202e")
    assert "eve\\x1b[2J\\u202e" in terminal.run("rollout", "history")[1]


@pytest.mark.parametrize("share", ["nan", "inf", "-1", "0", "1.5"])
def test_a_shadow_of_no_share_is_refused_before_anything_is_sent(terminal, share):
    code, _, err = terminal.run("shadow", "start", "2", "--share", share)
    assert (code, terminal.world.store.recent("purchase")) == (2, [])
    assert "above 0 and up to 1" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("start", "\udcff"), "/version"),
        (("start", "2", "--why", "\udcff"), "/why: is no text in UTF-8"),
        (("start", "--share-of", "1=99.999", "--share-of", "3=0.001"), "a share is a multiple of 0.01 per cent"),
        (("start", "--share-of", "1=nan", "--share-of", "2=50"), "above 0 and up to 100"),
    ],
)
def test_what_cannot_be_sent_is_wrong_use(terminal, arguments, words):
    code, _, err = terminal.run("rollout", *arguments)
    assert code == 2
    assert words in err
    assert terminal.world.store.recent("purchase") == []


def test_an_ab_test_is_called_by_all_its_versions_and_ends(terminal):
    shares = ("--share-of", "1=50", "--share-of", "2=30", "--share-of", "3=20")
    _, out, _ = terminal.run("rollout", "start", *shares)
    assert out.startswith("rollout 1 (purchase A/B test v1, v2 and v3): deploying with v1 50 %, v2 30 %, v3 20 %")
    terminal.world.run(8)
    terminal.run("rollout", "abort")
    _, out, _ = terminal.run("rollout", "history")
    assert "progressing -> ended" in out
    assert "rolled_back" not in out
    assert "A/B test v1, v2 and v3  " in terminal.run("rollout", "history", "--all")[1]


def test_history_says_what_became_of_telling_the_webhook(terminal, tmp_path):
    path = tmp_path / "told.yaml"
    path.write_text(PLAN + "webhook: http://127.0.0.1:9/x\n")
    terminal.run("rollout", "start", "2", "--plan", str(path))
    assert "    webhook: waiting\n" in terminal.run("rollout", "history")[1]
    terminal.world.outbox.settle(1, "undelivered", 5, "it answered 500")
    assert "    webhook: undelivered after 5 attempts, it answered 500\n" in terminal.run("rollout", "history")[1]
    (change,) = terminal.run_json("rollout", "history")["changes"]
    assert change["webhook"] == "undelivered after 5 attempts, it answered 500"


def test_a_watcher_says_what_a_rollout_without_requests_waits_for(terminal, plan_file, monkeypatch, capsys):
    monkeypatch.setattr(rollout_view, "FIRST_WORD_LOOKS", 3)
    terminal.run("rollout", "start", "2", "--plan", str(plan_file))
    terminal.world.run_until(1, "progressing", rate=0)
    n_waits = 0

    def wait(_: float) -> None:
        nonlocal n_waits
        n_waits += 1
        terminal.world.run(1, rate=0)
        if n_waits == 10:
            terminal.world.control.command(1, "abort", "Ada", "")

    client = RolloutClient("http://shop", transport=terminal.transport)
    assert rollout_view.watch(client, 1, sleep=wait)["phase"] == "rolled_back"
    said = capsys.readouterr().err.splitlines()
    waiting = [line for line in said if "waiting for requests: none has been compared yet" in line]
    assert len(waiting) == 2  # after 3 looks and 6 more


def test_a_watcher_says_the_evidence_that_is_still_missing(terminal, plan_file):
    terminal.run("rollout", "start", "2", "--plan", str(plan_file))
    terminal.world.run_until(1, "progressing")
    terminal.world.run(8, rate=20)
    said = rollout_view.say_waiting(terminal.world.control.describe(1))
    assert said.startswith("waiting for errors inconclusive: v2 failed 0 of")
    terminal.run("rollout", "pause")
    said = rollout_view.say_waiting(terminal.world.control.describe(1))
    assert said == "waiting for a person: `scorecat rollout resume`, `promote`, `abort`"


def test_what_another_rollout_is_in_the_way_of_says_how_that_one_ends(terminal):
    for begin, hint in [
        (("rollout", "start", "2"), "abort it first (`scorecat rollout abort`), or promote it"),
        (("rollout", "start", "--share-of", "1=50", "--share-of", "2=50"), "it is an A/B test, end it first"),
        (("shadow", "start", "2"), "it is a shadow, end it first (`scorecat shadow stop`)"),
    ]:
        terminal.run(*begin)
        code, _, err = terminal.run("rollout", "start", "3")
        assert (code, hint in " ".join(err.split())) == (1, True), err
        terminal.run("rollout", "abort")


def test_a_version_beside_shares_is_refused_unless_users_are_named_for_it(terminal):
    shares = ("--share-of", "1=50", "--share-of", "3=50")
    code, _, err = terminal.run("rollout", "start", "2", *shares)
    assert (code, "/version: says with `allow` which version the named users get" in " ".join(err.split())) == (2, True)
    assert terminal.world.store.recent("purchase") == []
    assert terminal.run("rollout", "start", "3", *shares, "--allow", "anna")[0] == 0


def test_an_unknown_member_of_a_file_is_answered_with_all_that_a_file_may_hold(terminal, plan_file):
    plan_file.write_text("version: 2\ncolour: red\n")
    _, _, err = terminal.run("rollout", "start", "--plan", str(plan_file))
    words = " ".join(err.split())
    assert "/colour: unknown; known: version, model, kind, shares, share, allow, steps, interval_s" in words


def test_status_tells_all_requests_from_those_compared_and_counts_the_named_users(terminal, plan_file):
    terminal.run("rollout", "start", "2", "--plan", str(plan_file), "--allow", "anna", "--allow", "ben")
    terminal.world.run_until(1, "progressing")
    terminal.world.run(1)
    counters = count_requests(40)
    for _ in range(60):
        counters.count_answer("allow-list", 0, 0.02, 0.05)
    terminal.world.control.report(Report("gateway-2", terminal.world.split.revision, {2: counters}))
    terminal.world.run(3)
    out = terminal.run("rollout", "status")[1]
    lines = [line.split() for line in out.splitlines()]
    assert ["version", "share", "requests", "compared", "errors"] in [line[:5] for line in lines]
    canary = next(line for line in lines if line[:3] == ["v2", "10", "%"])
    assert int(canary[3]) == int(canary[4]) + 60
    assert "named users: 2, whose requests are not compared" in out


def test_an_ab_test_shows_the_sample_ratio(terminal):
    terminal.run("rollout", "start", "--share-of", "1=40", "--share-of", "2=60")
    terminal.world.run_until(1, "progressing")
    assert "shares: " not in terminal.run("rollout", "status")[1]
    terminal.world.run(3)
    out = terminal.run("rollout", "status")[1]
    assert "shares: v1 got" in out
    assert "(60.00%) where 60.00% was set; Bayes factor" in out
    assert "mismatch" not in out


def test_an_ended_shadow_got_copies_and_history_repeats_neither_state_nor_name(terminal):
    terminal.run("shadow", "start", "3", "--share", "0.5")
    terminal.world.run_until(1, "progressing")
    terminal.run("shadow", "stop", "--why", "seen enough")
    assert "v3 got copies of 50 % of the requests" in terminal.run("rollout", "status")[1]
    assert "  anna\n    abort, seen enough\n" in terminal.run("rollout", "history")[1]
    terminal.world.registry.move_alias("purchase", "champion", 2)
    terminal.run("rollout", "start", "2")
    terminal.run("rollout", "abort")
    terminal.world.run(2)
    *_, state, who = terminal.run("rollout", "history")[1].splitlines()[-2].split()
    assert (state, who) == ("rolled_back", "controller")  # of the alias alone
    assert "the alias champion did not follow" in terminal.run("rollout", "status")[1]


def test_status_calls_the_versions_of_an_ab_test_by_their_name():
    versions = [
        {"version": 1, "role": "canary", "share": 0.5, "copied_share": 0.0},
        {"version": 3, "role": "stable", "share": 0.5, "copied_share": 0.0},
    ]
    assert describe_shares({"versions": versions, "kind": "ab"}) == (
        "v1 in the A/B test, 50 % of the users · v3 stable, 50 % of the users"
    )
    assert describe_shares({"versions": versions, "kind": "canary"}).startswith("v1 canary, 50 %")
