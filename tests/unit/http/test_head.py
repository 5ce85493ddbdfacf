"""HEAD: every route that answers GET answers it the same, without the body."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serve_app.http.app import create_app
from serve_app.scoring.service.traffic import Traffic
from tests.testing_kit import MemoryAccessLog, MemorySplit
from tests.testing_kit.deployments.calls import AppCalls

pytestmark = pytest.mark.unit

VALUES = {
    "{model}": "purchase",
    "{version}": "3",
    "{rollout_id}": "1",
    "{job_id}": "20260101-000000-abcd",
    "{name:path}": "part-0",
}
PATHS = create_app(Traffic(MemorySplit(), None), MemoryAccessLog(), timeout_s=1).api.openapi()["paths"]
GET_PATHS = ["/docs", "/openapi.json", "/redoc", *(path for path, item in PATHS.items() if "get" in item)]
POST_PATHS = [path for path, item in PATHS.items() if "post" in item]
NEEDS_CONTROL = ("/v1/jobs", "/v1/rollouts")


@pytest.fixture(scope="module")
def calls(package) -> Iterator[AppCalls]:
    with AppCalls(package) as opened:
        yield opened


def fill(path: str) -> str:
    for name, value in VALUES.items():
        path = path.replace(name, value)
    return path


def test_the_routes_are_there():
    assert len(GET_PATHS) > 20
    assert set(POST_PATHS) - set(GET_PATHS) >= {"/predict_purchase", "/invocations", "/v1/events"}


@pytest.mark.parametrize("path", GET_PATHS)
def test_head_is_get_without_the_body(calls, path):
    seen = calls.request("GET", fill(path))
    answer = calls.request("HEAD", fill(path))
    assert answer.status_code == seen.status_code
    assert answer.status_code == (503 if path.startswith(NEEDS_CONTROL) else 200)
    assert answer.content == b""
    kept = {name: value for name, value in seen.headers.items() if name != "x-request-id"}
    assert {name: answer.headers.get(name) for name in kept} == kept
    assert int(answer.headers["content-length"]) == len(seen.content) > 0


async def ask(app, method: str, path: str) -> list[dict]:
    """What an application sends, which a server need not look through for a body."""
    sent: list[dict] = []
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": [], "http_version": "1.1"}

    async def receive() -> dict:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def test_no_byte_of_a_body_is_sent_and_the_log_says_head(calls):
    sent = calls.run(ask(calls.app, "HEAD", "/livez"))
    assert [message.get("body", b"") for message in sent] == [b""] * len(sent)
    assert calls.log.lines[-1][1:4] == ("HEAD", "/livez", 200)


@pytest.mark.parametrize("path", sorted(set(POST_PATHS) - set(GET_PATHS)))
def test_head_of_what_is_posted_is_405_by_its_own_name(calls, path):
    answer = calls.request("HEAD", fill(path))
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.content == b""
    problem = b"".join(message.get("body", b"") for message in calls.run(ask(calls.app, "PUT", fill(path))))
    assert b"PUT is not allowed" in problem


def test_a_wrong_method_names_head_beside_get(calls):
    answer = calls.request("PUT", "/livez")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_head_of_no_route_is_404(calls):
    assert calls.request("HEAD", "/nothing").status_code == 404
