"""A backtest on a running service, killed on the way and taken up again."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from serve_app.events.adapters.log_writer import LogWriter
from serve_app.events.service.synthetic import generate_events
from tests.testing_kit.cluster.service_process import SCORECAT

pytestmark = pytest.mark.cluster


def run(service, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCORECAT, *arguments], env=service.environment, check=False, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip


def test_a_log_is_scored_as_of_every_row_and_the_scores_are_judged_by_what_followed(service, tmp_path):
    events, output = tmp_path / "events.csv.gz", tmp_path / "out"
    with LogWriter(events) as writer:
        for batch in generate_events(20_000, seed=1):
            writer.write(batch)
    done = run(service, "backtest", str(events), str(output), "--max-rejected", "0", "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads(done.stdout)
    assert summary["is_complete"]
    ours = re.compile(r"features: |purchase v1: |[0-9,]+ of [0-9,]+ rows · ")
    assert all(ours.match(line) for line in done.stderr.splitlines()), done.stderr  # no line of Ray's own logging
    assert not list((output / "features").glob("part-*"))  # they were scored
    done = run(service, "backtest", str(events), str(output))
    assert done.returncode == 1
    assert "continue with --resume" in done.stderr
    (output / "features" / "_features.json").unlink()  # as after a kill while features were written
    done = run(service, "backtest", str(events), str(output), "--resume", "--json")
    assert json.loads(done.stdout)["rows_scored"] == summary["rows_scored"], done.stderr[-2000:]
    done = run(service, "evaluate", str(output), str(events), "--rounds", "10", "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    counts = report["counts"]
    assert (counts["scores"], counts["not_in_log"]) == (summary["rows_scored"], 0)
    assert report["overall"]["n_rows"] == counts["scores"] - counts["in_open_sessions"] > 10_000
    assert 0 < report["overall"]["n_positive"] < report["overall"]["n_rows"]
    assert len(report["by_day"]) > 1
    assert set(report["by_version"]) == {str(summary["version"])}
