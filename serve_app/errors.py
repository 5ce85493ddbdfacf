"""Every error scorecat raises on purpose, as a tree by who must act.

::

    ScorecatError
    ├── BadRequestError            the caller: change what was sent
    │   ├── MalformedBodyError       the body is not what its content type says
    │   ├── InvalidRowError          a row breaks a rule of the features
    │   ├── PayloadTooLargeError     more bytes or rows than allowed
    │   ├── NotAcceptableError       no form of answer that the caller accepts
    │   ├── UnsupportedMediaError    a content type or charset nobody reads here
    │   │   └── UnsupportedEncodingError a content encoding nobody reads here
    │   ├── NotFoundError            no such route, model, version or file
    │   ├── ConflictError            somebody else changed it first, or it exists
    │   └── InvalidDataError         a data file breaks a rule (column, type, content)
    │       └── GuardError             a model that learned from it may not be registered
    ├── NotReadyError              the caller: try again after `retry_after_s`
    │   ├── OverloadedError          the queue is full
    │   ├── QueueFullError           as many batch jobs wait as may wait
    │   ├── ReplicaLostError         the replicas that would answer are gone for now
    │   ├── UnknownOutcomeError      it may be done or not; doing it again must be safe
    │   └── DeadlineExceededError    the answer would come after the caller's deadline
    └── InvariantError             us: something that must hold does not
        ├── PackageError             a package is torn, altered or unreadable
        └── GoldenMismatchError      a package does not reproduce its golden rows

Fields are positional and handed to ``Exception.__init__``, so every error survives pickling between
replicas; each has a stable `code`; none knows HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong, and where.

    Attributes
    ----------
    pointer : str
        JSON pointer (RFC 6901) into what was sent, see `point_at`: ``/price``, of rows ``/3/price``; empty for the
        whole.
    detail : str
        What is wrong and what would be right.
    """

    pointer: str
    detail: str


MAX_POINTED: Final = 200
"""Characters of a name that a pointer repeats; of a longer one it is what holds the member that is pointed at."""


def point_at(*parts: str | int) -> str:
    """Return the JSON pointer to a member: the names and indices that lead there, as RFC 6901 escapes them."""
    pointer = ""
    for part in parts:
        if len(str(part)) > MAX_POINTED:
            break
        pointer += "/" + str(part).replace("~", "~0").replace("/", "~1")
    return pointer


class ScorecatError(Exception):
    """Base of all errors raised on purpose; `detail` says what to do."""

    code: ClassVar[str] = "error"

    def __init__(self, detail: str, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail, errors)
        self.detail = detail
        self.errors = errors

    def __str__(self) -> str:
        if not self.errors:
            return self.detail
        return self.detail.rstrip(".") + ": " + "; ".join(f"{e.pointer or '(all)'}: {e.detail}" for e in self.errors)


class BadRequestError(ScorecatError):
    """What was asked cannot be done as asked; sending it again changes nothing."""

    code = "bad-request"


class MalformedBodyError(BadRequestError):
    """The bytes are not what their content type promises."""

    code = "malformed-body"


class InvalidRowError(BadRequestError):
    """A row breaks a rule of the features; `errors` names each field."""

    code = "invalid-row"


class PayloadTooLargeError(BadRequestError):
    """More bytes or rows than one request may carry."""

    code = "payload-too-large"


class UnsupportedMediaError(BadRequestError):
    """A content type or charset that no reader here understands."""

    code = "unsupported-media-type"


class UnsupportedEncodingError(UnsupportedMediaError):
    """A body that is compressed in a way that no reader here understands."""

    code = "unsupported-encoding"


class NotAcceptableError(BadRequestError):
    """The caller accepts no form of answer that can be written."""

    code = "not-acceptable"


class NotFoundError(BadRequestError):
    """The named route, model, version, alias or file does not exist."""

    code = "not-found"


class ConflictError(BadRequestError):
    """The thing exists already, or changed since it was read."""

    code = "conflict"


class InvalidDataError(BadRequestError):
    """A data file cannot be used: a column, a type, or what it holds."""

    code = "invalid-data"


class GuardError(InvalidDataError):
    """A model may not be registered; `errors` names each guard, how it was tripped and how to override it."""

    code = "guard"


class NotReadyError(ScorecatError):
    """Nothing is wrong with the request; the service cannot answer it now.

    Attributes
    ----------
    retry_after_s : float
        Seconds after which another try is worth it.
    """

    code = "not-ready"

    def __init__(self, detail: str, retry_after_s: float = 1.0) -> None:
        Exception.__init__(self, detail, retry_after_s)
        self.detail = detail
        self.errors = ()
        self.retry_after_s = retry_after_s


class OverloadedError(NotReadyError):
    """More rows wait than the service can answer in time."""

    code = "overloaded"


class QueueFullError(NotReadyError):
    """As many batch jobs wait as may wait."""

    code = "queue-full"


class ReplicaLostError(NotReadyError):
    """The replicas that would answer died or are not there yet."""

    code = "replica-lost"


class UnknownOutcomeError(NotReadyError):
    """What was asked was under way when whoever did it was lost: it may be done, or not."""

    code = "outcome-unknown"


class DeadlineExceededError(NotReadyError):
    """The caller's deadline passed before the answer was there."""

    code = "deadline-exceeded"


class InvariantError(ScorecatError):
    """Something that must hold does not; an operator has to look."""

    code = "internal"


class PackageError(InvariantError):
    """A package is torn, altered, unreadable or of an unknown format."""

    code = "package-broken"


class GoldenMismatchError(InvariantError):
    """A package does not reproduce the golden rows it carries, so it must not serve."""

    code = "golden-mismatch"
