"""Errors as RFC 9457 problem details: one table from error type to status."""

from __future__ import annotations

import math
from typing import Any, Final

from serve_app.errors import (
    BadRequestError,
    ConflictError,
    DeadlineExceededError,
    InvalidDataError,
    InvalidRowError,
    InvariantError,
    MalformedBodyError,
    NotAcceptableError,
    NotFoundError,
    NotReadyError,
    PayloadTooLargeError,
    QueueFullError,
    ScorecatError,
    UnknownOutcomeError,
    UnsupportedEncodingError,
    UnsupportedMediaError,
)
from serve_app.http.bodies import ACCEPTED
from serve_app.http.parameters import ENCODING_HEADER, RETRY_HEADER

STATUS: Final[dict[type[ScorecatError], int]] = {
    MalformedBodyError: 400,
    InvalidRowError: 422,
    InvalidDataError: 422,
    PayloadTooLargeError: 413,
    UnsupportedMediaError: 415,
    NotAcceptableError: 406,
    NotFoundError: 404,
    ConflictError: 409,
    BadRequestError: 400,
    DeadlineExceededError: 504,
    UnknownOutcomeError: 504,
    QueueFullError: 429,
    NotReadyError: 503,
    InvariantError: 500,
    ScorecatError: 500,
}
"""HTTP status by error type; the nearest base class decides for types that are not listed."""

TITLES: Final[dict[int, str]] = {
    400: "Bad request",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    409: "Conflict",
    413: "Payload too large",
    415: "Unsupported media type",
    422: "Invalid content",
    429: "Too many requests",
    500: "Internal error",
    503: "Not ready",
    504: "Deadline exceeded",
}
TITLES_OF_CODES: Final[dict[str, str]] = {UnknownOutcomeError.code: "Outcome unknown"}
"""Where the title of the status would say something else."""
_HEADERS: Final[dict[int, dict[str, Any]]] = {
    415: ENCODING_HEADER,
    **dict.fromkeys((429, 503, 504), RETRY_HEADER),
}
"""Headers of the problems of a status, for the OpenAPI document."""
CONTENT_TYPE: Final = b"application/problem+json"


def status_of(error: ScorecatError) -> int:
    """Return the HTTP status of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def describe_problem(error: ScorecatError, request_id: str) -> tuple[int, dict[str, Any], list[tuple[bytes, bytes]]]:
    """Return (status, problem members, extra headers) for an error.

    Internal errors are described by their code alone: what they say of the inside is for the log.
    """
    status = status_of(error)
    detail = error.detail
    if not isinstance(error, (BadRequestError, NotReadyError)):
        detail = f"an internal error was logged under this request id (code {error.code})"
    members = problem_members(status, error.code, detail, request_id)
    if error.errors:
        members["errors"] = [{"pointer": e.pointer, "detail": e.detail} for e in error.errors]
    headers = []
    if isinstance(error, NotReadyError):
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after_s))).encode()))
    elif isinstance(error, UnsupportedEncodingError):
        headers.append((b"accept-encoding", ACCEPTED.encode()))
    return status, members, headers


def problem_members(status: int, code: str, detail: str, request_id: str) -> dict[str, Any]:
    """Return the members every problem has."""
    return {
        "type": f"urn:scorecat:problem:{code}",
        "title": TITLES_OF_CODES.get(code) or TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }


def document_problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of these statuses."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": TITLES[status],
            "content": {CONTENT_TYPE.decode(): {"schema": schema}},
            "headers": dict(_HEADERS.get(status, {})),
        }
        for status in statuses
    }
