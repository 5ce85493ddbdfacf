"""``scorecat predict``: one row through the running service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import httpx
import orjson
import typer

from serve_app.cli.console import JsonOption, out, print_json
from serve_app.cli.service import read_url
from serve_app.core.errors import BadRequestError, InvariantError, NotFoundError, NotReadyError
from serve_app.settings import load_settings


def predict(
    row: Annotated[str, typer.Argument(help="The row as JSON, @FILE, or - for standard input.")],
    detail: Annotated[bool, typer.Option(help="Show every feature and where it came from.")] = False,
    url: Annotated[str | None, typer.Option(help="Service; default http://127.0.0.1:8000 or as set.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Score one row."""
    answer = _post(url or read_url(load_settings()), _read_row(row), detail=detail)
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
        try:
            return Path(given[1:]).read_bytes()
        except OSError as exc:
            raise NotFoundError(f"{given[1:]} cannot be read: {exc.strerror}") from exc
    return given.encode()


def _post(url: str, body: bytes, *, detail: bool) -> dict[str, Any]:
    try:
        answer = httpx.post(
            f"{url}/predict_purchase",
            params={"detail": "true"} if detail else {},
            content=body,
            headers={"Content-Type": "application/json"},
            timeout=30.0,
        )
        value: dict[str, Any] = orjson.loads(answer.content)
    except httpx.TransportError as exc:
        raise NotReadyError(f"no service answers at {url} ({exc}): start it with `scorecat up`") from exc
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as exc:
        raise BadRequestError(f"{url} is no URL: {exc}") from exc
    except orjson.JSONDecodeError as exc:
        raise InvariantError(f"{url} did not answer with JSON: is it scorecat?") from exc
    if answer.is_success:
        return value
    errors = "; ".join(f"{e['pointer']}: {e['detail']}" for e in value.get("errors", []))
    message = f"{answer.status_code} {value.get('detail', '')} {errors}".strip()
    raise (BadRequestError if answer.is_client_error else InvariantError)(message)
