"""docs/http.md against the service: every code of a problem, the retry rules, and its /v2 example."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from serve_app import errors
from serve_app.cluster import proxy_front
from serve_app.errors import NotReadyError, ScorecatError
from serve_app.http import app as http_app
from serve_app.http.problems import status_of
from tests.testing_kit.deployments.calls import AppCalls

pytestmark = pytest.mark.contract

PAGE = (Path(__file__).parents[3] / "docs" / "http.md").read_text("utf-8")
PROBLEMS = PAGE.partition("\n## Problems\n")[2].partition("\n## Limits\n")[0]


@pytest.fixture(scope="module")
def calls(package) -> Iterator[AppCalls]:
    with AppCalls(package) as opened:
        yield opened


def read_codes() -> dict[str, int]:
    found = {}
    for line in re.findall(r"(?m)^\| (`[^|]+`) \| (\d{3}) \| [^|]{20,} \| [^|]{5,} \|$", PROBLEMS):
        for code in re.findall(r"`([a-z-]+)`", line[0]):
            assert code not in found
            found[code] = int(line[1])
    return found


def test_every_code_is_listed_with_its_status_and_what_to_do():
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ScorecatError)]
    expected = {kind.code: status_of(kind("x")) for kind in kinds}
    expected |= {code: 503 if cause == 502 else cause for cause, (code, _, _) in proxy_front._DETAILS.items()}
    spoken = re.findall(r'40[0-9]: "([a-z]+(?:-[a-z]+)+)"', inspect.getsource(http_app._add_errors))
    assert set(spoken) == {"not-found", "method-not-allowed"}
    assert read_codes() == expected


def test_what_is_to_be_tried_again_is_what_says_when():
    rule = PROBLEMS.partition("1. Try again on ")[2].partition("\n")[0]
    retried = {int(status) for status in re.findall(r"\b[45]\d\d\b", rule.partition("Never")[0])}
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, NotReadyError)]
    assert retried == {status_of(kind("x")) for kind in kinds} | {408}


def test_every_route_that_changes_something_says_what_sending_again_does(calls):
    rules = PROBLEMS.partition("| route | sending it again |")[2]
    for path, item in calls.app.api.openapi()["paths"].items():
        if "post" in item:
            parts = re.sub(r"\{\w+\}", "{id}", path)
            written = {parts, re.sub(r"/(pause|resume|promote|abort)$", "/...", parts)}
            if path.startswith("/v2"):
                written = {"/v2/.../infer"}
            assert any(f"{each}`" in rules for each in written), path


def test_the_example_of_v2_is_answered_as_it_says(calls):
    section = PAGE.partition("## Many rows: the Open Inference Protocol v2")[2]
    body = re.search(r"/infer .* -d '(.*)'", section)
    answer = re.search(r"```json\n(.*)\n```", section)
    assert body is not None
    assert answer is not None
    found = calls.post("/v2/models/purchase/infer", body[1].encode())
    assert found.status_code == 200, found.text

    def shape(value: dict) -> list:
        return [list(value), *({name: o[name] for name in ("name", "datatype", "shape")} for o in value["outputs"])]

    assert shape(found.json()) == shape(orjson.loads(answer[1]))
