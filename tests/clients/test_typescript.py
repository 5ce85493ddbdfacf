"""A TypeScript client generated from the service's own openapi.json: it compiles strictly, and calls every route."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

SOURCES = Path(__file__).parent / "typescript"
FILES = ("package.json", "package-lock.json", "tsconfig.json", "client.ts")
ROW = {"price": 130.76, "hour": 12, "day_of_week": 1, "is_weekend": 0}


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def found(service_url, tmp_path_factory) -> dict:
    """What the generated client got; made in a folder of its own, with the versions of the lock file."""
    folder = tmp_path_factory.mktemp("typescript")
    for name in FILES:
        shutil.copy(SOURCES / name, folder)
    (folder / "openapi.json").write_bytes(httpx.get(f"{service_url}/openapi.json").content)
    run(folder, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error")
    run(folder, "npm", "run", "--silent", "generate")
    run(folder, "npm", "run", "--silent", "compile")
    return json.loads(run(folder, "node", "build/client.js", service_url))


def test_every_way_to_score_gives_the_same(found, service_url):
    plain = httpx.post(f"{service_url}/invocations", json={"dataframe_records": [ROW]}).json()["predictions"][0]
    ways = ("table", "csv", "inferred", "sameAgain")
    assert {way: found[way] for way in ways} == dict.fromkeys(ways, plain)
    assert 0 < found["probability"] < 1


def test_answers_have_their_headers_and_reasons(found):
    assert found["headers"] == [True, True, True]
    assert found["reasons"] == 5


def test_the_pointers_of_a_refusal_are_typed(found):
    assert found["pointers"] == ["/price"]


def test_events_are_recorded(found):
    assert found["recorded"] == 1


def test_every_route_that_reads_answers(found):
    assert found["alive"] == ["ok", "purchase", "ok", "ok", True, True, "scorecat", True, "purchase", True, True]
    models, rollouts, jobs = found["listed"]
    assert (models, rollouts) == (["purchase"], [])
    assert isinstance(jobs, list)  # of the files that other tests score


def test_refusals_are_problems_with_a_code(found):
    assert {tuple(each) for each in found["refused"]} == {(404, "not-found")}
    assert found["job"]
