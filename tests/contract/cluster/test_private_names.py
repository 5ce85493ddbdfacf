"""What this service uses of Ray and uvicorn without their promise: each name is there, and used in one place."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from serve_app.cluster.private_names import NAMES, check_names
from serve_app.errors import InvariantError

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[3]
ALLOWED = {"serve_app/cluster/ray_internals.py", "serve_app/http/row/fast_protocol.py"}
SOURCES = [path for room in ("serve_app", "batch") for path in sorted((ROOT / room).rglob("*.py"))]


def names_bound_in(text: str) -> set[str]:
    """Names that code makes: definitions, imports, parameters, and what it assigns, attributes too."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                found.add(name)
            case ast.alias(name=name, asname=other):
                found.add(other or name)
    return found


@pytest.mark.parametrize(("file", "name"), [(file, name) for file, names in NAMES.items() for name in names.split()])
def test_a_private_name_is_made_where_it_is_said_to_be(file, name):
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    assert name in names_bound_in(Path(module.__file__).read_text())


def test_what_is_installed_has_every_name():
    check_names()


@pytest.mark.parametrize("file", ["ray/serve/handle.py", "ray/serve/no_such_file.py", "uvicorn/config.py"])
def test_a_name_that_is_gone_is_named_with_the_version_and_what_to_do(file):
    library = file.partition("/")[0]
    said = rf"{library} [\d.]+ has no _gone in {file}, .*: install the version that `requirements.lock` names"
    with pytest.raises(InvariantError, match=said):
        check_names({file: "_gone"})


def test_a_library_that_is_not_there_is_told_from_one_without_the_name():
    with pytest.raises(InvariantError, match=r"^nosuchlib \(not installed\) has no x"):
        check_names({"nosuchlib/config.py": "x"})


def test_private_names_are_used_in_one_place_each():
    private = {name for names in NAMES.values() for name in names.split() if name.startswith("_") or name.isupper()}
    offenders = []
    for path in SOURCES:
        file, text = str(path.relative_to(ROOT)), path.read_text()
        if file in ALLOWED | {"serve_app/cluster/private_names.py"}:
            continue
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Attribute(value=ast.Name(id="self")):
                    continue
                case ast.Attribute(attr=name) | ast.keyword(arg=str(name)) if name in private:
                    offenders.append((file, name))
                case ast.ImportFrom(module=str(module)) if re.match(r"ray\..*\b_private\b|uvicorn\b", module):
                    offenders.append((file, module))
    assert offenders == []
