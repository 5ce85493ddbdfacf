"""Find the names of a model's inputs: its own, those that came with it, or those of a schema; examples of such."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from serve_app.errors import InvalidDataError
from serve_app.models.core.model_facts import ModelFacts, check_size
from serve_app.models.core.schema_file import Schema
from serve_app.runtime.near_names import LOOSE, find_similar

MAX_LISTED: Final = 30
"""Inputs that a message names."""
_TAKEN: Final = " lists as many names as the model has inputs: they were taken for feature_names"
_SPELLINGS: Final = frozenset({
    "featurenames", "featurename", "featurecols", "featurecolumns", "featurelist", "features", "feats", "columns",
    "cols", "columnnames", "colnames", "inputfeatures", "inputcolumns", "inputcols", "inputnames", "inputs", "names",
    "modelfeatures", "modelcolumns", "traincolumns", "traincols", "trainfeatures", "xcolumns", "xcols", "predictors",
    "featurenamesin", "usedfeatures", "selectedfeatures", "featureorder", "columnorder", "variables",
})  # fmt: skip
"""What others call ``feature_names``, in small letters and without marks."""
MAX_LINES: Final = 60
"""Inputs that an example lists."""
_PLAIN: Final = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null|nan)\Z)[A-Za-z_][A-Za-z0-9_]*", re.IGNORECASE)
"""Names that YAML reads as text without quotes."""


def choose_names(facts: ModelFacts, document: Mapping[str, Any], schema: Schema) -> tuple[tuple[str, ...], list[str]]:
    """Return the inputs' names in the model's order, and notes on where they are from.

    Raises
    ------
    InvalidDataError
        There are none, they disagree with the model's own, or the schema describes others.
    """
    # CatBoost calls an input without a name by its position.
    listed = [str(name) or str(j) for j, name in enumerate(document.get("feature_names") or ())]
    notes: list[str] = []
    names = listed or list(schema.features)
    # Inputs that really are called 0, 1, 2 look like those of a model without names.
    if not facts.is_named and sorted(names) != sorted(facts.feature_names):
        if not names:
            names, source = _find_list(facts, document)
            notes.append(f"{source}{_TAKEN}")
        if len(names) != len(facts.feature_names) or len(set(names)) != len(names):
            raise InvalidDataError(
                f"the model has {len(facts.feature_names)} inputs without names, {len(set(names))} different names "
                "came with it: list them all, in the model's order (--schema FILE)"
            )
        notes.append("the model was trained without names; those that came with it are taken in their order")
    else:
        names = list(facts.feature_names)
        if listed and listed != names:
            if set(listed) != set(names) or len(listed) != len(names):
                raise InvalidDataError(
                    f"feature_names and the model's own names disagree: {_difference(listed, names)}"
                )
            notes.append(
                "feature_names lists the model's inputs in another order; the model's own order counts, and rows are "
                "read by name"
            )
    foreign = [name for name in schema.features if name not in names]
    if foreign:
        raise InvalidDataError(f"the schema describes {', '.join(foreign)}: {_explain_foreign(foreign, names)}")
    check_size(names, ())
    return tuple(names), notes


def _find_list(facts: ModelFacts, document: Mapping[str, Any]) -> tuple[list[str], str]:
    """Return the one list of names that can be those of the inputs, and its key.

    Raises
    ------
    InvalidDataError
        There is none, or there are several.
    """
    n = len(facts.feature_names)
    lists: Mapping[str, list[str]] = document.get("name_lists") or {}
    fitting = {key: names for key, names in lists.items() if len(names) == n == len(set(names))}
    called_so = {key: names for key, names in fitting.items() if _is_spelling(key)}
    different = {tuple(names) for names in called_so.values()}
    if len(different) == 1:
        return list(different.pop()), " and ".join(called_so)
    found = "none came with it"
    if fitting:
        found = f"{' and '.join(fitting)} could be them: call the right list feature_names, or"
    elif others := {key: names for key, names in lists.items() if _is_spelling(key)}:
        found = f"{', '.join(f'{key} has {len(names)}' for key, names in others.items())}, which does not fit"
    raise InvalidDataError(
        f"the model was trained without names for its {n} inputs, and {found}{'' if fitting else ':'} give a schema "
        f"that lists them in the model's order (--schema FILE). For this model such a file could be, with the right "
        f"names:\n{write_example(facts)}"
    )


def is_taken(key: str, notes: Sequence[str]) -> bool:
    """Whether notes of `choose_names` say that a list was taken for the inputs' names."""
    return any(note.endswith(_TAKEN) and key in note.removesuffix(_TAKEN).split(" and ") for note in notes)


def _is_spelling(key: str) -> bool:
    last = key.rpartition(".")[2]
    return "".join(c for c in last.lower() if c.isalnum()) in _SPELLINGS


def _explain_foreign(foreign: Sequence[str], names: Sequence[str]) -> str:
    near = [meant for name in foreign if (meant := find_similar(name, names, LOOSE))]
    hint = f"; did you mean {', '.join(dict.fromkeys(near))}?" if near else "."
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return f"the model has no such input{hint} Its inputs: {', '.join(names[:MAX_LISTED])}{more}"


def _difference(listed: Sequence[str], names: Sequence[str]) -> str:
    only_listed, only_model = (sorted(set(a) - set(b)) for a, b in ((listed, names), (names, listed)))
    parts = [f"only feature_names has {', '.join(only_listed[:5])}"] if only_listed else []
    parts += [f"only the model has {', '.join(only_model[:5])}"] if only_model else []
    return "; ".join(parts) or "a name is there twice"


def write_example(facts: ModelFacts, names: Sequence[str] = ()) -> str:
    """Return a schema of the inputs; those without a name are numbered."""
    chosen = names or [f"input_{j}" for j in range(1, len(facts.feature_names) + 1)]
    lines = [
        f"- {{name: {quote(name)}}}{'  # a native category' if j in facts.categorical else ''}"
        for j, name in enumerate(chosen[:MAX_LINES])
    ]
    if len(chosen) > MAX_LINES:
        lines.append(f"# and the other {len(chosen) - MAX_LINES} inputs in the same way, in the model's order")
    return "\n".join(["features:", *lines])


def write_codes(names: Sequence[str]) -> str:
    """Return a schema for categories that are numbers to the model: the classes in the order of their codes."""
    entries = [f'- {{name: {quote(name)}, classes: ["class of code 0", "class of code 1"]}}' for name in names]
    return "\n".join(["features:", *entries])


def write_rules(names: Sequence[str]) -> str:
    """Return a schema that says units and bounds of numbers."""
    return "\n".join(["features:", *(f'- {{name: {quote(name)}, unit: "?", minimum: 0}}' for name in names)])


def quote(name: str) -> str:
    """Return a name as YAML reads it back."""
    return name if _PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=not name.isprintable())
