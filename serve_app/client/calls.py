"""All of a client but its I/O: a call is a generator of what to send and how long to wait.

`Client` and `AsyncClient` drive the same generators, so they cannot differ in what they ask, when they
try again, or how they read an answer.
"""

from __future__ import annotations

import math
import random
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import httpx
import pyarrow as pa

from serve_app.client.events import Events, RecordedEvents, as_events, parse_events_answer
from serve_app.client.frames import ANSWER_SCHEMA, MEDIA_TYPE, FrameT, as_table, encode_stream, like_frame, parse_stream
from serve_app.client.problems import explain_failure, parse_problem
from serve_app.client.retries import RETRIED_FAILURES, RETRIED_STATUS, backoff_s, parse_retry_after
from serve_app.client.rows import Prediction, RowLike, encode_row, parse_prediction
from serve_app.errors import BadRequestError, DeadlineExceededError, ScorecatError, UnknownOutcomeError

SHORTEST_TIMEOUT_S: Final = 0.001
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """Send the request; reply with its whole answer or with why there is none."""

    request: httpx.Request


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait; reply with None."""

    seconds: float


Reply = httpx.Response | httpx.RequestError | None
Steps = Generator[Send | Wait, Reply, T]


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where time and chance come from.

    Attributes
    ----------
    monotonic : callable
        Seconds that only grow; deadlines.
    wall : callable
        Seconds since 1970; dates in ``Retry-After``.
    jitter : callable
        A number from 0 to 1.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random


class Calls:
    """The calls of one client.

    Parameters
    ----------
    url : str
        Where the service is, for example ``http://127.0.0.1:8000``.
    timeout_s : float
        Deadline of calls that name none, retries and waits included; of `score_frame`, for each slice.
    retries : int
        Tries after the first.
    max_rows : int
        Rows in one request of `score_frame`.
    headers : mapping or None
        Sent with every request.
    clocks : Clocks

    Raises
    ------
    BadRequestError
        `url` is no HTTP URL, or a number is out of range.
    """

    def __init__(
        self,
        url: str,
        timeout_s: float,
        retries: int,
        max_rows: int,
        headers: Mapping[str, str] | None,
        clocks: Clocks,
    ) -> None:
        base = _parse_url(url)
        if not (math.isfinite(timeout_s) and timeout_s > 0) or retries < 0 or max_rows < 1:
            raise BadRequestError("timeout_s must be above 0, retries at least 0, max_rows at least 1")
        self.url = str(base).rstrip("/")
        self.n_retries = 0
        self._timeout_s = timeout_s
        self._retries = retries
        self._max_rows = max_rows
        self._clocks = clocks
        self._row_url = httpx.URL(f"{self.url}/predict_purchase")
        self._detail_url = httpx.URL(f"{self.url}/predict_purchase?detail=true")
        self._events_url = httpx.URL(f"{self.url}/v1/events")
        self._frame_url = httpx.URL(f"{self.url}/invocations")
        common = {"host": base.netloc.decode("ascii"), "user-agent": "scorecat-client", **(headers or {})}
        self._json_headers = {**common, "accept": "application/json", "content-type": "application/json"}
        self._arrow_headers = {**common, "accept": MEDIA_TYPE, "content-type": MEDIA_TYPE}
        self._events_headers = {**common, "accept": "application/json", "content-type": MEDIA_TYPE}

    def score_row(self, row: RowLike, *, detail: bool, deadline_s: float | None) -> Steps[Prediction]:
        """Score one row."""
        deadline_at = self._deadline_at(deadline_s)
        url = self._detail_url if detail else self._row_url
        return parse_prediction((yield from self._exchange(url, self._json_headers, encode_row(row), deadline_at)))

    def score_frame(self, frame: FrameT, *, deadline_s: float | None) -> Steps[FrameT]:
        """Score a frame, one request a slice, one after the other."""
        given_at = None if deadline_s is None else self._deadline_at(deadline_s)
        table = as_table(frame)
        answers = [ANSWER_SCHEMA.empty_table()]
        for start in range(0, table.num_rows, self._max_rows):
            part = table.slice(start, self._max_rows)
            deadline_at = self._deadline_at(None) if given_at is None else given_at
            try:
                response = yield from self._exchange(
                    self._frame_url, self._arrow_headers, encode_stream(part), deadline_at
                )
                answers.append(parse_stream(response, part.num_rows))
            except ScorecatError as error:
                error.add_note(f"rows {start} to {start + part.num_rows - 1} of the frame")
                raise
        return like_frame(pa.concat_tables(answers), frame)

    def send_events(self, events: Events, *, deadline_s: float | None) -> Steps[RecordedEvents]:
        """Send events in one request; after a lost connection or writer again only when each has an id."""
        deadline_at = self._deadline_at(deadline_s)
        table, has_ids = as_events(events)
        body = encode_stream(table)
        response = yield from self._exchange(
            self._events_url, self._events_headers, body, deadline_at, is_repeatable=has_ids
        )
        return parse_events_answer(response, table.num_rows)

    def _exchange(
        self,
        url: httpx.URL,
        headers: dict[str, str],
        body: bytes,
        deadline_at: float,
        *,
        is_repeatable: bool = True,
    ) -> Steps[httpx.Response]:
        # One id for all tries, so that the service's logs show them as one request.
        headers = {**headers, "x-request-id": uuid.uuid4().hex}
        n_tries = 0
        while True:
            left_s = deadline_at - self._clocks.monotonic()
            if left_s <= 0:
                raise DeadlineExceededError("the deadline passed before the request could be sent")
            reply = yield Send(_build_request(url, headers, body, left_s))
            n_tries += 1
            if isinstance(reply, httpx.Response):
                if reply.is_success:
                    return reply
                retry_after_s = parse_retry_after(reply.headers.get("retry-after"), self._clocks.wall())
                error, cause = parse_problem(reply, retry_after_s), None
                # A refusal did nothing; what may be done already is sent again only where that changes nothing.
                is_unclear = isinstance(error, UnknownOutcomeError)
                is_retried = is_repeatable if is_unclear else reply.status_code in RETRIED_STATUS
            elif reply is not None:
                is_retried, retry_after_s = is_repeatable and isinstance(reply, RETRIED_FAILURES), None
                error, cause = explain_failure(reply, self.url), reply
            wait_s = backoff_s(n_tries, self._clocks.jitter()) if retry_after_s is None else retry_after_s
            if not is_retried or n_tries > self._retries or self._clocks.monotonic() + wait_s >= deadline_at:
                raise error from cause
            self.n_retries += 1
            yield Wait(wait_s)

    def _deadline_at(self, deadline_s: float | None) -> float:
        seconds = self._timeout_s if deadline_s is None else deadline_s
        if not (math.isfinite(seconds) and seconds > 0):
            raise BadRequestError(f"deadline_s must be a number of seconds above 0, not {seconds}")
        return self._clocks.monotonic() + seconds


def _build_request(url: httpx.URL, headers: dict[str, str], body: bytes, left_s: float) -> httpx.Request:
    left_s = max(left_s, SHORTEST_TIMEOUT_S)
    return httpx.Request(
        "POST",
        url,
        headers={**headers, "x-request-timeout-seconds": f"{left_s:.3f}"},
        content=body,
        extensions={"timeout": {"connect": left_s, "read": left_s, "write": left_s, "pool": left_s}},
    )


def _parse_url(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as exc:
        raise BadRequestError(f"{url!r} is no URL: {exc}") from exc
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise BadRequestError(f"{url!r} is no URL of a service: http://HOST:PORT is one")
    return parsed
