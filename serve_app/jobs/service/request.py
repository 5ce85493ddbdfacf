"""What a person asks of a batch job, read from the members of a request's body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from serve_app.errors import FieldError, InvalidDataError
from serve_app.jobs.core.spec import POOLS, JobSpec
from serve_app.runtime.read_values import Kind, Member, count_of, read_flag, read_members

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
    errors: list[FieldError] = []
    found = read_members(record, FIELDS, errors)
    if record.get("input") is None:
        errors.append(FieldError("/input", "is needed: what is to be scored"))
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


_STRING: Final = {"type": "string"}
_TEXT: Final = Kind(_read_text, ({"maxLength": MAX_CHARACTERS, "minLength": 1, "type": "string"},))
_NAMES: Final = {"anyOf": [{"items": _STRING, "type": "array"}, _STRING], "maxLength": MAX_COLUMNS}
_COLUMNS: Final = Kind(_read_columns, (_NAMES,))
_LIMIT: Final = Kind(_read_limit, ({"type": "integer"}, _STRING))
_MAPPING: Final = Kind(_read_mapping, ({"additionalProperties": True, "type": "object"},))
_POOL: Final = Kind(_read_pool, ({"enum": list(POOLS), "type": "string"},))
_FLAG: Final = Kind(read_flag, ({"type": "boolean"},))
_INPUT: Final = "File or folder below a place that the setting `SCORECAT_JOB_ROOTS` allows, or a URL there."
_MODEL: Final = "name, name@version or name@alias; default the champion of the served model, fixed now."
_OWN_POOL: Final = "Default `shared`; `dedicated`: a copy of the version's app for this job alone."

FIELDS: Final[Mapping[str, Member]] = {
    "input": Member(_TEXT, _INPUT, may_be_null=False),
    "output": Member(_TEXT, "New folder, below such a place; left out, the results are downloaded and expire."),
    "model": Member(_TEXT, _MODEL),
    "mapping": Member(_MAPPING, "As a mapping file: `columns`, `defaults`, `history`."),
    "keep": Member(_COLUMNS, "Input columns to carry along; default all that are no feature."),
    "partition_by": Member(_COLUMNS, "Columns of the output whose values become folders."),
    "explain": Member(count_of(0, MAX_EXPLAIN), "Features that moved each score most."),
    "max_rejected": Member(_LIMIT, "Rejected rows (1000) or share (`2%`) beyond which the job stops; default 10%."),
    "workers": Member(count_of(1, MAX_WORKERS), "Processes that read and write."),
    "pool": Member(_POOL, _OWN_POOL),
    "pool_replicas": Member(count_of(1, MAX_WORKERS), "Most replicas of a dedicated pool."),
    "resume": Member(_FLAG, "Go on with the job begun in `output`, as it was begun."),
    "who": Member(_TEXT, "For the list of jobs."),
}
"""Members of the body."""
