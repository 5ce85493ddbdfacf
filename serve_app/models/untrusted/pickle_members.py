"""Which member of a pickled dict is what, where it is called otherwise than scorecat calls it.

Taken is only what can be nothing else: the one CatBoost model, the one dict of LabelEncoders. Lists of names are
handed on: what they fit is known only with the model. Only the standard library is imported here, see
`serve_app.models.untrusted.pickle_vm`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from serve_app.models.untrusted.pickle_vm import (
    ARRAY_MAKERS,
    BUFFER_ARRAYS,
    LABEL_ENCODERS,
    MODELS,
    MalformedError,
    Record,
)

MODEL: Final = "model"
ENCODERS: Final = "label_encoders"
METADATA: Final = "model_metadata"
METRICS: Final = "metrics"
NAMES: Final = ("feature_names", "categorical_features")
_METADATA_ALIASES: Final = ("metadata", "meta", "model_info")
_METRICS_ALIASES: Final = ("scores", "evaluation", "performance")
MAX_LIST: Final = 10_000
"""Longest list that may be one of names."""


class Members:
    """The members of a dict by scorecat's names for them.

    Parameters
    ----------
    value : dict
        As `load_inert` returns it.

    Attributes
    ----------
    notes : list of str
        What was taken for what.
    """

    def __init__(self, value: dict[Any, Any]) -> None:
        self._value = value
        self._taken: set[Any] = {MODEL, ENCODERS, METADATA, METRICS, *NAMES}
        self.notes: list[str] = []

    def find_model(self) -> Any:
        """Return the member ``model``, or the only CatBoost model there is."""
        return self._find(MODEL, lambda item: type(item) is Record and item.name.pair in MODELS, "CatBoost models")

    def find_encoders(self) -> Any:
        """Return the member ``label_encoders``, or the only dict of LabelEncoders there is."""
        return self._find(ENCODERS, _are_encoders, "dicts of LabelEncoders")

    def find_table(self, name: str) -> Any:
        """Return the member ``model_metadata`` or ``metrics``, or a dict under another usual name."""
        aliases = _METADATA_ALIASES if name == METADATA else _METRICS_ALIASES
        return self._find(name, lambda item: type(item) is dict, "", aliases)

    def list_names(self, convert: Callable[[Any], Any]) -> dict[str, list[str]]:
        """Return every other member that is a list of names, and those of the metadata, by its key."""
        found: dict[str, list[str]] = {}
        inner = self._value.get(METADATA)
        nested: Mapping[Any, Any] = inner if type(inner) is dict else {}
        members = [(str(key), item) for key, item in self._value.items() if key not in self._taken]
        for key, item in [*members, *((f"{METADATA}.{key}", item) for key, item in nested.items())]:
            names = _read_list(item, convert)
            if names and len(key) <= 200:  # noqa: PLR2004  (a key that is shown)
                found[key] = names
        return found

    @property
    def unused(self) -> list[str]:
        """Keys of what is left."""
        return [str(key)[:200] for key in self._value if key not in self._taken]

    def _find(self, name: str, fits: Callable[[Any], bool], what: str, aliases: tuple[str, ...] | None = None) -> Any:
        if self._value.get(name) is not None:
            return self._value[name]
        keys = [key for key, item in self._value.items() if (aliases is None or key in aliases) and fits(item)]
        if len(keys) > 1 and what:
            shown = ", ".join(sorted(str(key)[:40] for key in keys)[:10])
            raise MalformedError(f"the dict has several {what}: {shown}. Call the right one {name!r}")
        if len(keys) != 1:
            return None
        self._taken.add(keys[0])
        self.notes.append(f"{str(keys[0])[:80]!r} of the dict was taken for {name!r}")
        return self._value[keys[0]]


def _are_encoders(item: Any) -> bool:
    return (
        type(item) is dict
        and bool(item)
        and all(type(key) is str and type(e) is Record and e.name.pair in LABEL_ENCODERS for key, e in item.items())
    )


def _read_list(item: Any, convert: Callable[[Any], Any]) -> list[str]:
    """Return the names of a list, tuple or array; nothing when it is none of names."""
    if type(item) is Record and item.name.pair in (ARRAY_MAKERS | BUFFER_ARRAYS):
        try:
            item = convert(item)
        except MalformedError:
            return []
    is_short = type(item) in (list, tuple) and 0 < len(item) <= MAX_LIST
    return list(item) if is_short and all(type(name) is str for name in item) else []
