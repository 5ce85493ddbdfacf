"""Which column of the input is which feature, and which columns travel to the output."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from serve_app.errors import InvalidDataError
from serve_app.features.core.column_types import check_type
from serve_app.features.core.near_names import pair_near
from serve_app.features.core.row_errors import RESERVED, UNREADABLE, RowError, add_unreadable, list_unreadable
from serve_app.features.core.row_keys import KEY_NAMES, KEY_SPECS, PUBLISHED_COLUMNS, REQUIRED_KEYS, convert_keys
from serve_app.features.core.specs import HISTORY_NAMES, FeatureSpec
from serve_app.runtime.near_names import LOOSE, hint_similar

CONTENT: Final = f"{RESERVED}content"
"""Column of a batch beside `UNREADABLE`: the row as it was, where a value of it could not be read."""
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
        `serve_app.features.core.row_keys`.
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

    def select_features(self, batch: pa.RecordBatch, known: Mapping[int, RowError] | None = None) -> pa.RecordBatch:
        """Return the feature columns under the features' names, and the keys of the history under theirs.

        `known` are rows that are not to be scored, and why.
        """
        columns = {feature: batch.column(column) for feature, column in self.features}
        errors = {**list_unreadable(batch), **(known or {})}
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
            raise InvalidDataError(
                f"the mapping names {name!r}, which is no feature of the model{hint_similar(name, names, LOOSE)}"
            )
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
        check_type(spec, schema.field(column).type, column, where)
    read = {column for _, column in (*pairs, *keys)}
    _refuse_near(where, schema.names, features, mapping, read, keep or ())
    kept = _choose_kept(where, schema.names, {column for _, column in pairs}, keep, added)
    return Columns(tuple((spec.name, column) for spec, column in pairs), kept, keys)


def _explain_missing(
    missing: Sequence[tuple[str, str]], names: Sequence[str], features: Sequence[FeatureSpec], mapping: ColumnMapping
) -> str:
    """Return which columns are missing, and what there is to do about it."""
    free = _list_free(names, features, mapping)
    named = "; ".join(
        f"{column}{f' (for {name})' if name != column else ''}{hint_similar(column, free)}" for name, column in missing
    )
    text = (
        f"has no column {named}. Name the right columns in a mapping (the file of --mapping, over HTTP the member "
        "`mapping`), or list the features under `defaults` there"
    )
    is_history = any(name in HISTORY_NAMES for name, _ in missing)
    if is_history and set(PUBLISHED_COLUMNS) <= set(names):
        return (
            "is an event log: it has events, and not the features of the model. `scorecat backtest EVENTS OUTPUT` "
            "computes them as of every view and cart, and scores those"
        )
    if is_history:
        text += (
            "; `history: true` there looks up the history of shoppers that the service knows, and an event log is "
            "scored with its history by `scorecat backtest`"
        )
    return text


def _refuse_near(
    where: str,
    names: Sequence[str],
    features: Sequence[FeatureSpec],
    mapping: ColumnMapping,
    read: Collection[str],
    keep: Sequence[str],
) -> None:
    """Refuse columns that no one reads and that are probably an input which would be looked up without them."""
    wanted = [*(spec.name for spec in features), *(KEY_NAMES if mapping.has_history else ())]
    columns = {mapping.columns.get(name, name): name for name in wanted if name not in mapping.defaults}
    absent = [column for column in columns if column not in read]
    near = pair_near((name for name in _list_free(names, features, mapping) if name not in keep), absent)
    if near:
        named = "; ".join(f"{name} (did you mean {meant}?)" for name, meant in near.items())
        raise InvalidDataError(
            f"{where} has no column {', '.join(near.values())}, and columns that are nearly called so: {named}. Name "
            "the right columns in a mapping (the file of --mapping, over HTTP the member `mapping`), list the features "
            "under `defaults` there, or name what is no feature in --keep (over HTTP `keep`)"
        )


def _list_free(names: Sequence[str], features: Sequence[FeatureSpec], mapping: ColumnMapping) -> list[str]:
    """Return the columns that may be misspelt: the column of one feature is no spelling of another."""
    taken = {*(spec.name for spec in features), *mapping.columns.values()}
    return [name for name in names if name not in taken]


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
            raise InvalidDataError(f"{where} has no column {absent[0]} to keep{hint_similar(absent[0], names, LOOSE)}")
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
        free = [name for name in schema.names if name not in dict(keys).values()]
        named = ", ".join(name + hint_similar(name, free) for name in missing)
        raise InvalidDataError(
            f"{where} has no column for {named}, which history is looked up by: name the columns in the mapping"
        )
    for spec in KEY_SPECS:
        if spec.name in dict(found):
            column = dict(found)[spec.name]
            check_type(spec, schema.field(column).type, column, where)
    return found
