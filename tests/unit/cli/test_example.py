"""What ``scorecat up`` shows to try."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
from pathlib import Path

import httpx
import pyarrow as pa
import pytest

from serve_app.cli.traffic.example import FILE, example_command
from serve_app.features.core.specs import PURCHASE_FEATURES, FeatureSpec
from serve_app.http.app import create_app
from serve_app.http.row.row_body import parse_row
from serve_app.models.adapters.package_dir import load_package
from serve_app.models.catboost.scorer import CatBoostScorer
from serve_app.models.core.manifest import Manifest
from serve_app.models.service.packaging import golden_inputs
from tests.testing_kit import MemoryAccessLog, make_scorer, make_traffic
from tests.testing_kit.models.kinds import TASKS, make_kind_package, train_original

pytestmark = pytest.mark.unit

NOTHING = pa.RecordBatch.from_pylist([])


def read_as_a_shell(command: str, folder: Path) -> list[str]:
    """Return the words that curl gets when the command is pasted into a shell."""
    script = 'curl() { for word in "$@"; do printf "%s\\0" "$word"; done; }\n' + command
    found = subprocess.run(["/bin/sh"], input=script.encode(), capture_output=True, check=True, cwd=folder)
    return found.stdout.decode().rstrip("\0").split("\0")


def body_of(words: list[str]) -> bytes:
    given = words[words.index("-d") + 1]
    return Path(given[1:]).read_bytes() if given.startswith("@") else given.encode()


def test_the_purchase_model_is_shown_with_a_row_that_is_scored(tmp_path):
    manifest = Manifest("purchase", "2026-01-01T00:00:00Z", "binary", PURCHASE_FEATURES)
    words = shlex.split(example_command("http://shop", manifest, lambda: NOTHING, tmp_path))
    assert "http://shop/predict_purchase" in words
    assert parse_row(words[-1].encode())["brand"] == json.loads(words[-1])["brand"]
    assert len(json.loads(words[-1])) == 9


@pytest.mark.parametrize("form", ["code", "native_code", "native_string"])
@pytest.mark.parametrize("task", TASKS)
def test_another_model_is_shown_with_a_golden_row_that_is_scored(task, form, tmp_path):
    make_kind_package(tmp_path / "package", train_original(task, form, n_trees=3))
    package = load_package(tmp_path / "package", CatBoostScorer.load)
    command = example_command("http://shop", package.manifest, lambda: golden_inputs(package), tmp_path)
    words = read_as_a_shell(command, tmp_path)
    assert words[1] == "http://shop/invocations"

    async def main() -> httpx.Response:
        scorer, _, _ = make_scorer(package)
        app = create_app(await make_traffic(scorer), MemoryAccessLog(), timeout_s=20.0)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            return await client.post(words[1], content=body_of(words), headers=dict([words[3].split(": ")]))

    answer = asyncio.run(main())
    assert answer.status_code == 200, answer.text
    assert "errors" not in answer.json()


ODD = [
    "it's",
    'quo"te',
    "$HOME",
    "`id`",
    "back\\slash",
    "a b",
    "!",
    "имя",
    "🙂",
    "%s",
    "@file",
    "\\n",
    "*",
    "tab\t",
    "x\ny",
]


@pytest.mark.parametrize("n", [1, 500])
def test_odd_names_and_values_and_long_rows_reach_curl_unchanged(n, tmp_path):
    folder = tmp_path / "it's a home"
    folder.mkdir()
    row = {f"{name}{k}": name for name in ODD for k in range(n)} | {"number": 2.0, "share": 0.1, "large": 1e300}
    features = tuple(FeatureSpec(name, "categorical" if name[-1:].isdigit() else "numeric", "") for name in row)
    manifest = Manifest("odd", "2026-01-01T00:00:00Z", "regression", features)
    golden = pa.RecordBatch.from_pylist([dict.fromkeys(row), row, row], schema=pa.schema(
        [(name, pa.float64() if isinstance(value, float) else pa.string()) for name, value in row.items()]
    ))  # fmt: skip
    words = read_as_a_shell(example_command("http://shop", manifest, lambda: golden, folder), tmp_path)
    assert len(words) == 6
    assert json.loads(body_of(words)) == {"dataframe_records": [row]}
    assert (folder / FILE).exists() == (n == 500)


def test_a_row_with_nothing_missing_is_preferred_and_whole_numbers_are_written_so(tmp_path):
    manifest = Manifest("m", "2026-01-01T00:00:00Z", "regression", (FeatureSpec("x", "numeric", ""),))
    golden = pa.RecordBatch.from_pydict({"x": [None, float("nan"), 3.0]})
    assert '[{"x": 3}]' in example_command("http://shop", manifest, lambda: golden, tmp_path)
    none = pa.RecordBatch.from_pydict({"x": pa.array([None], pa.float64())})
    assert '[{"x": null}]' in example_command("http://shop", manifest, lambda: none, tmp_path)
