"""The request that ``scorecat up`` shows."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from serve_app.models.core.manifest import Manifest

_ROW: Final = (
    '{"user_id":"541312140","session_id":"s-1","product_id":"1004856","category_code":"electronics.smartphone",'
    '"brand":"samsung","price":130.76,"hour":12,"day_of_week":1,"is_weekend":0}'
)
_JSON: Final = "-H 'Content-Type: application/json'"
MAX_SHOWN: Final = 4_000
"""Characters of a row that is shown; a longer one is put into a file. A terminal takes lines of 4,095 bytes."""
FILE: Final = "example.json"


def example_command(url: str, manifest: Manifest, load_golden: Callable[[], pa.RecordBatch], home: Path) -> str:
    """Return a command to try, fit to be pasted: a row of the purchase model, or a golden row of another one.

    Parameters
    ----------
    url : str
        Where the service is.
    manifest : Manifest
    load_golden : callable
        Returns the golden rows' inputs; not called for the purchase model.
    home : Path
        State folder, for a row that is too long to be shown.
    """
    if manifest.is_purchase:
        return f"curl -s {url}/predict_purchase {_JSON} \\\n  -d '{_ROW}'"
    body = json.dumps({"dataframe_records": [choose_row(load_golden())]}, ensure_ascii=False)
    if len(body) > MAX_SHOWN or not body.isprintable():
        path = home / FILE
        path.write_text(body, "utf-8")
        return f"curl -s {url}/invocations {_JSON} \\\n  -d {shlex.quote(f'@{path}')}"
    return f"curl -s {url}/invocations {_JSON} \\\n  -d {shlex.quote(body)}"


def choose_row(golden: pa.RecordBatch) -> dict[str, Any]:
    """Return the first row in which nothing is missing, whole numbers as such; the first of all if there is none."""
    rows = golden.to_pylist()
    row = next((row for row in rows if all(value is not None and value == value for value in row.values())), rows[0])  # noqa: PLR0124
    return {name: _shorten(value) for name, value in row.items()}


def _shorten(value: Any) -> Any:
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53
    return int(value) if is_whole else value
