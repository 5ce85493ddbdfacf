"""What a person asks for, read from the members of a request's body or of a plan file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from serve_app.errors import BadRequestError, FieldError, InvalidDataError, point_at
from serve_app.rollouts.core.plan import PLAN_MEMBERS, PLAN_NAMES, Plan, parse_plan
from serve_app.rollouts.core.plan_values import is_dealt
from serve_app.rollouts.service.ports import StartRollout
from serve_app.rollouts.service.start import MAX_ALLOWED
from serve_app.runtime.near_names import say_unknown
from serve_app.runtime.shown_values import is_number, show

KINDS: Final = ("canary", "ab", "shadow")
MAX_NAME_CHARACTERS: Final = 64
MAX_USER_CHARACTERS: Final = 512


def parse_start(record: Any) -> StartRollout:
    """Return what the body of a request asks for: `FIELDS`, and the plan as a member of its own.

    Raises
    ------
    InvalidDataError
        `errors` names every member that cannot be used.
    """
    if not isinstance(record, Mapping):
        raise InvalidDataError("a rollout is asked for by an object with members such as `version` and `plan`")
    errors = _find_unknown(record, (*FIELDS, "plan"))
    given = {name: value for name, value in record.items() if name in FIELDS}
    plan = _read_plan(record["plan"], "/plan", errors) if record.get("plan") is not None else None
    return _build(given, plan, errors, "/plan")


def parse_rollout_file(record: Mapping[Any, Any]) -> StartRollout:
    """Return what a file asks for: `FIELDS` beside the members of a plan.

    Raises
    ------
    InvalidDataError
        `errors` names every member that cannot be used.
    """
    given = {name: value for name, value in record.items() if name in FIELDS}
    others = {name: value for name, value in record.items() if name not in FIELDS}
    strange = {name: value for name, value in others.items() if name not in PLAN_NAMES}
    errors = _find_unknown(strange, (*FIELDS, *PLAN_MEMBERS))
    others = {name: value for name, value in others.items() if name not in strange}
    plan = _read_plan(others, "", errors) if others else None
    return _build(given, plan, errors, "")


def _read_plan(record: Any, pointer: str, errors: list[FieldError]) -> Plan | None:
    try:
        return parse_plan(record)
    except BadRequestError as exc:
        found = exc.errors or (FieldError("", exc.detail),)
        errors.extend(replace(error, pointer=f"{pointer}{error.pointer}") for error in found)
        return None


def _build(given: Mapping[str, Any], plan: Plan | None, errors: list[FieldError], pointer: str) -> StartRollout:
    fields: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        try:
            fields[name] = FIELDS[name](value)
        except ValueError as exc:
            errors.append(FieldError(f"/{name}", str(exc)))
    if given.get("kind") is None:
        fields["kind"] = "ab" if given.get("shares") is not None else "canary"
    if "kind" in fields:
        errors.extend(_find_misplaced(fields["kind"], given, plan, pointer))
    if errors:
        raise InvalidDataError("the rollout cannot be started as asked", tuple(errors))
    return StartRollout(plan=plan, **fields)


def _find_misplaced(kind: str, given: Mapping[str, Any], plan: Plan | None, pointer: str) -> list[FieldError]:
    """Return what does not go with the kind, and what it lacks; silence would let a person believe it was heard."""
    there = {name for name, value in given.items() if value is not None} | ({"plan"} if plan else set())
    errors = [
        FieldError(pointer if name == "plan" else f"/{name}", why)
        for name, why in _MISPLACED[kind].items()
        if name in there
    ]
    if kind == "ab" and "version" in there and "allow" not in there:
        errors.append(FieldError("/version", _NO_VERSION))
    needed = "shares" if kind == "ab" else "version"
    return errors if needed in there else [*errors, FieldError(f"/{needed}", _NEEDED[needed])]


def _find_unknown(record: Mapping[Any, Any], known: tuple[str, ...]) -> list[FieldError]:
    return [FieldError(point_at(_name(name)), say_unknown(name, known)) for name in record if name not in known]


def _name(given: Any) -> str:
    return given if isinstance(given, str) else show(given)  # which YAML can name a member with


def _read_version(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9:
        return str(value)
    if isinstance(value, str) and 0 < len(value.strip()) <= MAX_NAME_CHARACTERS and value.strip().isprintable():
        return value.strip()
    raise ValueError(f"must be a version's number or an alias such as challenger, got {show(value)}")


def _read_model(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_NAME_CHARACTERS:
        raise ValueError(f"must be a model's name, got {show(value)}")
    return value


def _read_kind(value: Any) -> str:
    if value not in KINDS:
        raise ValueError(f"must be {', '.join(KINDS[:-1])} or {KINDS[-1]}, got {show(value)}")
    return str(value)


def _read_shares(value: Any) -> dict[int, float]:
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"must give each version its per cent, such as {{7: 50, 8: 50}}, got {show(value)}")
    shares: dict[int, float] = {}
    for version, share in value.items():
        text = version if isinstance(version, str) else show(version)
        if isinstance(version, bool) or not text.isascii() or not text.isdecimal() or len(text) > 9:  # noqa: PLR2004
            raise ValueError(f"must name versions by number, got {show(version)}")
        if int(text) in shares:
            raise ValueError(f"names version {text} twice")
        shares[int(text)] = _read_number(share, 100.0, f"per cent of version {text}")
        if not is_dealt(shares[int(text)]):
            raise ValueError(f"a share is a multiple of 0.01 per cent, got {show(share)} for version {text}")
    return shares


def _read_number(value: Any, most: float, what: str) -> float:
    if not is_number(value) or not 0 < value <= most:
        raise ValueError(f"must be a {what} above 0 and up to {most:g}, got {show(value)}")
    return float(value)


def _read_users(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or len(value) > MAX_ALLOWED:
        raise ValueError(f"must be a list of at most {MAX_ALLOWED:,} user ids")
    users = [str(user) for user in value if isinstance(user, str | int) and not isinstance(user, bool)]
    if len(users) != len(value) or not all(0 < len(user) <= MAX_USER_CHARACTERS for user in users):
        raise ValueError(f"each user is a text of 1 to {MAX_USER_CHARACTERS} characters or a whole number")
    return tuple(dict.fromkeys(users))


FIELDS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "version": _read_version,
    "model": _read_model,
    "kind": _read_kind,
    "shares": _read_shares,
    "share": lambda value: _read_number(value, 1.0, "share of the requests that are copied"),
    "allow": _read_users,
}
"""What there is beside a plan."""

_NEEDED: Final = {
    "version": "is required: the number of a version, or an alias such as challenger",
    "shares": "is required for kind ab: per cent of the users by version, together 100",
}
_NO_VERSION: Final = (
    "says with `allow` which version the named users get; without it an A/B test is of the versions of `shares` alone: "
    "leave it out"
)
_NO_SHARES: Final = "is for kind ab alone"
_MISPLACED: Final[Mapping[str, Mapping[str, str]]] = {
    "canary": {
        "shares": f"{_NO_SHARES}; a canary gets the shares of its plan's `steps`",
        "share": "is for kind shadow alone; a canary gets the shares of its plan's `steps`",
    },
    "ab": {
        "share": "is for kind shadow alone; an A/B test has `shares`",
        "plan": "a plan is for canaries alone: an A/B test lasts until it is aborted",
    },
    "shadow": {
        "shares": _NO_SHARES,
        "plan": "a plan is for canaries alone: a shadow stays until it is stopped",
        "allow": "is for canaries and A/B tests: a shadow answers nobody",
    },
}
