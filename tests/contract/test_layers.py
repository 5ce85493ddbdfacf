"""Imports go down only, and what is light stays light."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import serve_app

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[2]
CORE = [
    m.name for m in pkgutil.walk_packages(serve_app.__path__, "serve_app.") if ".core." in m.name or ".stats." in m.name
]
HEAVY = {"ray", "fastapi", "starlette", "pydantic", "catboost", "pandas", "httpx", "sklearn", "matplotlib", "typer"}


def imported_by(*modules: str) -> set[str]:
    """Names of the top-level packages in a fresh interpreter after it imported these modules."""
    script = f"import sys, json, importlib\nfor m in {modules!r}: importlib.import_module(m)\n"
    script += "print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_imports_follow_the_layers():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_core_needs_nothing_but_numbers_and_arrow():
    assert imported_by(*CORE) & HEAVY == set()


def test_the_command_line_starts_without_ray_and_the_models_libraries():
    assert imported_by("serve_app.cli") & {
        "ray", "catboost", "pandas", "sklearn", "fastapi", "boto3", "google",
    } == set()  # fmt: skip


def test_http_and_service_know_nothing_of_ray():
    used = imported_by(
        "serve_app.http.app", "serve_app.scoring.service.version_scorer", "serve_app.models.service.packaging"
    )
    assert used & {"ray", "catboost", "pandas"} == set()


def test_the_package_adapters_need_no_ray():
    assert "ray" not in imported_by(
        "serve_app.models.catboost.scorer",
        "serve_app.models.adapters.registry_folder",
        "serve_app.scoring.adapters.split_file",
    )
