"""Problem details back into the errors they were made from: the mirror of ``serve_app.http.problems``."""

from __future__ import annotations

from typing import Any, Final

import httpx
import orjson

from serve_app import errors
from serve_app.errors import (
    BadRequestError,
    ConflictError,
    DeadlineExceededError,
    FieldError,
    InvalidRowError,
    InvariantError,
    NotFoundError,
    NotReadyError,
    OverloadedError,
    PayloadTooLargeError,
    ScorecatError,
    UnsupportedMediaError,
)

PROBLEM_PREFIX: Final = "urn:scorecat:problem:"
BY_CODE: Final[dict[str, type[ScorecatError]]] = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ScorecatError) and kind is not ScorecatError
}
BY_STATUS: Final[dict[int, type[ScorecatError]]] = {
    404: NotFoundError,
    408: DeadlineExceededError,
    409: ConflictError,
    413: PayloadTooLargeError,
    415: UnsupportedMediaError,
    422: InvalidRowError,
    429: OverloadedError,
    503: NotReadyError,
    504: DeadlineExceededError,
}
"""For answers without a known code: a proxy's, or a newer service's."""
_SHOWN_CHARACTERS: Final = 200


def parse_problem(response: httpx.Response, retry_after_s: float | None) -> ScorecatError:
    """Return the error an answer without success stands for.

    Parameters
    ----------
    response : Response
        Problem details, or whatever a proxy on the way wrote.
    retry_after_s : float or None
        What its ``Retry-After`` says.
    """
    members = _load_members(response)
    status = response.status_code
    code = str(members.get("type", "")).removeprefix(PROBLEM_PREFIX)
    kind = (
        BY_CODE.get(code) or BY_STATUS.get(status) or (BadRequestError if response.is_client_error else InvariantError)
    )
    detail = members.get("detail")
    if not isinstance(detail, str) or not detail:
        detail = f"{response.request.url} answered {status} {response.text.strip()[:_SHOWN_CHARACTERS]}".rstrip()
    error: ScorecatError
    if issubclass(kind, NotReadyError):
        error = kind(detail) if retry_after_s is None else kind(detail, retry_after_s)
    else:
        error = kind(detail, _parse_fields(members.get("errors")))
    request_id = members.get("request_id") or response.request.headers.get("x-request-id")
    error.add_note(f"HTTP {status}, request id {request_id}")
    return error


def explain_failure(failure: httpx.RequestError, url: str) -> ScorecatError:
    """Return the error for a request that got no answer."""
    said = str(failure) or type(failure).__name__
    if isinstance(failure, httpx.TimeoutException):
        return DeadlineExceededError(f"{url} did not answer in time")
    if isinstance(failure, httpx.UnsupportedProtocol):
        return BadRequestError(f"{url} is no URL of a service: {said}")
    if isinstance(failure, (httpx.DecodingError, httpx.LocalProtocolError)):
        return InvariantError(f"{url} cannot be spoken to: {said}")
    return NotReadyError(f"no service answers at {url} ({said})")


def _load_members(response: httpx.Response) -> dict[str, Any]:
    try:
        members = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return {}
    return members if isinstance(members, dict) else {}


def _parse_fields(given: Any) -> tuple[FieldError, ...]:
    if not isinstance(given, list):
        return ()
    return tuple(FieldError(str(e.get("pointer", "")), str(e.get("detail", ""))) for e in given if isinstance(e, dict))
