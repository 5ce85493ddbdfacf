"""``scorecat predict``: one row through the running service."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from serve_app.adapters.document_file import load_bytes
from serve_app.cli.console import JsonOption, out, print_json
from serve_app.cli.status import read_url
from serve_app.client.clients import Client
from serve_app.core.errors import DeadlineExceededError, NotReadyError
from serve_app.settings import load_settings

TIMEOUT_S = 30.0


def predict(
    row: Annotated[str, typer.Argument(help="The row as JSON, @FILE, or - for standard input.")],
    detail: Annotated[bool, typer.Option(help="Show every feature and where it came from.")] = False,
    url: Annotated[str | None, typer.Option(help="Service; default the one that `scorecat up` started here.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Score one row."""
    body = _read_row(row)
    url = url or read_url(load_settings())
    try:
        with Client(url, TIMEOUT_S) as client:
            prediction = client.predict(body, detail=detail)
    except DeadlineExceededError:
        raise
    except NotReadyError as exc:
        raise NotReadyError(f"{exc.detail}: is it running? start it with `scorecat up`", exc.retry_after_s) from exc
    answer: dict[str, Any] = {
        "user_id": prediction.user_id,
        "purchase_probability": prediction.probability,
        "recommendation": prediction.recommendation,
        **(prediction.detail or {}),
    }
    if as_json:
        print_json(answer)
        return
    out.print(f"{answer['purchase_probability']:.6f}  {answer['recommendation']}")
    for name, feature in answer.get("features", {}).items():
        out.print(f"  {name:26} {feature['value']!s:24} {feature['source']}", markup=False)


def _read_row(given: str) -> bytes:
    if given == "-":
        return sys.stdin.buffer.read()
    if given.startswith("@"):
        return load_bytes(Path(given[1:]), "the row")
    return os.fsencode(given)
