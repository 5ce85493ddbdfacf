"""What an inertly read pickle holds: the model's bytes, the encoders' classes, names and notes.

Only the standard library is imported here, see `serve_app.models.untrusted.pickle_vm`.
"""

from __future__ import annotations

import datetime as dt
import math
import struct
from typing import Any, Final

from serve_app.models.untrusted.pickle_members import METADATA, METRICS, Members
from serve_app.models.untrusted.pickle_vm import (
    ARRAY_MAKERS,
    BUFFER_ARRAYS,
    LABEL_ENCODERS,
    MODELS,
    SCALARS,
    TIMES,
    WRAPPERS,
    MalformedError,
    Record,
    RefusedError,
    dtype_code,
)

MAX_NODES: Final = 1_000_000
"""Values that the content may unfold to: shared parts of a pickle can unfold without end."""
MAX_TEXT: Final = 32 << 20
"""Characters of all classes of all encoders: they are a file of the package."""
MAX_NOTE_NODES: Final = 100_000
MAX_NOTE_TEXT: Final = 1 << 20
"""Values and characters of the rest, names, metadata and metrics: they are kept in the manifest."""
MAX_DEPTH: Final = 50
_FORMATS: Final = {"b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
                   "f2": "e", "f4": "f", "f8": "d"}  # fmt: skip


def read_content(value: Any) -> tuple[bytes, dict[str, Any]]:
    """Interpret what `load_inert` returned.

    Returns
    -------
    bytes
        The CatBoost model as its author's library serialized it.
    dict
        The rest, fit for JSON: ``model_class``, ``label_encoders`` (classes by column),
        ``feature_names``, ``categorical_features``, ``metadata``, ``metrics``, ``extra_keys``,
        ``sklearn_version``, ``name_lists`` (other lists of names by key) and ``notes`` (what was taken for what).

    Raises
    ------
    MalformedError
        There is no CatBoost model in it, or a part is not of the form it should have.
    RefusedError
        An array of a kind that nobody needs here.
    """
    try:
        return _interpret(value)
    except (MalformedError, RefusedError, MemoryError):
        raise
    except Exception as exc:
        raise MalformedError(f"a part is damaged: {type(exc).__name__}: {str(exc)[:200]}") from exc


def _interpret(value: Any) -> tuple[bytes, dict[str, Any]]:
    if _is(value, MODELS):
        value = {"model": value}
    if type(value) is not dict:
        raise MalformedError(f"the file holds {_name(value)}, neither a dict with a model nor a CatBoost model")
    members = Members(value)
    model = members.find_model()
    if type(model) is not Record or not _is(model, MODELS):
        keys = ", ".join(sorted(str(key)[:40] for key in value)[:20])
        raise MalformedError(f"'model' is {_name(model)}, not a CatBoost model; the dict has: {keys or 'nothing'}")
    plain = _Plain(MAX_NOTE_NODES, MAX_NOTE_TEXT)
    encoders, versions = _read_encoders(members.find_encoders())
    document = {
        "model_class": str(model.name.name),
        "label_encoders": encoders,
        "feature_names": _read_names(value.get("feature_names"), "feature_names", plain),
        "categorical_features": _read_names(value.get("categorical_features"), "categorical_features", plain),
        "metadata": plain.convert(members.find_table(METADATA)),
        "metrics": plain.convert(members.find_table(METRICS)),
        "extra_keys": sorted(plain.convert(members.unused)),
        "sklearn_version": versions,
        "name_lists": members.list_names(_Plain(MAX_NOTE_NODES, MAX_NOTE_TEXT).convert),
    }
    return _read_model(model), {**document, "notes": plain.convert(members.notes)}


def _read_model(record: Record) -> bytes:
    if type(record.state) is not dict or type(record.state.get("__model")) is not bytes:
        raise MalformedError("the CatBoost model was never trained, or was written in a form that is not known")
    found: bytes = record.state["__model"]
    return found


def _read_encoders(value: Any) -> tuple[dict[str, list[Any]], str]:
    if value is None:
        return {}, ""
    if type(value) is not dict:
        raise MalformedError(f"label_encoders is {_name(value)}, not a dict of scikit-learn LabelEncoders")
    plain = _Plain(MAX_NODES, MAX_TEXT, keeps_nan=True)
    encoders, version = {}, ""
    for column, encoder in value.items():
        if not _is(encoder, LABEL_ENCODERS) or type(encoder.state) is not dict:
            raise MalformedError(f"label_encoders[{str(column)[:80]!r}] is {_name(encoder)}, not a LabelEncoder")
        if "classes_" not in encoder.state:
            raise MalformedError(f"the LabelEncoder of {str(column)[:80]} was never fitted")
        classes = plain.convert(encoder.state["classes_"])
        if type(classes) is not list or not all(type(c) in (str, int, float, bool) for c in classes):
            raise MalformedError(
                f"the LabelEncoder of {str(column)[:80]} has classes that are neither text nor numbers"
            )
        encoders[plain.convert(str(column))] = classes
        version = str(encoder.state.get("_sklearn_version", version))[:40]
    return encoders, version


def _read_names(value: Any, key: str, plain: _Plain) -> list[str | int] | None:
    if value is None:
        return None
    names = plain.convert(value)
    if type(names) is not list or not all(type(name) in (str, int) for name in names):
        raise MalformedError(f"{key} is {_name(value)}, not a list of names")
    return names


