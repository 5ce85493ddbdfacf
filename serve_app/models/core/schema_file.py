"""A schema: what a person says about a model's inputs that the model itself does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from serve_app.errors import FieldError, InvalidDataError
from serve_app.features.core.specs import CategoryForm, FeatureSpec, Group, Kind, OnNull, OnUnseen

_CHOICES: Final[Mapping[str, tuple[Any, ...]]] = {
    "kind": get_args(Kind),
    "form": get_args(CategoryForm),
    "group": tuple(group for group in get_args(Group) if group != "key"),  # keys are no inputs of a model
    "on_null": get_args(OnNull),
    "on_unseen": get_args(OnUnseen),
}
_NUMBERS: Final = ("minimum", "maximum", "above")
_TEXTS: Final = ("name", "unit", "description", "unseen_class", "fill_from")
_KEYS: Final = frozenset(f.name for f in dataclasses.fields(FeatureSpec)) - {"is_declared"} | {"classes"}


@dataclass(frozen=True, slots=True)
class FeatureEntry:
    """What a schema says about one feature.

    Attributes
    ----------
    rules : dict
        Fields of `FeatureSpec` that it sets.
    classes : list of str or None
        The vocabulary, in the order of the codes.
    """

    rules: dict[str, Any]
    classes: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    """A parsed schema file.

    Attributes
    ----------
    name : str or None
        Name for the model.
    task : str or None
        What the model is expected to be; refused when it is not.
    features : dict of str to FeatureEntry
        By name, in the file's order.
    """

    name: str | None = None
    task: str | None = None
    features: dict[str, FeatureEntry] = field(default_factory=dict)


def parse_schema(value: Any) -> Schema:
    """Check a schema's form.

    Raises
    ------
    InvalidDataError
        With a pointer to each thing that is wrong.
    """
    if not isinstance(value, dict):
        raise InvalidDataError("a schema is an object with name, task and features")
    unknown = sorted(value.keys() - {"name", "task", "features"}, key=str)
    errors = [FieldError(f"/{key}", "is not known here (known: name, task, features)") for key in unknown]
    errors += [FieldError(f"/{k}", "must be text") for k in ("name", "task") if not isinstance(value.get(k, ""), str)]
    entries = value.get("features", [])
    features: dict[str, FeatureEntry] = {}
    if not isinstance(entries, list):
        errors.append(FieldError("/features", "must be a list of objects, each with a name"))
        entries = []
    for at, entry in enumerate(entries):
        pointer = f"/features/{at}"
        found = _check_entry(entry, pointer)
        errors += found
        if not found and entry["name"] in features:
            errors.append(FieldError(f"{pointer}/name", f"{entry['name']} is there twice"))
        if not found:
            rules = {key: rule for key, rule in entry.items() if key != "classes"}
            classes = entry.get("classes")
            features[entry["name"]] = FeatureEntry(rules, None if classes is None else [str(c) for c in classes])
    if errors:
        raise InvalidDataError("the schema cannot be used.", tuple(errors))
    return Schema(value.get("name"), value.get("task"), features)


def _check_entry(entry: Any, pointer: str) -> list[FieldError]:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"]:
        return [FieldError(pointer, "must be an object with a name")]
    errors = []
    for key, rule in entry.items():
        at = f"{pointer}/{key}"
        if key not in _KEYS:
            errors.append(FieldError(at, f"is not known here (known: {', '.join(sorted(_KEYS))})"))
        elif key in _CHOICES and rule not in _CHOICES[key]:
            errors.append(FieldError(at, f"must be one of {', '.join(_CHOICES[key])}"))
        elif key in _NUMBERS and (isinstance(rule, bool) or not isinstance(rule, int | float)):
            errors.append(FieldError(at, "must be a number"))
        elif key in _TEXTS and not isinstance(rule, str):
            errors.append(FieldError(at, "must be text"))
        elif key == "integer" and not isinstance(rule, bool):
            errors.append(FieldError(at, "must be true or false"))
        elif key == "fill" and (isinstance(rule, bool) or not isinstance(rule, int | float | str)):
            errors.append(FieldError(at, "must be a number or text"))
        elif key == "classes" and not _is_vocabulary(rule):
            errors.append(FieldError(at, "must be a list of different texts or whole numbers"))
    return errors


def _is_vocabulary(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    plain = all(isinstance(c, str | int) and not isinstance(c, bool) for c in value)
    return plain and len({str(c) for c in value}) == len(value)
