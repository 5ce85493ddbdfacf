"""Values that somebody wrote, read one by one: each reader returns the value or says in a ValueError what is right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from serve_app.errors import FieldError, point_at
from serve_app.runtime.near_names import say_unknown
from serve_app.runtime.shown_values import is_number, show

MAX_COUNT: Final = 1_000_000

Read = Callable[[Any], Any]
"""Returns the value, or raises ValueError that says what would be right."""


class Kind(NamedTuple):
    """A kind of values: what reads one, and the JSON schemas of which one describes it."""

    read: Read
    schemas: tuple[Mapping[str, Any], ...]


class Member(NamedTuple):
    """A member of an object that somebody writes, and what is said of it; null is as if it were not there."""

    kind: Kind
    description: str
    may_be_null: bool = True

    def to_schema(self, name: str) -> dict[str, Any]:
        """Return its JSON schema."""
        schemas = [*self.kind.schemas, *([{"type": "null"}] if self.may_be_null else [])]
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        return {**schema, "description": self.description, "title": name.replace("_", " ").title()}


def read_members(
    record: Mapping[Any, Any],
    members: Mapping[str, Member],
    errors: list[FieldError],
    known: Iterable[str] | None = None,
) -> dict[str, Any]:
    """Return what was read of an object, without members that are null.

    What is unknown or cannot be read is added to `errors`; `known` are the names that may be meant, by default those
    of `members`.
    """
    found = {}
    for name, value in record.items():
        pointer = point_at(name if isinstance(name, str) else show(name))  # YAML can name a member with anything
        if name not in members:
            errors.append(FieldError(pointer, say_unknown(name, tuple(known or members))))
        elif value is not None:
            try:
                found[name] = members[name].kind.read(value)
            except ValueError as exc:
                errors.append(FieldError(pointer, str(exc)))
    return found


def read_number(low: float, high: float, what: str, *, is_open: bool = False) -> Read:
    """Return a reader of numbers from `low` to `high`, without the two when `is_open`."""

    def read(value: Any) -> float:
        if not is_number(value) or not low <= value <= high or (is_open and value in (low, high)):
            raise ValueError(f"must be {what}, got {show(value)}")
        return float(value)

    return read


def read_count(low: int, high: int = MAX_COUNT) -> Read:
    """Return a reader of whole numbers from `low` to `high`."""

    def read(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high:,}, got {show(value)}")
        return value

    return read


def text_of(most: int) -> Kind:
    """Return the kind of texts of at most `most` characters."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or len(value) > most:
            raise ValueError(f"must be a text of at most {most:,} characters")
        return value

    return Kind(read, ({"maxLength": most, "type": "string"},))


def count_of(low: int, high: int) -> Kind:
    """Return the kind of whole numbers from `low` to `high`."""
    return Kind(read_count(low, high), ({"maximum": high, "minimum": low, "type": "integer"},))


def read_flag(value: Any) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, got {show(value)}")  # noqa: TRY004 # one kind of error is collected
    return value
