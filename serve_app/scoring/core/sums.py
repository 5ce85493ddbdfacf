"""Counters that simply add up, however many Gateways count: merged, written and read back in one way."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import fields
from typing import Any, ClassVar, Self

from serve_app.errors import InvariantError


class Sums:
    """Base of dataclasses of whole numbers and sums, lists of them, and counts by name; all empty by default."""

    __slots__ = ()
    TITLE: ClassVar[str]
    """What they are, for whoever finds them damaged."""
    LARGEST: ClassVar[frozenset[str]] = frozenset()
    """Members of which the largest is kept, not the sum."""

    @classmethod
    def _names(cls) -> list[str]:
        return [field.name for field in fields(cls)]  # type: ignore[arg-type] # every subclass is a dataclass

    @classmethod
    def merge(cls, parts: Iterable[Self]) -> Self:
        """Return the sum of counters; the parts stay as they are."""
        total = cls()
        for part in parts:
            for name in cls._names():
                add = max if name in cls.LARGEST else _add
                setattr(total, name, add(getattr(total, name), getattr(part, name)))
        return total

    def dump(self) -> dict[str, Any]:
        """Return counters as a plain dict for JSON."""
        return {name: copy(getattr(self, name)) for name in self._names()}

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> Self:
        """Return the counters of a record; raises InvariantError when `dump` did not write it."""
        try:
            counters, empty = cls(**record), cls()
            wrong = [name for name in cls._names() if not _is_sound(getattr(counters, name), getattr(empty, name))]
        except (TypeError, AttributeError) as exc:
            raise InvariantError(f"these are not {cls.TITLE}: {exc}") from exc
        if wrong:
            raise InvariantError(f"these are not {cls.TITLE}: {', '.join(wrong)}: wrong length, or not finite")
        return counters


def _add(one: Any, other: Any) -> Any:
    if isinstance(one, list):
        return [a + b for a, b in zip(one, other, strict=True)]
    if isinstance(one, dict):
        return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}
    return one + other


def _is_sound(value: Any, empty: Any) -> bool:
    """Return whether a value has the form of an empty one and finite numbers; raises what strange types raise."""
    if isinstance(empty, list):
        return len(value) == len(empty) and all(map(math.isfinite, value))
    return all(map(math.isfinite, value.values() if isinstance(empty, dict) else [value]))
