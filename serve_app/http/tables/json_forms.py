"""The JSON forms of MLflow's scoring protocol, and of TensorFlow Serving's, as their own parser takes them.

References
----------
``mlflow.pyfunc.scoring_server`` (``_split_data_and_params``, ``infer_and_parse_data``) and
``mlflow.utils.proto_json_utils`` (``dataframe_from_parsed_json``, ``parse_tf_serving_input``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

from serve_app.errors import MalformedBodyError
from serve_app.features.core.specs import FeatureSpec

JSON_KEYS: Final = ("dataframe_split", "dataframe_records", "inputs", "instances")
TENSOR_KEYS: Final = ("inputs", "instances")
"""Keys below which a value may be a tensor, so that a list of one stands for what is in it."""
_SHOWN_NAMES: Final = 5


def choose_form(value: Any) -> tuple[str, Any]:
    """Return which of `JSON_KEYS` a body has, and what it holds; other members, such as ``params``, are not read.

    Raises
    ------
    MalformedBodyError
        None of them, or more than one.
    """
    wanted = f"the body must be an object with exactly one of {', '.join(JSON_KEYS)}"
    if not isinstance(value, dict):
        raise MalformedBodyError(f"{wanted}; it is {name_kind(value)}")
    given = [key for key in JSON_KEYS if key in value]
    if len(given) == 1:
        return given[0], value[given[0]]
    if given:
        raise MalformedBodyError(f"{wanted}; it has {' and '.join(given)}")
    raise MalformedBodyError(f"{wanted}; it has {_list_names(list(value))}")


def read_names(columns: Any) -> list[str] | None:
    """Return the names of ``dataframe_split``, None when they are none; pandas numbers columns without names."""
    if not isinstance(columns, list) or not all(type(name) in {str, int} for name in columns):
        return None
    return list(map(str, columns))


def read_columns(data: Mapping[str, Any], key: str) -> tuple[dict[str, list[Any]], int]:
    """Return columns and how many rows they have: lists of values, or of lists of one; or one row of plain values.

    Raises
    ------
    MalformedBodyError
        Columns of several lengths, or of both kinds.
    """
    if data and not any(isinstance(values, list) for values in data.values()):
        return {name: [value] for name, value in data.items()}, 1
    plain = [name for name, values in data.items() if not isinstance(values, list)]
    if plain:
        raise MalformedBodyError(
            f"{key} must hold one list a column, or plain values alone for one row; {plain[0][:80]!r} is "
            f"{name_kind(data[plain[0]])} beside lists"
        )
    lengths = {len(values): name for name, values in data.items()}
    if len(lengths) > 1:
        found = " and ".join(f"{name[:80]!r} has {n}" for n, name in list(lengths.items())[:2])
        raise MalformedBodyError(f"{key} must hold one list a column, all of one length; {found}")
    return {name: list(unwrap(values)) for name, values in data.items()}, next(iter(lengths), 0)


def read_flat(data: list[Any], names: Sequence[str], key: str) -> dict[str, Sequence[Any]]:
    """Return the column that a list of plain values is to a model of one input.

    Raises
    ------
    MalformedBodyError
        The model has more inputs.
    """
    if len(names) == 1:
        return {names[0]: data}
    raise MalformedBodyError(
        f"{key} is a list of plain values ({name_kind(data[0])} first), the model has {len(names)} inputs: "
        f"send each row as an object, or as a list of {len(names)} values in the model's order"
    )


def is_flat(data: list[Any]) -> bool:
    """Return whether a list has plain values alone."""
    return bool(data) and not {dict, list} & set(map(type, data))


def unwrap(values: Sequence[Any]) -> Sequence[Any]:
    """Return a column without the lists of one that a tensor of shape (n, 1) has; others stay as they are."""
    if not values or type(values[0]) is not list or set(map(type, values)) != {list} or set(map(len, values)) != {1}:
        return values
    return list(chain.from_iterable(values))


def require_kind(rows: list[Any], kind: type, key: str) -> None:
    """Raise MalformedBodyError that names the first row that is no list, or no object, as `kind` says."""
    if set(map(type, rows)) <= {kind}:
        return
    row = next(i for i, value in enumerate(rows) if type(value) is not kind)
    wanted = "a list" if kind is list else "an object"
    raise MalformedBodyError(f"{key}/{row} is {name_kind(rows[row])}; every row must be {wanted} here")


def name_kind(value: Any) -> str:
    """Return what a value of JSON is, in words."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    kinds: dict[type, str] = {str: "a text", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number")


def _list_names(names: list[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return "none of them, only " + ", ".join(name[:40] for name in names[:_SHOWN_NAMES]) + more


def input_names(features: Sequence[FeatureSpec]) -> list[str]:
    """Return the model's own inputs, in its order: what a list of plain values stands for."""
    return [spec.name for spec in features if spec.group != "key"]
