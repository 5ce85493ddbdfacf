"""What a person asks of a batch job, read from the members of a request's body."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from serve_app.errors import FieldError, InvalidDataError, point_at
from serve_app.jobs.core.spec import POOLS, JobSpec
from serve_app.runtime.near_names import say_unknown
from serve_app.runtime.read_values import read_count, read_flag

MAX_CHARACTERS: Final = 2_000
MAX_COLUMNS: Final = 1_000
MAX_EXPLAIN: Final = 50
MAX_WORKERS: Final = 64


def parse_job(record: Any) -> tuple[JobSpec, str]:
    """Return what the body of a request asks for, and who asks.

    Raises
    ------
    InvalidDataError
        `errors` names every member that cannot be used.
    """
    if not isinstance(record, Mapping):
        raise InvalidDataError("a job is asked for by an object with at least the member `input`")
    errors = [FieldError(point_at(str(name)), say_unknown(name, FIELDS)) for name in record if name not in FIELDS]
    found: dict[str, Any] = {}
    for name, read in FIELDS.items():
        value = record.get(name)
        if value is None:
            if name == "input":
                errors.append(FieldError("/input", "is needed: what is to be scored"))
            continue
        try:
            found[name] = read(value)
        except ValueError as exc:
            errors.append(FieldError(f"/{name}", str(exc)))
    if errors:
        raise InvalidDataError("the job cannot be understood", tuple(errors))
    who = found.pop("who", "http")
    return JobSpec(**found), who


def _read_text(value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > MAX_CHARACTERS or not value.isprintable():
        raise ValueError(f"must be a text of 1 to {MAX_CHARACTERS:,} printable characters")
    return value


def _read_columns(value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not 0 < len(names) <= MAX_COLUMNS:
        raise ValueError(f"must be a list of up to {MAX_COLUMNS:,} names of columns")
    for name in names:
        if "," in _read_text(name):
            raise ValueError(f"{name!r}: names of columns have no comma here")
    return tuple(names)


def _read_limit(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str) or len(str(value)) > 20:  # noqa: PLR2004
        raise ValueError("must be a number of rows (1000) or a share of them ('2%')")
    text = str(value)
    number = text.removesuffix("%")
    if not number.replace(".", "", 1 if number != text else 0).isdigit() or not number.isascii():
        raise ValueError("must be a number of rows (1000) or a share of them ('2%')")
    if number != text and float(number) > 100:  # noqa: PLR2004
        raise ValueError("a share is at most 100%")
    return text


def _read_pool(value: Any) -> str:
    if value not in POOLS:
        raise ValueError(f"must be one of {', '.join(POOLS)}")
    return str(value)


def _read_mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) - {"columns", "defaults", "history"}:
        raise ValueError(
            "must be an object with `columns` (feature: input column), `defaults` (features) or `history` (a flag)"
        )
    columns, defaults = value.get("columns", {}), value.get("defaults", [])
    if not isinstance(columns, dict) or len(columns) > MAX_COLUMNS:
        raise ValueError("`columns` must be an object: feature: input column")
    for column in columns.values():
        _read_text(column)
    if defaults:
        value = {**value, "defaults": list(_read_columns(defaults))}
    if "history" in value:
        read_flag(value["history"])
    return {name: each for name, each in value.items() if each}


FIELDS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "input": _read_text,
    "output": _read_text,
    "model": _read_text,
    "mapping": _read_mapping,
    "keep": _read_columns,
    "partition_by": _read_columns,
    "explain": read_count(0, MAX_EXPLAIN),
    "max_rejected": _read_limit,
    "workers": read_count(1, MAX_WORKERS),
    "pool": _read_pool,
    "pool_replicas": read_count(1, MAX_WORKERS),
    "resume": read_flag,
    "who": _read_text,
}
"""Members of the body, and what reads each."""
