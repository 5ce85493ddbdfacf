"""Tables and states as a terminal of 80 columns shows them."""

from __future__ import annotations

import io
from typing import Any

import pytest

from serve_app import cli
from serve_app.cli import status
from serve_app.cli.jobs import jobs
from serve_app.cluster.spec import plan_cluster
from serve_app.terminal import console
from serve_app.terminal.columns import fold, measure, shorten
from serve_app.terminal.console import choose_style

pytestmark = pytest.mark.unit

PATH = "/data/warehouse/events/year=2026/month=11/day=30/rows.parquet"
JOB: dict[str, Any] = {
    "id": "score-20261130-112233-1a2b3c4d", "state": "running", "is_cancelling": True, "model": "purchase",
    "version": 12, "created_at": "2026-11-30T11:22:33+00:00", "started_at": None, "input": PATH,
    "progress": {"rows_read": 12_345_678, "percent": 45.5, "rows_per_s": 637_100.0, "left_s": 120.0},
}  # fmt: skip


@pytest.fixture
def terminal(monkeypatch) -> io.StringIO:
    """A terminal of 80 columns in place of standard output."""
    sink = io.StringIO()
    screen = console.PlainConsole(file=sink, force_terminal=True, width=80, highlight=False, color_system=None)
    for module in (console, jobs, status):
        monkeypatch.setattr(module, "out", screen)
    return sink


def test_folded_rows_fit_and_hold_every_word_whole():
    rows = [("metric", "verdict", "evidence"), ("errors", "inconclusive, dry run", "v2 failed 0 of 157 requests " * 8)]
    assert measure(rows) > 80
    shown = ["  ".join(cells) for row in fold(rows, 80) for cells in row]
    assert max(map(len, shown)) <= 80
    words = {word for row in rows for cell in row for word in cell.split()}
    assert {word for line in shown for word in line.split()} == words


def test_a_name_that_is_too_long_keeps_its_beginning_and_its_end():
    assert shorten(PATH, 30) == "/data/war…th=11/day=30/rows.parquet"[:10] + PATH[-20:]
    assert shorten(PATH, 100) == PATH
    assert max(len("  ".join(cells)) for row in fold([("a", "b"), ("x" * 90, PATH)], 80) for cells in row) <= 80


def test_the_list_of_jobs_fits_80_columns_with_id_and_path_whole(terminal, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(jobs.JobsClient, "recent", lambda self, limit: [JOB])
        cli.build_command()(["jobs", "list", "--url", "http://127.0.0.1:9"], standalone_mode=False)
    lines = terminal.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    words = terminal.getvalue().split()
    for word in (JOB["id"], "running,", "ending", "purchase", "v12", "12,345,678", "637,100", "rows/s,", PATH):
        assert word in words


@pytest.mark.parametrize(
    ("state", "style"),
    [
        ("HEALTHY", "green"), ("succeeded at 100 % of the users", "green"), ("serving purchase v1", "green"),
        ("starting", "yellow"), ("progressing at 10 %", "yellow"), ("inconclusive (1 passed of 3 needed)", "yellow"),
        ("UNHEALTHY", "red"), ("not ready: nothing answers there", "red"), ("rolled back at 0 %", "red"),
        ("died", "red"), ("cancelled", ""),
    ],
)  # fmt: skip
def test_a_state_has_the_colour_of_its_health(state, style):
    assert choose_style(state) == style


def test_status_names_the_versions_that_answer_not_the_stable_one_alone():
    ready = {"model": "purchase", "version": 1}
    split = {"name": "purchase", "versions": [{"version": 1, "share": 0.0}, {"version": 2, "share": 1.0}]}
    assert status.name_answering(ready, [split]) == "purchase v2"
    split["versions"] = [{"version": 1, "share": 0.9}, {"version": 2, "share": 0.1}]
    assert status.name_answering(ready, [split]) == "purchase v1 90 %, v2 10 %"
    assert status.name_answering(ready, []) == "purchase v1"


def test_a_service_that_cannot_score_is_starting_or_not_ready_and_says_why(tmp_path):
    spec = plan_cluster(tmp_path, "127.0.0.1", 9, 1)
    apps = {"purchase-v1": {"Encoder": {"status": "UPDATING", "replicas": 0, "target": 1}}}
    assert status.explain_unready(spec, apps) == "starting"
    apps["purchase-v1"]["Encoder"]["status"] = "HEALTHY"
    assert status.explain_unready(spec, apps) == "not ready: nothing answers there"
