"""Which column of the input is which feature, and which columns travel to the output."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from serve_app.core.errors import InvalidDataError
from serve_app.core.features import HISTORY_NAMES, FeatureSpec
from serve_app.core.history_keys import KEY_NAMES, REQUIRED_KEYS, TIME_KEY, convert_keys
from serve_app.core.row_errors import RESERVED, UNREADABLE, add_unreadable, list_unreadable

CONTENT: Final = f"{RESERVED}content"
"""Column of a batch beside `UNREADABLE`: the row as it was, where a value of it could not be read."""
CLOSE: Final = 0.8
"""How alike a column's name must be to be taken for a feature's, misspelled: names of features are much alike."""
_KEYS: Final = ("columns", "defaults", "history")


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """What a mapping file says.

    Attributes
    ----------
    columns : mapping of str to str
        Input column by feature, where the names differ.
    defaults : tuple of str
        Features that no column carries: every row takes their declared default.
    has_history : bool
        History features that no column carries are looked up in the state, by the columns of
        `serve_app.core.history_keys`.
    """

    columns: Mapping[str, str]
    defaults: tuple[str, ...] = ()
    has_history: bool = False


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that are read.

    Attributes
    ----------
    features : tuple of (str, str)
        Feature and input column, of the features that a column carries.
    kept : tuple of str
        Input columns that travel to the output, in the input's order.
    keys : tuple of (str, str)
        Key and input column, by which history is looked up; empty when it is not.
    """

    features: tuple[tuple[str, str], ...]
    kept: tuple[str, ...]
    keys: tuple[tuple[str, str], ...] = ()

    @property
    def read(self) -> list[str]:
        """Every column that is read, each once."""
        return list(dict.fromkeys([*self.kept, *(column for _, column in (*self.features, *self.keys))]))

    def select_features(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the feature columns under the features' names, and the keys of the history under theirs."""
        columns = {feature: batch.column(column) for feature, column in self.features}
        errors = list_unreadable(batch)
        columns |= convert_keys({key: batch.column(column) for key, column in self.keys}, errors)
        found = pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
        return add_unreadable(found, errors.values())

    def select_kept(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the columns that travel to the output."""
        return batch.select(list(self.kept))


def parse_mapping(value: Any, features: Sequence[FeatureSpec]) -> ColumnMapping:
    """Check what a mapping file holds.

    Raises
    ------
    InvalidDataError
        It is no mapping, has an unknown member, or names no feature of the model.
    """
    if value is None:
        return ColumnMapping({})
    if not isinstance(value, dict) or set(value) - set(_KEYS):
        raise InvalidDataError(f"a mapping has the members {', '.join(_KEYS)}, see docs/batch.md")
    has_history = value.get("history", False)
    if not isinstance(has_history, bool):
        raise InvalidDataError("`history` of a mapping is true or false")
    columns, defaults = value.get("columns") or {}, value.get("defaults") or []
    if not isinstance(columns, dict) or not all(isinstance(c, str) for c in columns.values()):
        raise InvalidDataError("`columns` of a mapping is a table of feature: column")
    if not isinstance(defaults, list):
        raise InvalidDataError("`defaults` of a mapping is a list of features")
    names = [*(spec.name for spec in features), *(KEY_NAMES if has_history else ())]
    for name in [*columns, *defaults]:
        if name not in names:
            raise InvalidDataError(f"the mapping names {name!r}, which is no feature of the model{_hint(name, names)}")
    twice = set(columns) & set(defaults)
    if twice:
        raise InvalidDataError(f"the mapping gives {', '.join(sorted(twice))} both a column and the default")
    return ColumnMapping(columns, tuple(defaults), has_history)


def choose_columns(
    where: str,
    schema: pa.Schema,
    features: Sequence[FeatureSpec],
    mapping: ColumnMapping,
    keep: Sequence[str] | None,
    added: Sequence[str],
) -> Columns:
    """Choose the columns to read from a file of this schema.

    Parameters
    ----------
    where : str
        The file, for messages.
    schema : Schema
    features : sequence of FeatureSpec
    mapping : ColumnMapping
    keep : sequence of str or None
        Columns to carry to the output; None for all that are no feature, ``["*"]`` for all.
    added : sequence of str
        Columns of the output that scoring adds: no kept column may have such a name.

    Raises
    ------
    InvalidDataError
        A column is missing, twice there, of a type that cannot mean its feature, or named like a result.
    """
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise InvalidDataError(f"{where} has the column {twice[0]} more than once")
    pairs = [(s, mapping.columns.get(s.name, s.name)) for s in features if s.name not in mapping.defaults]
    if not pairs:
        raise InvalidDataError("the mapping gives every feature its default, so that all rows would score alike")
    keys: tuple[tuple[str, str], ...] = ()
    if mapping.has_history:
        pairs = [(s, column) for s, column in pairs if column in schema.names or s.name not in HISTORY_NAMES]
        keys = _choose_keys(where, schema, mapping)
    missing = [(s.name, column) for s, column in pairs if column not in schema.names]
    if missing:
        raise InvalidDataError(f"{where} {_explain_missing(missing, schema.names, features, mapping)}")
    for spec, column in pairs:
        _check_type(where, spec, column, schema.field(column).type)
    kept = _choose_kept(where, schema.names, {column for _, column in pairs}, keep, added)
    return Columns(tuple((spec.name, column) for spec, column in pairs), kept, keys)


def _explain_missing(
    missing: Sequence[tuple[str, str]], names: Sequence[str], features: Sequence[FeatureSpec], mapping: ColumnMapping
) -> str:
    """Return which columns are missing, and what there is to do about it."""
    taken = {*(spec.name for spec in features), *mapping.columns.values()}
    free = [name for name in names if name not in taken]  # the column of one feature is no spelling of another
    named = "; ".join(
        f"{column}{f' (for {name})' if name != column else ''}{_hint(column, free, CLOSE)}" for name, column in missing
    )
    text = (
        f"has no column {named}. Name the right columns in a mapping (the file of --mapping, over HTTP the member "
        "`mapping`), or list the features under `defaults` there"
    )
    if any(name in HISTORY_NAMES for name, _ in missing):
        text += (
            "; `history: true` there looks up the history of shoppers that the service knows, and an event log is "
            "scored with its history by `python -m batch.backfill`"
        )
    return text


def _choose_kept(
    where: str, names: Sequence[str], used: Collection[str], keep: Sequence[str] | None, added: Sequence[str]
) -> tuple[str, ...]:
    if keep is None:
        kept = [name for name in names if name not in used]
    elif list(keep) == ["*"]:
        kept = list(names)
    else:
        absent = [name for name in keep if name not in names]
        if absent:
            raise InvalidDataError(f"{where} has no column {absent[0]} to keep{_hint(absent[0], names)}")
        kept = [name for name in names if name in keep]
    taken = [name for name in kept if name in {*added, UNREADABLE, CONTENT}]
    if taken:
        raise InvalidDataError(
            f"{where} has a column {taken[0]}, which is also the name of a result: leave it out of --keep (over HTTP "
            "`keep`)"
        )
    return tuple(kept)


def _choose_keys(where: str, schema: pa.Schema, mapping: ColumnMapping) -> tuple[tuple[str, str], ...]:
    keys = [(name, mapping.columns.get(name, name)) for name in KEY_NAMES]
    found = tuple((name, column) for name, column in keys if column in schema.names)
    missing = [name for name in REQUIRED_KEYS if name not in dict(found)]
    if missing:
        raise InvalidDataError(
            f"{where} has no column for {', '.join(missing)}, which history is looked up by: name the columns in the "
            "mapping"
        )
    for name, column in found:
        kind = schema.field(column).type
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        is_text = pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_null(plain)
        fits = pa.types.is_timestamp(kind) if name == TIME_KEY else pa.types.is_integer(plain)
        if not (is_text or fits):
            wanted = "times" if name == TIME_KEY else "strings or whole numbers"
            raise InvalidDataError(f"{where}: column {column} must hold {wanted} for {name}, not {kind}")
    return found


def _check_type(where: str, spec: FeatureSpec, column: str, kind: pa.DataType) -> None:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_whole = pa.types.is_integer(kind) or pa.types.is_null(kind)
    if spec.kind == "categorical":
        fits = is_whole or pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    else:
        fits = is_whole or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind)
    if not fits:
        needed = "strings" if spec.kind == "categorical" else "numbers"
        raise InvalidDataError(f"{where}: column {column} must hold {needed} for {spec.name}, not {kind}")


def _hint(name: str, known: Sequence[str], cutoff: float = 0.6) -> str:
    near = difflib.get_close_matches(name, known, 1, cutoff)
    return f" (did you mean {near[0]}?)" if near else ""
