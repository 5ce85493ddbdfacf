"""Small files that a person wrote: plans, schemas, mappings in YAML or JSON, rows of a request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from serve_app.errors import InvalidDataError, NotFoundError

MOST_BYTES: Final = 64 << 20
"""More nobody writes by hand; YAML of that size alone takes gigabytes of memory."""


class _StrictLoader(yaml.SafeLoader):
    """Plain values only, and no name twice: YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = _find_twice(names)
        if twice is not None:
            raise yaml.MarkedYAMLError(problem=f"{twice} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def load_bytes(path: Path, what: str = "file") -> bytes:
    """Return a file's bytes.

    Parameters
    ----------
    path : Path
    what : str
        What it is to be, for messages: ``"the plan"``.

    Raises
    ------
    NotFoundError
        There is no such file, or the system does not let it be read.
    InvalidDataError
        It is no ordinary file (a folder, a device, a socket), or larger than anybody writes.
    """
    name = f"{what} {path}"
    try:
        if path.is_dir():
            raise InvalidDataError(f"{name} cannot be read: it is a folder; name a file in it")
        if path.exists() and not (path.is_file() or path.is_fifo()):  # some devices never end
            raise InvalidDataError(f"{name} cannot be read: it is a device or a socket; name a file")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as exc:
        raise NotFoundError(f"{name} cannot be read: {exc.strerror or 'the system says no more'}") from exc
    if len(data) > MOST_BYTES:
        raise InvalidDataError(f"{name} is larger than {MOST_BYTES >> 20} MiB: is it the right file?")
    return data


def load_document(path: Path, what: str = "the file") -> Any:
    """Return what a JSON or YAML file holds, as plain values; None for an empty one.

    Raises
    ------
    NotFoundError, InvalidDataError
        As `load_bytes`; or it is neither JSON nor YAML, or gives a name twice.
    """
    name = f"{what} {path}"
    try:
        text = load_bytes(path, what).decode("utf-8-sig")
        if text.lstrip()[:1] in ("{", "["):
            return _parse_braces(text)
        return yaml.load(text, _StrictLoader)  # noqa: S506 # a SafeLoader
    except UnicodeDecodeError as exc:
        raise InvalidDataError(f"{name} is not YAML or JSON in UTF-8 (byte {exc.start:,}): save it as UTF-8") from exc
    except RecursionError as exc:
        raise InvalidDataError(f"{name} is nested too deeply: write it flat") from exc
    except (yaml.YAMLError, ValueError, TypeError) as exc:
        raise InvalidDataError(f"{name} is not YAML or JSON: {_explain(exc)}") from exc


def _explain(error: Exception) -> str:
    """Return what the parser found, with its place as an editor counts; tabs and long numbers in words of ours."""
    said = " ".join(str(error).split())
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        said = f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    if isinstance(error, yaml.reader.ReaderError):
        said = f"character {error.position + 1:,} is a control character, as files that are no text hold"
    if r"'\t' that cannot start" in said:
        return f"{said}; YAML is indented by blanks, not by tabs"
    return "it holds a whole number of more than 4,300 digits" if "set_int_max_str_digits" in said else said


def _parse_braces(text: str) -> Any:
    """Return the value of JSON, which may be indented by tabs, or of YAML that begins with a brace."""
    try:
        return json.loads(text, object_pairs_hook=_make_object)
    except json.JSONDecodeError:
        return yaml.load(text, _StrictLoader)  # noqa: S506 # a SafeLoader


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = _find_twice([name for name, _ in pairs])
    if twice is not None:
        raise ValueError(f"{twice} is given twice")
    return dict(pairs)


def _find_twice(names: Sequence[Any]) -> Any:
    """Return the first name that is there before; names need not be hashable."""
    return next((name for k, name in enumerate(names) if name in names[:k]), None)
