"""Query parameters of the routes that score: what each route serves, and what is said of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qs

from serve_app.errors import BadRequestError
from serve_app.features.core.near_names import find_near
from serve_app.runtime.near_names import hint_similar

_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}
_ELSEWHERE: Final = {
    "explain": "`POST /predict_purchase?explain=true` explains one row; of many rows, explanations are the output "
    "`shap` of POST /v2/models/NAME/infer",
    "detail": "`POST /predict_purchase?detail=true` says of one row what was made of it; of many rows, the header "
    "X-Ignored-Columns names the columns that no one reads",
    "output": "`POST /invocations?output=label` (or raw) chooses what is answered; a request to /v2 names its "
    "`outputs` in the body",
    "defaults": "`?defaults=a,b` is for POST /predict_purchase, /invocations and /v2/models/NAME/infer",
}
"""Every query parameter of these routes, and where it is served."""


def parse_query(query: bytes, *served: str) -> dict[str, list[str]]:
    """Return the values of a query by name, for a route that serves these parameters.

    Raises
    ------
    BadRequestError
        It has a parameter that only another of these routes serves, or a misspelt one: ignored, its caller would
        take the answer for what was asked. Others are left alone, as proxies and clients add some of their own.
    """
    if not query:
        return {}
    given = parse_qs(query.decode("utf-8", "replace"), keep_blank_values=True)
    for name, values in given.items():
        meant = name if name in _ELSEWHERE else find_near(name, _ELSEWHERE)
        is_off = meant == name and _FLAGS.get(values[-1].lower()) is False
        if meant is None or name in served or is_off:
            continue
        unknown = f"the query parameter {name[:40]!r} is not known here"
        if meant in served:
            raise BadRequestError(f"{unknown}; did you mean {meant}?")
        raise BadRequestError(f"{unknown}: {_ELSEWHERE[meant]}")
    return given


def read_flag(given: dict[str, list[str]], name: str) -> bool:
    """Return a flag of a query, off unless it is there; raises BadRequestError when it is neither on nor off."""
    value = given.get(name, ["false"])[-1].lower()
    if value not in _FLAGS:
        raise BadRequestError(f"the query parameter {name} must be true or false, not {value[:40]!r}")
    return _FLAGS[value]


def read_defaults(given: dict[str, list[str]], names: Sequence[str]) -> frozenset[str]:
    """Return the inputs that ``defaults`` names, with commas between them or one each.

    Raises
    ------
    BadRequestError
        One of them is no input.
    """
    found: list[str] = []
    for value in given.get("defaults", ()):
        found += [value] if value in names else filter(None, map(str.strip, value.split(",")))
    for name in found:
        if name not in names:
            hint = hint_similar(name, names)
            raise BadRequestError(f"the query's defaults name {name[:80]!r}, which is no input of the model{hint}")
    return frozenset(found)
