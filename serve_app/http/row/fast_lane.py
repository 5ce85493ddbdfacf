"""Plain requests to ``POST /predict_purchase`` without ASGI: no task, no wrapper, no future for a request.

What is not plain (a query, a pinned version, ``observe``, a body that is refused) is left to
`serve_app.http.row.predict`, which says the same of everything.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import orjson

from serve_app.errors import BadRequestError, InvariantError, NotReadyError, ScorecatError
from serve_app.http.asgi import (
    JSON,
    LONGEST_TIMEOUT_S,
    AccessLog,
    Headers,
    Meter,
    check_json,
    read_request_id,
    read_timeout_s,
)
from serve_app.http.column_names import ignored_header
from serve_app.http.problems import CONTENT_TYPE, describe_problem, dump_problem
from serve_app.http.row.predict import HOT_PATH, describe_score, list_values, logger
from serve_app.http.row.row_body import IGNORED, parse_row, read_keys
from serve_app.models.service.ports import Ongoing
from serve_app.scoring.service.route import Route
from serve_app.scoring.service.traffic import Traffic
from serve_app.scoring.service.version_scorer import Score

Write = Callable[[int, bytes, Headers], None]
"""Sends a whole answer: status, body, and all headers but the length."""
_NOT_PLAIN: Final = frozenset({b"content-encoding", b"x-model-version"})


class FastLane:
    """Takes the requests that are plain.

    Parameters
    ----------
    traffic : Traffic
    access_log : AccessLog
    timeout_s : float
        Deadline of requests that name none, seconds.
    meter : Meter
    """

    def __init__(self, traffic: Traffic, access_log: AccessLog, timeout_s: float, meter: Meter) -> None:
        self._traffic = traffic
        self._timeout_s = timeout_s
        self.access_log = access_log
        self.meter = meter
        self.ongoing: Ongoing | None = None

    def take(self, headers: Headers, body: bytes, write: Write) -> bool:
        """Return whether the request is plain; `write` is then called once, now or later.

        Parameters
        ----------
        headers : list of (bytes, bytes)
            Names in lower case.
        body : bytes
        write : Write
        """
        given = dict(headers)
        if not _NOT_PLAIN.isdisjoint(given):
            return False
        try:
            timeout_s = read_timeout_s(given, self._timeout_s, LONGEST_TIMEOUT_S)
            check_json(given)
            row = parse_row(body)
            user = row["user_id"]
            route = self._traffic.choose(None if user is None else str(user))
        except ScorecatError:
            return False
        if row["observe"] or not route.scorer.is_purchase:
            return False
        answer = _Answer(self, route, user, row.get(IGNORED), read_request_id(given), time.perf_counter(), write)
        if self.ongoing is not None:
            self.ongoing.begin()
        try:
            values = list_values(row, read_keys(row))
            route.put(values, asyncio.get_running_loop().time() + timeout_s, answer.settle)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the caller gets an answer
            answer.settle(exc)
        return True


@dataclass(slots=True)
class _Answer:
    """What is needed to answer one request."""

    lane: FastLane
    route: Route
    user: str | int | None
    ignored: list[str] | None
    request_id: str
    started_s: float
    write: Write

    def settle(self, outcome: Score | Exception) -> None:
        """Write the answer and log it."""
        lane = self.lane
        if isinstance(outcome, Score):
            status, version = 200, outcome.version
            prediction_id = os.urandom(16).hex()
            body = orjson.dumps(describe_score(self.user, outcome))
            headers = [
                (b"content-type", JSON),
                (b"x-prediction-id", prediction_id.encode()),
                (b"x-model-version", b"%d" % version),
                (b"x-route-reason", self.route.reason.encode()),
            ]
            if self.ignored:
                headers.append(ignored_header(self.ignored))
        else:
            status, body, headers = self._describe_error(outcome)
            version = self.route.scorer.version
        headers.append((b"x-request-id", self.request_id.encode()))
        self.write(status, body, headers)
        if lane.ongoing is not None:
            lane.ongoing.end()
        duration_s = time.perf_counter() - self.started_s
        lane.access_log.record(self.request_id, "POST", HOT_PATH, status, duration_s, version)
        lane.meter.count_request(HOT_PATH, status, version, duration_s)

    def _describe_error(self, exc: Exception) -> tuple[int, bytes, Headers]:
        error = exc if isinstance(exc, ScorecatError) else InvariantError("unexpected")
        if not isinstance(error, (BadRequestError, NotReadyError)):
            logger.error("request %s failed", self.request_id, exc_info=exc)
        self.lane.meter.count_problem(HOT_PATH, error.code)
        status, members, extra = describe_problem(error, self.request_id)
        version = b"%d" % self.route.scorer.version
        return status, dump_problem(members), [(b"content-type", CONTENT_TYPE), *extra, (b"x-model-version", version)]