class _Plain:
    """Turns values into what JSON can hold, up to a number of values, of characters, and a depth."""

    def __init__(self, max_nodes: int, max_text: int, *, keeps_nan: bool = False) -> None:
        self._max_nodes, self._n_left = max_nodes, max_nodes
        self._max_text, self._text_left = max_text, max_text
        self._keeps_nan = keeps_nan

    def convert(self, value: Any, depth: int = 0) -> Any:  # noqa: PLR0911  (one line for each kind)
        self._n_left -= 1
        if self._n_left < 0 or depth > MAX_DEPTH:
            raise MalformedError(
                f"the content is nested too deeply or unfolds to more than {self._max_nodes:,} values: leave out of "
                "the dict what the model does not need"
            )
        if value is None or type(value) is bool:
            return value
        if type(value) is int:
            self._spend_text(value.bit_length() // 3)
            return value
        if type(value) is str:
            return self._check_text(value)
        if type(value) is float:
            return value if math.isfinite(value) or (self._keeps_nan and math.isnan(value)) else str(value)
        if type(value) in (list, tuple):
            return [self.convert(item, depth + 1) for item in value]
        if type(value) in (set, frozenset):
            return sorted((self.convert(item, depth + 1) for item in value), key=str)
        if type(value) is dict:
            return {self._check_text(str(key)[:200]): self.convert(item, depth + 1) for key, item in value.items()}
        if type(value) in (bytes, bytearray):
            return f"({len(value)} bytes)"
        return self._convert_record(value, depth)

    def _spend_text(self, n: int) -> None:
        self._text_left -= n
        if self._text_left < 0:
            raise MalformedError(
                f"the content unfolds to more than {self._max_text:,} characters: leave out of the dict what the "
                "model does not need"
            )

    def _check_text(self, text: str) -> str:
        self._spend_text(len(text))
        try:
            text.encode()
        except UnicodeEncodeError as exc:
            shown = ascii(text[max(0, exc.start - 20) : exc.start + 20])
            raise MalformedError(f"{shown} holds half a character (a lone surrogate), which is no text") from None
        return text

    def _convert_record(self, value: Any, depth: int) -> Any:  # noqa: PLR0911  (one line for each kind)
        if _is(value, ARRAY_MAKERS):
            return self._convert_array(value, depth)
        if _is(value, WRAPPERS):
            if type(value.payload) is not bytes:  # a nested pickle of the array
                return self.convert(value.payload, depth + 1)
            return self._spend(_unpack(value.payload, dtype_code(value.state["dtype"])))
        if _is(value, BUFFER_ARRAYS) and len(value.args) >= 2 and type(value.args[0]) in (bytes, bytearray):  # noqa: PLR2004
            return self._spend(_unpack(bytes(value.args[0]), dtype_code(value.args[1])))
        if _is(value, SCALARS) and len(value.args) == 2:  # noqa: PLR2004
            dtype, data = value.args
            if type(data) is bytes:
                return self._spend(_unpack(data, dtype_code(dtype)))[0]
            return self.convert(data, depth + 1)
        if _is(value, TIMES):
            return _read_time(value)
        return f"({_name(value)})"

    def _convert_array(self, value: Record, depth: int) -> Any:
        state = value.state
        if type(state) is not tuple or len(state) != 5:  # noqa: PLR2004
            raise MalformedError("an array without its content")
        data = state[4]
        if type(data) is list:
            return self.convert(data, depth + 1)
        if type(data) is not bytes:
            raise MalformedError("an array without its content")
        return self._spend(_unpack(data, dtype_code(state[2])))

    def _spend(self, values: list[Any]) -> list[Any]:
        self._n_left -= len(values)
        return [self.convert(value) for value in values]


def _unpack(data: bytes, code: str) -> list[Any]:
    """Return an array's values, flat, in the order they lie in."""
    order, kind, size = code[0], code[1], int(code[2:] or 0)
    if not size or len(data) % size:
        raise MalformedError(f"{len(data)} bytes are no array of {code}")
    if kind in "SU":
        encoding = "latin-1" if kind == "S" else ("utf-32-be" if order == ">" else "utf-32-le")
        parts = (data[at : at + size] for at in range(0, len(data), size))
        return [part.decode(encoding).rstrip("\0") for part in parts]
    letter = _FORMATS.get(f"{kind}{size}")
    if letter is None:
        raise MalformedError(f"an array of {code} cannot be read")
    return list(struct.unpack(f"{'>' if order == '>' else '<'}{len(data) // size}{letter}", data))


def _read_time(value: Record) -> str:
    """Return a date or time as ISO 8601, without its zone."""
    parts = value.args[0] if value.args else None
    if type(parts) is str:
        parts = parts.encode("latin-1", "replace")
    try:
        if value.name.name == "date" and type(parts) is bytes and len(parts) == 4:  # noqa: PLR2004
            return dt.date(parts[0] * 256 + parts[1], parts[2], parts[3]).isoformat()
        if value.name.name == "datetime" and type(parts) is bytes and len(parts) == 10:  # noqa: PLR2004
            month, day, hour, minute, second = parts[2:7]
            micro = parts[7] << 16 | parts[8] << 8 | parts[9]
            moment = dt.datetime(parts[0] * 256 + parts[1], month, day, hour, minute, second, micro)  # noqa: DTZ001
            return moment.isoformat()
    except ValueError:
        pass
    return f"({value.name})"


def _is(value: Any, names: frozenset[tuple[str, str]]) -> bool:
    return type(value) is Record and value.name.pair in names


def _name(value: Any) -> str:
    if type(value) is Record:
        return f"a {value.name}"
    return "missing" if value is None else f"a {type(value).__name__}"
