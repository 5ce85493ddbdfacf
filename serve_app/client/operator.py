"""Calls of the operator's routes over HTTP: batch jobs, rollouts, and what is served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Self
from urllib.parse import quote

import httpx
import orjson

from serve_app.client.problems import explain_failure, parse_problem
from serve_app.client.retries import parse_retry_after
from serve_app.errors import BadRequestError, FieldError, InvariantError, point_at
from serve_app.runtime.trust import choose_trust

TIMEOUT_S: Final = 70.0
"""Longer than the service waits for its control app: a start fetches and checks the package."""
_JOB: Final = ("id", "state", "created_at")
_ROLLOUT: Final = ("id", "kind", "phase")
"""Members by which an answer is known."""


class OperatorClient:
    """The routes of one service; use it in ``with``. No call is sent twice: most of them change something.

    Parameters
    ----------
    url : str
        Where the service is, for example ``http://127.0.0.1:8000``.
    timeout_s : float
        For the parts of each call.
    transport : httpx.BaseTransport or None
        In place of the network: for tests.
    """

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S, *, transport: httpx.BaseTransport | None = None) -> None:
        self._url = url.rstrip("/")
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0))
        self._http = httpx.Client(transport=transport, timeout=timeout, verify=choose_trust(url))

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send one request and return the JSON object that answers it."""
        content = None if body is None else _encode(body)
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            answer = self._http.request(method, f"{self._url}{path}", content=content, headers=headers)
        except httpx.RequestError as failure:
            raise explain_failure(failure, self._url) from failure
        except (httpx.InvalidURL, UnicodeError) as exc:
            raise BadRequestError(f"{self._url!r} is no URL of a service: write http://HOST:PORT") from exc
        if not answer.is_success:
            raise parse_problem(answer, parse_retry_after(answer.headers.get("retry-after"), 0.0))
        try:
            found = orjson.loads(answer.content)
        except orjson.JSONDecodeError as exc:
            raise InvariantError(f"{self._url} answers no JSON: is it scorecat?") from exc
        if not isinstance(found, dict):
            raise InvariantError(f"{self._url} answers no JSON object: is it scorecat?")
        return found


class JobsClient(OperatorClient):
    """Batch jobs of one service.

    Raises
    ------
    NotReadyError
        Nothing answers, or the control app does not; QueueFullError when as many jobs wait as may.
    ConflictError
        The job has ended.
    NotFoundError
        There is no such job.
    BadRequestError
        Change what was asked; `errors` names the members.
    """

    def start(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Queue a job, and return it."""
        return _take_object(self.send("POST", "/v1/jobs", body), _JOB)

    def recent(self, limit: int = 20) -> list[dict[str, Any]]:
        """Return jobs in short form, newest first."""
        return _take_list(self.send("GET", f"/v1/jobs?limit={limit}"), "jobs", _JOB)

    def describe(self, job_id: str) -> dict[str, Any]:
        """Return a job."""
        return _take_object(self.send("GET", f"/v1/jobs/{quote(job_id, safe='')}"), _JOB)

    def cancel(self, job_id: str, who: str) -> dict[str, Any]:
        """Tell a job to end, and return it."""
        answer = self.send("POST", f"/v1/jobs/{quote(job_id, safe='')}/cancel", {"who": who})
        return _take_object(answer, _JOB)


class RolloutClient(OperatorClient):
    """Rollouts of one service.

    Raises
    ------
    NotReadyError
        Nothing answers, or the control app does not.
    ConflictError
        The rollout's phase does not allow it, or another rollout is active.
    NotFoundError
        There is no such rollout or version.
    BadRequestError
        Change what was asked; `errors` names the members.
    """

    def models(self) -> list[dict[str, Any]]:
        """Return what is served, with the share of each version."""
        return _take_list(self.send("GET", "/v1/models"), "models", ("name", "versions"))

    def start(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Start a rollout, and return it."""
        return _take_object(self.send("POST", "/v1/rollouts", body), _ROLLOUT)

    def recent(self, model: str = "", limit: int = 20) -> list[dict[str, Any]]:
        """Return rollouts in short form, newest first."""
        query = httpx.QueryParams({"model": model, "limit": limit})
        return _take_list(self.send("GET", f"/v1/rollouts?{query}"), "rollouts", _ROLLOUT)

    def describe(self, rollout_id: int) -> dict[str, Any]:
        """Return a rollout."""
        return _take_object(self.send("GET", f"/v1/rollouts/{rollout_id}"), _ROLLOUT)

    def history(self, rollout_id: int) -> list[dict[str, Any]]:
        """Return the changes of a rollout, oldest first."""
        return _take_list(self.send("GET", f"/v1/rollouts/{rollout_id}/history"), "changes", ("at", "who", "why"))

    def command(self, rollout_id: int, command: str, who: str, why: str) -> dict[str, Any]:
        """Tell a rollout to pause, resume, promote or abort, and return it."""
        answer = self.send("POST", f"/v1/rollouts/{rollout_id}/{command}", {"who": who, "why": why})
        return _take_object(answer, _ROLLOUT)


def _take_list(answer: Mapping[str, Any], name: str, members: Sequence[str]) -> list[dict[str, Any]]:
    """Return a list of objects of an answer; raises InvariantError when it is another answer."""
    found = answer.get(name)
    if not isinstance(found, list):
        raise InvariantError(f"the answer has no list of {name}: is it scorecat that answers there?")
    return [_take_object(each, members) for each in found]


def _take_object(found: Any, members: Sequence[str]) -> dict[str, Any]:
    """Return an object of an answer; raises InvariantError when it lacks a member that scorecat's have."""
    if not isinstance(found, dict) or not all(member in found for member in members):
        raise InvariantError(f"the answer lacks {', '.join(members)}: is it scorecat that answers there?")
    return found


def _encode(body: Mapping[str, Any]) -> bytes:
    """Return a body as JSON; raises BadRequestError for what JSON cannot hold, as bytes that are no UTF-8."""
    try:
        return orjson.dumps(body)
    except TypeError:
        wrong = tuple(FieldError(point_at(name), why) for name, value in body.items() if (why := _find_wrong(value)))
        raise BadRequestError("this cannot be sent", wrong) from None


def _find_wrong(value: Any) -> str:
    try:
        orjson.dumps(value)
    except TypeError as exc:
        return f"is no text in UTF-8, or holds what JSON cannot: {exc}"
    return ""
